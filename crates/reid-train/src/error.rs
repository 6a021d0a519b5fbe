//! Errors: what stopped a run, with names and numbers.

use std::{fmt, io, path::PathBuf};

use reid_core::{Problems, Split};

/// What stopped a run.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A run is to be resumed that has no checkpoints.
    #[error(
        "a run is resumed from its checkpoints: call `Trainer::with_checkpoints` before `resume`"
    )]
    NoCheckpoints,
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A run should begin where there is one.
    #[error("{} holds a run: resume it (`Trainer::resume`, `--resume` of the examples), or choose another folder", path.display())]
    HoldsRun {
        /// The folder.
        path: PathBuf,
    },
    /// Another process trains in the folder of a run.
    #[error("{}: another process trains in this folder", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A recipe or checkpoint is not the JSON that is expected.
    #[error("{}, line {}, column {}: {source}", path.display(), source.line(), source.column())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: serde_json::Error,
    },
    /// A recipe or checkpoint is not the JSON that is expected, at a place in it.
    #[error("{}{}{}: {source}", path.display(), line(source), place(field))]
    JsonField {
        /// The file.
        path: PathBuf,
        /// The path of what is wrong: `losses.triplet.weight`; `.` for the whole.
        field: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A recipe asks for something impossible.
    #[error("{}{}", path.as_ref().map_or("recipe".into(), |path| path.display().to_string()), several(problems))]
    Recipe {
        /// The file, if it was read from one.
        path: Option<PathBuf>,
        /// All that is impossible, each with its path in the recipe.
        problems: Problems,
    },
    /// Images cannot be opened.
    #[error("{} of {images} images cannot be opened:\n{}", errors.len(), first(errors))]
    Images {
        /// Images that were looked at.
        images: usize,
        /// The error of each that cannot.
        errors: Vec<reid_data::Error>,
    },
    /// Images cannot be loaded, or batches cannot be made of them.
    #[error(transparent)]
    Data(#[from] reid_data::Error),
    /// Descriptors cannot be evaluated.
    #[error(transparent)]
    Evaluation(#[from] reid_eval::Error),
    /// A loss is infinite or not a number, or a gradient in half precision although losses are not scaled up
    /// any more.
    #[error(
        "epoch {epoch}, step {step}: the {name} is not finite ({value}); the batch was {}; nothing of this \
         epoch was saved; a lower learning rate or gradient clipping often helps",
        list(images)
    )]
    NotFinite {
        /// The epoch, counted from 1.
        epoch: usize,
        /// The step in the epoch, counted from 1.
        step: usize,
        /// What it is: a loss by its name, or a gradient.
        name: String,
        /// Its value.
        value: f64,
        /// The images of the batch.
        images: Vec<PathBuf>,
    },
    /// There is nothing to describe.
    #[error("the {split} has no images to describe, expected at least 1")]
    NoImages {
        /// The split.
        split: Split,
    },
    /// A descriptor holds a value that is infinite or not a number.
    #[error("the descriptor of {split} image {row} ({}) is not finite", image.display())]
    Embedding {
        /// The split.
        split: Split,
        /// Row of the image in the split.
        row: usize,
        /// The image.
        image: PathBuf,
    },
    /// A file of a checkpoint is not as long as when it was written.
    #[error("{}: expected {expected} bytes, found {found}: the checkpoint is damaged", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes written.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// A file of a checkpoint is not what was written: its hash is another, or it is missing.
    #[error(
        "{}: not what was written there: the checkpoint is damaged; copy the file from a backup, or begin anew",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A weight became infinite or not a number; nothing was saved.
    #[error(
        "epoch {epoch}, step {step}: the parameter `{name}` holds values that are not finite, so nothing was \
         saved; the last checkpoint is as it was; a lower learning rate or gradient clipping often helps"
    )]
    WeightsNotFinite {
        /// The epoch, counted from 1.
        epoch: usize,
        /// The last step, counted from 1.
        step: usize,
        /// The parameter.
        name: String,
    },
    /// A file of a checkpoint does not hold what belongs into it.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A run cannot go on with another recipe than it was begun with.
    #[error("{}: the run was begun with another recipe: {difference}", path.display())]
    OtherRecipe {
        /// The checkpoint.
        path: PathBuf,
        /// The first entry that differs.
        difference: String,
    },
    /// The training images are not those that the run was begun with: more, fewer, other names, other
    /// identities or another order.
    #[error(
        "{}: the run was begun with {expected} training images and the data have {found}{}: go on with the \
         images that it was begun with, or begin a new run in another folder",
        path.display(),
        if expected == found { ", but not the same ones" } else { "" }
    )]
    OtherImages {
        /// The checkpoint.
        path: PathBuf,
        /// Images in the checkpoint.
        expected: usize,
        /// Images in the data.
        found: usize,
    },
    /// A checkpoint is further in an epoch than the epoch is long.
    #[error(
        "epoch {epoch}: the checkpoint stands after {expected} steps and the epoch has {found}: the data are others than before"
    )]
    OtherSteps {
        /// The epoch, counted from 1.
        epoch: usize,
        /// Steps done.
        expected: usize,
        /// Steps of the epoch now.
        found: usize,
    },
    /// The training identities are not those that the run was begun with.
    #[error("{}: the run was begun with {expected} identities, the data have {found}", path.display())]
    OtherIdentities {
        /// The checkpoint.
        path: PathBuf,
        /// Identities in the checkpoint.
        expected: usize,
        /// Identities in the data.
        found: usize,
    },
}

/// The message and its causes, as [`reid_core::debug_error`] writes them.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        reid_core::debug_error(self, f)
    }
}

/// The first few of many paths.
fn list(images: &[PathBuf]) -> String {
    const SHOWN: usize = 4;
    let names = images
        .iter()
        .take(SHOWN)
        .map(|path| path.display().to_string());
    let text = names.collect::<Vec<_>>().join(", ");
    match images.len().saturating_sub(SHOWN) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// Where an error is in a file, if that is known.
fn line(error: &serde_json::Error) -> String {
    match error.line() {
        0 => String::new(),
        line => format!(", line {line}, column {}", error.column()),
    }
}

/// The path of what is wrong, unless it is the whole.
fn place(field: &str) -> String {
    match field {
        "." => String::new(),
        field => format!(", {field}"),
    }
}

/// One problem on the same line, several on lines of their own.
fn several(problems: &Problems) -> String {
    match problems.len() {
        1 => format!(": {problems}"),
        count => format!(": {count} problems\n{problems}"),
    }
}

/// The first few errors, one a line.
fn first(errors: &[reid_data::Error]) -> String {
    const SHOWN: usize = 10;
    let lines = errors.iter().take(SHOWN).map(ToString::to_string);
    let text = lines.collect::<Vec<_>>().join("\n");
    match errors.len().saturating_sub(SHOWN) {
        0 => text,
        more => format!("{text}\nand {more} more"),
    }
}

/// An error of the file system at `path`.
pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_ends_with_an_error_prints_its_message() {
        let errors = (0..2_000).map(|image| reid_data::Error::ImageFormat {
            path: format!("data/{image}.jpg").into(),
            expected: "an image",
            found: "text".into(),
        });
        let error = Error::Images {
            images: 3_000,
            errors: errors.collect(),
        };
        let boxed: Box<dyn std::error::Error> = Box::new(error);
        let text = format!("{boxed:?}");
        assert!(
            text.starts_with(
                "2000 of 3000 images cannot be opened:\ndata/0.jpg: expected an image"
            ),
            "{text}"
        );
        assert!(text.ends_with("\nand 1990 more"), "{text}");
        assert_eq!(text.lines().count(), 12);
    }

    #[test]
    fn a_cause_that_is_in_the_message_is_not_repeated() {
        let text = "{\n \"epochs\": }";
        let source = serde_json::from_str::<serde_json::Value>(text).expect_err("no value");
        let (cause, line, column) = (source.to_string(), source.line(), source.column());
        let error = Error::JsonField {
            path: "recipe.json".into(),
            field: "epochs".into(),
            source,
        };
        assert_eq!(
            format!("{error:?}"),
            format!("recipe.json, line {line}, column {column}, epochs: {cause}")
        );
    }
}
