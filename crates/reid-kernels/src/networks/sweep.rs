//! A correlation over all images, groups and output channels, divided among threads.
//!
//! A task is one or several images, with one group and some or all of its output channels. The last images
//! are split into smaller tasks: whole images are so few that a thread which starts the last
//! one late would keep the others waiting for up to half of the time.
//!
//! With fewer images than threads, a task is some rows of an image. Where feature maps are too small for that, it
//! is some of the output channels; each task then copies the whole input.
//!
//! 1 x 1 convolutions with few input channels are left to `packed`.

use std::{borrow::Cow, cell::RefCell, ops::Range};

use rayon::prelude::*;

use crate::memory::zeros;

use super::{
    convolution::{ConvEpilogue, area},
    correlate::{self, BLOCK, Correlation, Memory, Target},
    packed::Packed,
    tile,
    window::Window,
};

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// The largest number of output channels in a task: their sums over a block stay in the second cache.
const RESULTS: usize = 512;

/// A part of the result positions, with the window and the weights that compute it.
#[derive(Debug)]
pub(crate) struct Phase<'a> {
    pub(crate) window: Window,
    /// `[groups · results, terms]`, with one term per input channel of a group and tap.
    pub(crate) weights: Cow<'a, [f32]>,
    pub(crate) target: Target,
}

/// A correlation of a whole batch.
#[derive(Debug)]
pub(crate) struct Sweep<'a> {
    /// The number of images.
    pub(crate) batch: usize,
    pub(crate) groups: usize,
    /// The numbers of input and output channels per group.
    pub(crate) channels: [usize; 2],
    /// The input, `[batch, groups · channels, positions]`.
    pub(crate) source: &'a [f32],
    /// The phases of the results. Positions that no phase covers are not written.
    pub(crate) phases: &'a [Phase<'a>],
    pub(crate) epilogue: ConvEpilogue<'a>,
    /// Whether results are added to the values that the output slice holds.
    pub(crate) onto: bool,
    /// The number of positions of an output channel.
    pub(crate) positions: usize,
}

/// Some images, one group, and some of its output channels or rows.
struct Task<'b> {
    /// The index of the first image.
    image: usize,
    group: usize,
    /// The output channels of the task, split into tiles.
    panels: Vec<Range<usize>>,
    /// The index of the first output channel, counted over all groups.
    result: usize,
    results: Results<'b>,
}

/// The slices that a task writes.
enum Results<'b> {
    /// For each image, its output channels.
    Images(Vec<&'b mut [f32]>),
    /// For each output channel of one image, some rows.
    Rows(Range<usize>, Vec<&'b mut [f32]>),
}

impl Sweep<'_> {
    /// Computes the results, `[batch, groups · results, positions]`. Positions that no phase covers are 0.
    pub(crate) fn run(&self) -> Vec<f32> {
        let mut results = zeros(self.batch * self.groups * self.channels[1] * self.positions);
        self.write(&mut results);
        results
    }

    /// Writes the results. The order of each sum does not depend on the tasks or the number of threads.
    pub(crate) fn write(&self, results: &mut [f32]) {
        /// From this number of multiplications on, waking other threads pays off.
        const MANY: usize = 1 << 20;
        let many = self.products() >= MANY;
        if let Some(packed) = self.packed() {
            return packed.write(results, many);
        }
        let tasks = self.tasks(results);
        if many {
            // Threads take tasks one by one, in this order: the small tasks come last.
            let tasks = tasks.into_iter().par_bridge();
            tasks.for_each(|task| self.compute(task));
        } else {
            for task in tasks {
                self.compute(task);
            }
        }
    }

    /// A 1 x 1 convolution with few input channels and at least one image per thread.
    fn packed(&self) -> Option<Packed<'_>> {
        let [phase] = self.phases else { return None };
        let plain = self.epilogue == ConvEpilogue::default() && !self.onto;
        let few = self.channels[0] <= Packed::CHANNELS;
        let enough = self.batch * self.groups >= rayon::current_num_threads();
        let window = &phase.window;
        let whole = window.is_identity() && phase.target.is_whole(window.grid[1]);
        (plain && few && enough && whole).then(|| Packed {
            groups: self.groups,
            channels: self.channels,
            positions: self.positions,
            weights: &phase.weights,
            input: self.source,
        })
    }

    /// The number of multiplications of all sums.
    fn products(&self) -> usize {
        let [from, to] = self.channels;
        let phases = self.phases.iter().map(|phase| &phase.window);
        let reads = phases.map(|window| area(window.grid) * window.shifts().len());
        self.batch * self.groups * from * to * reads.sum::<usize>()
    }

    /// Splits the work into tasks. A task has several images where feature maps are small or images are many.
    /// Output channels are split where there are too few images for all threads, and for the last images.
    fn tasks<'b>(&self, results: &'b mut [f32]) -> Vec<Task<'b>> {
        /// The number of tasks per thread from which the last images need no smaller tasks.
        const MANY: usize = 8;
        /// The number of parts into which a task of the last images is split.
        const FINE: usize = 4;
        /// The smallest number of tiles in a task that justifies its copy of the input.
        const LEAST: usize = 8;
        let (groups, threads) = (self.groups, rayon::current_num_threads());
        let parts = (2 * threads).div_ceil(self.batch * groups);
        if let Some(rows) = self.rows_per_task(parts) {
            return self.tasks_by_rows(rows, results);
        }
        let panels = tile::panels(self.channels[1]);
        let parts = parts.max(self.channels[1].div_ceil(RESULTS));
        let per_part = panels.len().div_ceil(parts);
        // With at least one image per thread, smaller tasks would only repeat the copy of the input.
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
                        let (maps, after) = rest.split_at_mut(count * self.positions);
                        rest = after;
                        if at == tasks.len() {
                            tasks.push(Task {
                                image,
                                group,
                                panels: from_zero(panels),
                                result,
                                results: Results::Images(Vec::new()),
                            });
                        }
                        if let Results::Images(images) = &mut tasks[at].results {
                            images.push(maps);
                        }
                        (at, result) = (at + 1, result + count);
                    }
                }
            }
        }
        tasks
    }

    /// The number of output rows of a task if an image is divided by rows into about `parts` tasks. `None` if
    /// that is not possible, or if the rows of a task would be less than a block.
    fn rows_per_task(&self, parts: usize) -> Option<usize> {
        let [phase] = self.phases else { return None };
        let ([height, _], target) = (phase.window.grid, phase.target);
        let parts = parts.min(phase.window.span(1) / BLOCK);
        let whole = target.step == [1, 1]
            && target.begin == [0, 0]
            && height * target.width == self.positions;
        (whole && parts > 1 && self.channels[1] <= RESULTS).then(|| height.div_ceil(parts))
    }

    /// One task for every image, group and `rows` output rows.
    fn tasks_by_rows<'b>(&self, rows: usize, results: &'b mut [f32]) -> Vec<Task<'b>> {
        let panels = tile::panels(self.channels[1]);
        let (width, height) = match self.phases {
            [phase, ..] => (phase.target.width, phase.window.grid[0]),
            [] => return Vec::new(),
        };
        let mut tasks = Vec::new();
        let groups = results.chunks_exact_mut(self.channels[1] * self.positions);
        for (at, maps) in groups.enumerate() {
            let (image, group) = (at / self.groups, at % self.groups);
            let mut parts: Vec<Vec<&'b mut [f32]>> = Vec::new();
            parts.resize_with(height.div_ceil(rows), Vec::new);
            for map in maps.chunks_exact_mut(self.positions) {
                for (part, map) in parts.iter_mut().zip(map.chunks_mut(rows * width)) {
                    part.push(map);
                }
            }
            for (part, maps) in parts.into_iter().enumerate() {
                let rows = part * rows..height.min((part + 1) * rows);
                tasks.push(Task {
                    image,
                    group,
                    panels: panels.clone(),
                    result: group * self.channels[1],
                    results: Results::Rows(rows, maps),
                });
            }
        }
        tasks
    }

    fn compute(&self, task: Task<'_>) {
        let [from, _] = self.channels;
        let (images, rows, mut results) = match task.results {
            Results::Images(images) => {
                let count = images.len();
                let maps = images
                    .into_iter()
                    .flat_map(|maps| maps.chunks_exact_mut(self.positions));
                (count, None, maps.collect())
            }
            Results::Rows(rows, maps) => (1, Some(rows), maps),
        };
        for phase in self.phases {
            let count = from * area(phase.window.map);
            let maps = |index: usize| {
                let begin = ((task.image + index) * self.groups + task.group) * count;
                &self.source[begin..begin + count]
            };
            let maps: Vec<&[f32]> = (0..images).map(maps).collect();
            let terms = from * phase.window.shifts().len();
            MEMORY.with_borrow_mut(|memory| {
                let correlation = Correlation {
                    window: &phase.window,
                    weights: &phase.weights[task.result * terms..],
                    terms,
                    panels: &task.panels,
                    maps: &maps,
                    target: phase.target,
                    rows: rows.clone(),
                    epilogue: self.epilogue.from(task.result),
                    onto: self.onto,
                    results: &mut results,
                    memory,
                };
                correlation.run();
            });
        }
    }
}

/// Moves consecutive ranges so that the first one begins at 0.
fn from_zero(parts: &[Range<usize>]) -> Vec<Range<usize>> {
    let first = parts.first().map_or(0, |part| part.start);
    let moved = |part: &Range<usize>| part.start - first..part.end - first;
    parts.iter().map(moved).collect()
}
