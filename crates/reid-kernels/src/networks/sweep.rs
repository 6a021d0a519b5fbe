//! A correlation over all images, groups and channels, shared out to threads.

use std::{borrow::Cow, cell::RefCell, ops::Range};

use rayon::prelude::*;

use crate::memory::zeros;

use super::{
    convolution::{ConvEpilogue, area},
    correlate::{self, Correlation, Memory, Target},
    tile,
    window::Window,
};

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// Results whose sums are kept together, at most: as many as stay in the second cache for a block.
const RESULTS: usize = 512;

/// Some positions of the results: which maps they read, and with which weights.
#[derive(Debug)]
pub(crate) struct Phase<'a> {
    pub(crate) window: Window,
    /// `[groups · results, terms]`, a term for each channel that a group reads and tap.
    pub(crate) weights: Cow<'a, [f32]>,
    pub(crate) target: Target,
}

/// All that a correlation computes.
#[derive(Debug)]
pub(crate) struct Sweep<'a> {
    /// Images.
    pub(crate) batch: usize,
    pub(crate) groups: usize,
    /// Channels that a group reads, and results that it has.
    pub(crate) channels: [usize; 2],
    /// `[batch, groups · channels, positions]`.
    pub(crate) source: &'a [f32],
    /// What no phase covers stays as it is.
    pub(crate) phases: &'a [Phase<'a>],
    pub(crate) epilogue: ConvEpilogue<'a>,
    /// Whether results are added to what is there.
    pub(crate) onto: bool,
    /// Positions of a map of results.
    pub(crate) positions: usize,
}

/// Some images, a group, and some of its results.
struct Task<'b> {
    /// The first image.
    image: usize,
    group: usize,
    /// Those results by tiles.
    panels: Vec<Range<usize>>,
    /// The first result, among those of all groups.
    result: usize,
    /// For each image the maps of the results.
    maps: Vec<&'b mut [f32]>,
}

impl Sweep<'_> {
    /// The results, `[batch, groups · results, positions]`; what no phase covers is 0.
    pub(crate) fn run(&self) -> Vec<f32> {
        let mut results = zeros(self.batch * self.groups * self.channels[1] * self.positions);
        self.write(&mut results);
        results
    }

    /// Writes the results. Each is one sum in one order, whoever computes it.
    pub(crate) fn write(&self, results: &mut [f32]) {
        /// Products that are worth waking another thread.
        const MANY: usize = 1 << 20;
        let tasks = self.tasks(results);
        if self.products() < MANY {
            for task in tasks {
                self.compute(task);
            }
        } else {
            // One by one in this order: the small ones at the end.
            let tasks = tasks.into_iter().par_bridge();
            tasks.for_each(|task| self.compute(task));
        }
    }

    /// How many products the sums have.
    fn products(&self) -> usize {
        let [from, to] = self.channels;
        let phases = self.phases.iter().map(|phase| &phase.window);
        let reads = phases.map(|window| area(window.grid) * window.shifts().len());
        self.batch * self.groups * from * to * reads.sum::<usize>()
    }

    /// Images by themselves, or several where maps are small; panels by themselves where there are
    /// too few images for all threads. The last images are shared out in smaller parts, so that no thread
    /// works much longer than the others.
    fn tasks<'b>(&self, results: &'b mut [f32]) -> Vec<Task<'b>> {
        /// Tasks of a thread that need no smaller ones at the end.
        const MANY: usize = 8;
        /// Parts of a task at the end.
        const FINE: usize = 4;
        /// Tiles of results that are worth copying what they read.
        const LEAST: usize = 8;
        let (groups, threads) = (self.groups, rayon::current_num_threads());
        let parts = (2 * threads).div_ceil(self.batch * groups);
        let panels = tile::panels(self.channels[1]);
        let parts = parts.max(self.channels[1].div_ceil(RESULTS));
        let per_part = panels.len().div_ceil(parts);
        // Where every thread has an image, none is copied for fewer.
        let per_part = if self.batch * groups < threads {
            per_part
        } else {
            per_part.max(LEAST)
        };
        let windows = self.phases.iter().map(|phase| &phase.window);
        let together = windows.map(correlate::together).max().unwrap_or(1);
        let together = (self.batch * groups / (4 * threads)).max(together);
        let together = together
            .min((self.batch * groups).div_ceil(threads))
            .min(self.batch);
        let few = self.batch.div_ceil(together) * groups * parts < MANY * threads;
        let mut tasks: Vec<Task<'b>> = Vec::new();
        let mut rest = results;
        for first in (0..self.batch).step_by(together) {
            let images = first..(first + together).min(self.batch);
            let last = first > 0 && images.end == self.batch;
            let per_part = if few && last {
                per_part.div_ceil(FINE).max(LEAST)
            } else {
                per_part
            };
            let begun = tasks.len();
            for image in images {
                let mut at = begun;
                for group in 0..groups {
                    let mut result = group * self.channels[1];
                    for panels in panels.chunks(per_part) {
                        let count: usize = panels.iter().map(Range::len).sum();
                        let (maps, behind) = rest.split_at_mut(count * self.positions);
                        rest = behind;
                        if at == tasks.len() {
                            tasks.push(Task {
                                image,
                                group,
                                panels: from_zero(panels),
                                result,
                                maps: Vec::new(),
                            });
                        }
                        tasks[at].maps.push(maps);
                        (at, result) = (at + 1, result + count);
                    }
                }
            }
        }
        tasks
    }

    fn compute(&self, mut task: Task<'_>) {
        let [from, _] = self.channels;
        for phase in self.phases {
            let count = from * area(phase.window.map);
            let maps = |index: usize| {
                let begin = ((task.image + index) * self.groups + task.group) * count;
                &self.source[begin..begin + count]
            };
            let maps: Vec<&[f32]> = (0..task.maps.len()).map(maps).collect();
            let terms = from * phase.window.shifts().len();
            MEMORY.with_borrow_mut(|memory| {
                let correlation = Correlation {
                    window: &phase.window,
                    weights: &phase.weights[task.result * terms..],
                    terms,
                    panels: &task.panels,
                    maps: &maps,
                    target: phase.target,
                    positions: self.positions,
                    epilogue: self.epilogue.from(task.result),
                    onto: self.onto,
                    results: &mut task.maps,
                    memory,
                };
                correlation.run();
            });
        }
    }
}

/// The same parts, where the first one begins at 0.
fn from_zero(parts: &[Range<usize>]) -> Vec<Range<usize>> {
    let first = parts.first().map_or(0, |part| part.start);
    let moved = |part: &Range<usize>| part.start - first..part.end - first;
    parts.iter().map(moved).collect()
}
