//! Writes the progress of a run as text, in a terminal or to a log.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use crate::event::{Event, Observer, StepReport};

/// Writes the progress of a run as text.
///
/// In a terminal, one line is rewritten after each step. Otherwise a line is written every ten seconds, so
/// that logs stay short.
///
/// ```
/// use reid_train::{Console, Event, Observer};
///
/// let mut log = Vec::new();
/// Console::plain(&mut log).observe(&Event::Interrupted);
/// assert_eq!(log, b"interrupted: a run with checkpoints can be resumed\n");
/// ```
#[derive(Debug)]
pub struct Console<W> {
    writer: W,
    rewrites: bool,
    pause: Duration,
    shown: Option<Instant>,
    open_line: usize,
}

impl Console<io::Stderr> {
    /// Writes to standard error. If that is a terminal, the line of the current step is rewritten.
    #[must_use]
    pub fn stderr() -> Self {
        let writer = io::stderr();
        let rewrites = writer.is_terminal();
        Self {
            pause: if rewrites {
                Duration::from_millis(200)
            } else {
                Duration::from_secs(10)
            },
            rewrites,
            ..Self::plain(writer)
        }
    }
}

impl<W: Write> Console<W> {
    /// Writes whole lines to `writer`, and never rewrites one. A line that cannot be written is dropped.
    pub const fn plain(writer: W) -> Self {
        Self {
            writer,
            rewrites: false,
            pause: Duration::from_secs(10),
            shown: None,
            open_line: 0,
        }
    }

    /// Writes a line that is not rewritten.
    fn line(&mut self, text: &str) {
        let width = self.open_line;
        self.open_line = 0;
        let start = if self.rewrites { "\r" } else { "" };
        // A closed pipe must not stop a training run.
        let _ = writeln!(self.writer, "{start}{text:<width$}").and_then(|()| self.writer.flush());
    }

    fn step(&mut self, step: &StepReport) {
        let now = Instant::now();
        let last_of_epoch = self.rewrites && step.step == step.steps;
        let since = self.shown.get_or_insert(now);
        if now.duration_since(*since) < self.pause && !last_of_epoch {
            return;
        }
        self.shown = Some(now);
        let text = step_line(step);
        if self.rewrites {
            self.rewrite(&text);
        } else {
            self.line(&text);
        }
    }

    /// Overwrites the current line of the terminal.
    fn rewrite(&mut self, text: &str) {
        let width = self.open_line;
        self.open_line = text.len();
        let _ = write!(self.writer, "\r{text:<width$}").and_then(|()| self.writer.flush());
    }

    /// Writes the results of an evaluation.
    fn results(&mut self, event: &Event<'_>) {
        let (epoch, results, best) = match event {
            Event::Evaluated {
                epoch,
                report,
                best,
            } => {
                let (map, rank) = (
                    100.0 * report.mean_average_precision,
                    100.0 * report.rank(1),
                );
                (epoch, format!("mAP {map:.1} %  Rank-1 {rank:.1} %"), best)
            }
            Event::Classified {
                epoch,
                report,
                best,
            } => {
                let (error, top_5) = (100.0 * report.error(), 100.0 * report.top_k_error(5));
                (
                    epoch,
                    format!("error {error:.2} %  top-5 error {top_5:.2} %"),
                    best,
                )
            }
            Event::Segmented {
                epoch,
                report,
                best,
            } => {
                let iou = 100.0 * report.mean_intersection_over_union;
                let correct = 100.0 * report.pixel_accuracy;
                (
                    epoch,
                    format!("mIoU {iou:.2} %  pixels correct {correct:.2} %"),
                    best,
                )
            }
            _ => return,
        };
        let best = if *best { "  (best so far)" } else { "" };
        self.line(&format!("epoch {epoch}: {results}{best}"));
    }

    /// Reports the progress of a pass: in a terminal after each call, in a log every ten seconds.
    fn progress(&mut self, text: &str) {
        if self.rewrites {
            self.rewrite(text);
            return;
        }
        let now = Instant::now();
        let since = self.shown.get_or_insert(now);
        if now.duration_since(*since) >= self.pause {
            self.shown = Some(now);
            self.line(text);
        }
    }
}

fn step_line(step: &StepReport) -> String {
    let StepReport {
        epoch,
        epochs,
        step: number,
        steps,
        losses,
        accuracy,
        diagnostics,
        learning_rate,
        images_per_second,
        ..
    } = step;
    let (losses, diagnostics) = (named(losses, 3), percentages(diagnostics));
    format!(
        "epoch {epoch}/{epochs}  step {number}/{steps}  {losses}{}{diagnostics}  \
         rate {learning_rate:.2e}  {images_per_second:.0} images/s  {} left",
        percentage(*accuracy),
        clock(step.time_left),
    )
}

/// Formats names and values.
fn named(values: &[(String, f64)], decimals: usize) -> String {
    let values = values.iter();
    let texts = values.map(|(name, value)| format!("{name} {value:.decimals$}"));
    texts.collect::<Vec<_>>().join("  ")
}

/// Formats an accuracy as a percentage, if there is one.
fn percentage(accuracy: Option<f64>) -> String {
    let text = accuracy.map(|accuracy| format!("  accuracy {:.1} %", 100.0 * accuracy));
    text.unwrap_or_default()
}

/// Formats diagnostics as percentages, without those that are 0.
fn percentages(diagnostics: &[(String, f64)]) -> String {
    let positive = diagnostics.iter().filter(|(_, share)| *share > 0.0);
    let texts = positive.map(|(name, share)| format!("  {name} {:.1} %", 100.0 * share));
    texts.collect::<Vec<_>>().concat()
}

/// Formats a time as `m:ss`, or as `h:mm:ss` from one hour.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

impl<W: Write> Observer for Console<W> {
    fn observe(&mut self, event: &Event<'_>) {
        match event {
            Event::Started {
                epochs,
                epochs_done,
                images,
                identities,
                parameters,
            } => {
                let millions = *parameters as f64 / 1e6;
                let shown = match identities {
                    0 => String::new(), // segmentation
                    count => format!(" of {count} identities"),
                };
                self.line(&format!(
                    "{images} images{shown}, {millions:.2} M parameters, epochs {} to {epochs}",
                    epochs_done + 1
                ));
            }
            Event::Warning(problem) => self.line(&format!("warning: {problem}")),
            Event::Checking { images, of } => {
                self.progress(&format!("checked {images} of {of} images"));
            }
            Event::Renewing { batches, of } => {
                self.progress(&format!("renewed statistics by {batches} of {of} batches"));
            }
            Event::Step(step) => self.step(step),
            Event::Epoch(summary) => {
                self.line(&format!(
                    "epoch {}: {}{}{}  rate {:.2e}",
                    summary.epoch,
                    named(&summary.losses, 4),
                    percentage(summary.accuracy),
                    percentages(&summary.diagnostics),
                    summary.learning_rate
                ));
            }
            Event::Evaluated { .. } | Event::Classified { .. } | Event::Segmented { .. } => {
                self.results(event);
            }
            Event::Clustered { summary, .. } => self.line(&summary.to_string()),
            Event::Saved(path) => {
                // Every epoch saves a checkpoint, so a terminal does not need these lines.
                if !self.rewrites {
                    self.line(&format!("saved {}", path.display()));
                }
            }
            Event::Interrupted => self.line("interrupted: a run with checkpoints can be resumed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_one_line() {
        let step = StepReport {
            epoch: 3,
            epochs: 60,
            step: 12,
            steps: 47,
            losses: vec![("identity".into(), 4.123_45), ("triplet".into(), 0.3)],
            accuracy: Some(0.125),
            diagnostics: vec![("empty CAM 1".into(), 0.0), ("empty CAM 2".into(), 0.25)],
            learning_rate: 3.5e-4,
            images_per_second: 211.4,
            time_left: Duration::from_secs(3725),
        };
        assert_eq!(
            step_line(&step),
            "epoch 3/60  step 12/47  identity 4.123  triplet 0.300  accuracy 12.5 %  \
             empty CAM 2 25.0 %  rate 3.50e-4  211 images/s  1:02:05 left"
        );
    }
}
