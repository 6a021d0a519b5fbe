//! Writes the events of a run as JSON, one line per event.

use std::io::Write;

use serde_json::{Value, json};

use crate::event::{Event, Observer};

/// Writes the events of a run as JSON, one line each, except training steps, image checks and the batches of a
/// renewal of running statistics.
///
/// ```
/// use reid_train::{Event, JsonLines, Observer};
///
/// let mut lines = Vec::new();
/// JsonLines::new(&mut lines).observe(&Event::Interrupted);
/// assert_eq!(lines, b"{\"event\":\"interrupted\"}\n");
/// ```
#[derive(Debug)]
pub struct JsonLines<W> {
    writer: W,
}

impl<W: Write> JsonLines<W> {
    /// Writes to `writer`. A line that cannot be written is dropped, and the run continues.
    pub const fn new(writer: W) -> Self {
        Self { writer }
    }
}

impl<W: Write> Observer for JsonLines<W> {
    fn observe(&mut self, event: &Event<'_>) {
        if let Some(line) = line(event) {
            // A closed pipe must not stop a training run.
            let _ = writeln!(self.writer, "{line}").and_then(|()| self.writer.flush());
        }
    }
}

fn line(event: &Event<'_>) -> Option<Value> {
    let line = match event {
        Event::Started {
            epochs,
            epochs_done,
            images,
            identities,
            parameters,
        } => json!({
            "event": "started", "epochs": epochs, "epochs_done": epochs_done, "images": images,
            "identities": identities, "parameters": parameters,
        }),
        Event::Warning(problem) => json!({ "event": "warning", "message": problem.to_string() }),
        Event::Step(_) | Event::Checking { .. } | Event::Renewing { .. } => return None,
        Event::Epoch(summary) => json!({ "event": "epoch", "summary": summary }),
        Event::Evaluated {
            epoch,
            report,
            best,
        } => json!({
            "event": "evaluated", "epoch": epoch, "best": best,
            "map": report.mean_average_precision, "minp": report.mean_inverse_negative_penalty,
            "cmc": report.cmc,
        }),
        Event::Classified {
            epoch,
            report,
            best,
        } => json!({
            "event": "classified", "epoch": epoch, "best": best, "images": report.images(),
            "error": report.error(), "top5_error": report.top_k_error(5),
        }),
        Event::Segmented {
            epoch,
            report,
            best,
        } => {
            let classes = report.classes.iter();
            let iou: Vec<_> = classes.map(|class| class.intersection_over_union).collect();
            json!({
                "event": "segmented", "epoch": epoch, "best": best, "iou": iou,
                "miou": report.mean_intersection_over_union, "pixel_accuracy": report.pixel_accuracy,
            })
        }
        Event::Clustered { summary, .. } => json!({ "event": "clustered", "summary": summary }),
        Event::Saved(path) => json!({ "event": "saved", "path": path }),
        Event::Interrupted => json!({ "event": "interrupted" }),
    };
    Some(line)
}
