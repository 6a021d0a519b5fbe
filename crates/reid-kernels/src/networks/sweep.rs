//! A correlation over all images, groups and channels, shared out to threads.

use std::{cell::RefCell, ops::Range};

use rayon::prelude::*;

use super::{
    convolution::area,
    correlate::{self, Correlation, Panels, Target},
    window::Window,
};

thread_local! {
    /// The laid-out maps of a task, kept because fresh memory is slow to get.
    static COPY: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Numbers in a line of cache.
const LINE: usize = 16;

/// How far the maps of channels that take so many numbers begin from each other: whole lines of cache, and
/// an odd number of them, so that the same place of many channels does not compete for the same lines.
fn apart(numbers: usize) -> usize {
    (numbers.div_ceil(LINE) | 1) * LINE
}

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
        let mut results = vec![0.0; self.batch * groups * self.channels[1] * self.positions];
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
        let images = task.maps.len();
        for phase in self.phases {
            let (window, map) = (&phase.window, area(phase.window.map));
            let stretch = images * window.area();
            let size = apart(images * window.size());
            let taps = window.shifts();
            let shifts: Vec<usize> = (0..from)
                .flat_map(|channel| {
                    let taps = taps.iter();
                    taps.map(move |(phase, shift)| channel * size + phase * stretch + shift)
                })
                .collect();
            COPY.with_borrow_mut(|copy| {
                copy.clear();
                copy.resize(LINE + from * size + correlate::slack(window), 0.0);
                let begin = copy.as_ptr().align_offset(LINE * size_of::<f32>());
                let copy = &mut copy[begin.min(LINE)..];
                for index in 0..images {
                    let image = (task.image + index) * phase.panels.len() + task.group;
                    let maps = self.source[image * from * map..][..from * map].chunks_exact(map);
                    for (channel, map) in maps.enumerate() {
                        let begin = channel * size + index * window.area();
                        window.lay_out(map, copy, |phase| begin + phase * stretch);
                    }
                }
                let correlation = Correlation {
                    window,
                    panels: &phase.panels[task.group],
                    range: task.panels.clone(),
                    shifts: &shifts,
                    copy,
                    target: phase.target,
                    positions: self.positions,
                    bias: self.bias.map(|bias| &bias[task.result..]),
                    floor: self.floor,
                    results: &mut task.maps,
                };
                correlation.run();
            });
        }
    }
}
