//! A correlation over all images, groups and channels, shared out to threads.

use std::{cell::RefCell, ops::Range};

use rayon::prelude::*;

use crate::zeros::zeros;

use super::{
    convolution::area,
    correlate::{self, Correlation, Memory, Panels, Target},
    window::Window,
};

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// Results whose sums are kept together, at most: as many as stay in the second cache for a block.
const RESULTS: usize = 512;

/// Some positions of the results: which maps they read, and with which weights.
#[derive(Debug)]
pub(crate) struct Phase {
    pub(crate) window: Window,
    /// For each group.
    pub(crate) panels: Vec<Panels>,
    pub(crate) target: Target,
}

/// All that a correlation computes.
#[derive(Debug)]
pub(crate) struct Sweep<'a> {
    /// Images.
    pub(crate) batch: usize,
    /// Channels that a group reads, and results that it has.
    pub(crate) channels: [usize; 2],
    /// `[batch, groups · channels, positions]`.
    pub(crate) source: &'a [f32],
    /// What no phase covers is 0.
    pub(crate) phases: &'a [Phase],
    /// One number per result.
    pub(crate) bias: Option<&'a [f32]>,
    /// What results are at least.
    pub(crate) floor: f32,
    /// Positions of a map of results.
    pub(crate) positions: usize,
}

/// Some images, a group, and some of its panels.
struct Task<'b> {
    /// The first image.
    image: usize,
    group: usize,
    panels: Range<usize>,
    /// The first result, among those of all groups.
    result: usize,
    /// For each image the maps of the results.
    maps: Vec<&'b mut [f32]>,
}

impl Sweep<'_> {
    /// The results, `[batch, groups · results, positions]`. Each is one sum in one order, whoever
    /// computes it.
    pub(crate) fn run(&self) -> Vec<f32> {
        let groups = self.phases.first().map_or(1, |phase| phase.panels.len());
        let mut results = zeros(self.batch * groups * self.channels[1] * self.positions);
        if !self.phases.is_empty() {
            let tasks = self.tasks(groups, &mut results);
            tasks.into_par_iter().for_each(|task| self.compute(task));
        }
        results
    }

    /// Images by themselves, or several where maps are small; panels by themselves where there are
    /// too few images for all threads.
    fn tasks<'b>(&self, groups: usize, results: &'b mut [f32]) -> Vec<Task<'b>> {
        let threads = rayon::current_num_threads();
        let parts = (2 * threads).div_ceil(self.batch * groups);
        // All phases have the same panels, because these depend on the number of results alone.
        let counts: Vec<usize> = self.phases[0].panels[0].results().collect();
        let parts = parts.max(self.channels[1].div_ceil(RESULTS));
        let per_part = counts.len().div_ceil(parts);
        let windows = self.phases.iter().map(|phase| &phase.window);
        let together = windows.map(correlate::together).max().unwrap_or(1);
        let together = together.min(self.batch.div_ceil(threads));
        let mut tasks: Vec<Task<'b>> = Vec::new();
        let mut rest = results;
        for image in 0..self.batch {
            // The tasks of these images begin with their first one.
            let begun = image / together * groups * counts.len().div_ceil(per_part);
            let mut at = begun;
            for group in 0..groups {
                let mut result = group * self.channels[1];
                for first in (0..counts.len()).step_by(per_part) {
                    let panels = first..(first + per_part).min(counts.len());
                    let count: usize = counts[panels.clone()].iter().sum();
                    let (maps, behind) = rest.split_at_mut(count * self.positions);
                    rest = behind;
                    if at == tasks.len() {
                        tasks.push(Task {
                            image,
                            group,
                            panels,
                            result,
                            maps: Vec::new(),
                        });
                    }
                    tasks[at].maps.push(maps);
                    (at, result) = (at + 1, result + count);
                }
            }
        }
        tasks
    }

    fn compute(&self, mut task: Task<'_>) {
        let [from, _] = self.channels;
        for phase in self.phases {
            let groups = phase.panels.len();
            let count = from * area(phase.window.map);
            let maps = |index: usize| {
                let begin = ((task.image + index) * groups + task.group) * count;
                &self.source[begin..begin + count]
            };
            let maps: Vec<&[f32]> = (0..task.maps.len()).map(maps).collect();
            MEMORY.with_borrow_mut(|memory| {
                let correlation = Correlation {
                    window: &phase.window,
                    panels: &phase.panels[task.group],
                    range: task.panels.clone(),
                    maps: &maps,
                    target: phase.target,
                    positions: self.positions,
                    bias: self.bias.map(|bias| &bias[task.result..]),
                    floor: self.floor,
                    results: &mut task.maps,
                    memory,
                };
                correlation.run();
            });
        }
    }
}
