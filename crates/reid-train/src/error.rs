//! The errors of this crate.

use std::{fmt, io, path::PathBuf};

use reid_core::{Identity, Problems, Split};

/// An error of a run, a recipe, a checkpoint or an extraction.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// [`Trainer::resume`](crate::Trainer::resume) was called without checkpoints.
    #[error("`resume` needs checkpoints: call `Trainer::with_checkpoints` before `resume`")]
    NoCheckpoints,
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A new run was started in a folder that already holds a run.
    #[error("{} holds a run: resume it (`Trainer::resume`, `--resume` of the examples), or choose another folder", path.display())]
    HoldsRun {
        /// The folder.
        path: PathBuf,
    },
    /// Another process is training in the folder of the run.
    #[error("{}: another process is training in this folder", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A recipe or a file of a checkpoint cannot be parsed from JSON or written as JSON.
    #[error("{}, line {}, column {}: {source}", path.display(), source.line(), source.column())]
    Json {
        /// The file.
        path: PathBuf,
        /// The error, with line and column.
        source: serde_json::Error,
    },
    /// A field of a recipe or of a file of a checkpoint cannot be parsed.
    #[error("{}{}{}: {source}", path.display(), line_and_column(source), field_path(field))]
    JsonField {
        /// The file.
        path: PathBuf,
        /// The path of the field, such as `losses.triplet.weight`; `.` for the whole file.
        field: String,
        /// The error.
        source: serde_json::Error,
    },
    /// A recipe has invalid settings.
    #[error("{}{}", path.as_ref().map_or("recipe".into(), |path| path.display().to_string()), problem_list(problems))]
    Recipe {
        /// The file, if it was read from one.
        path: Option<PathBuf>,
        /// All invalid settings, each with its path in the recipe.
        problems: Problems,
    },
    /// Images cannot be opened.
    #[error("{} of {images} images cannot be opened:\n{}", errors.len(), first_errors(errors))]
    Images {
        /// The number of images that were checked.
        images: usize,
        /// The error of each image that cannot be opened.
        errors: Vec<reid_data::Error>,
    },
    /// Images cannot be loaded, or batches cannot be drawn from them.
    #[error(transparent)]
    Data(#[from] reid_data::Error),
    /// Embeddings cannot be evaluated.
    #[error(transparent)]
    Evaluation(#[from] reid_eval::Error),
    /// The exchange between [ranks](crate::Trainer::with_ranks) failed, because one of them has ended.
    #[error(transparent)]
    Ranks(#[from] reid_core::RankError),
    /// A rank does not start from the same recipe, data, checkpoint and weights as the first one.
    #[error(
        "rank {rank} differs from rank 0 in its {what}: start all ranks with the same program, recipe and data, and \
         with checkpoints in one folder"
    )]
    OtherRank {
        /// The number of the rank, from 0.
        rank: usize,
        /// What differs.
        what: &'static str,
    },
    /// Predicted label maps cannot be evaluated.
    #[error(transparent)]
    Segmentation(#[from] reid_eval::SegmentationError),
    /// A loss or a gradient is infinite or NaN. In half precision a gradient is an error only after the loss
    /// scale has fallen below 1.
    #[error(
        "epoch {epoch}, step {step}: the {name} is not finite ({value}) for the batch {}; the step was not \
         saved; a lower learning rate or gradient clipping often helps",
        first_paths(images)
    )]
    NotFinite {
        /// The epoch, counted from 1.
        epoch: usize,
        /// The step in the epoch, counted from 1.
        step: usize,
        /// The name of the loss, or the gradient of which parameter.
        name: String,
        /// The value of the loss; NaN for a gradient.
        value: f64,
        /// The images of the batch.
        images: Vec<PathBuf>,
    },
    /// There are no images to embed.
    #[error("{} has no images, expected at least 1", named(*split))]
    NoImages {
        /// The split; `None` for a list of files or images.
        split: Option<Split>,
    },
    /// There are no images to test a classifier with.
    #[error("there are no test images, expected at least 1")]
    NoTestImages,
    /// A test image is of an identity that was not trained on.
    #[error("{}: expected an identity of one of the {classes} classes, found {identity}", image.display())]
    OtherClass {
        /// The image.
        image: PathBuf,
        /// Its identity.
        identity: Identity,
        /// The number of classes.
        classes: usize,
    },
    /// A model cannot classify images.
    #[error("the model has no class scores: expected a single model with a classifier")]
    NoClassifier,
    /// An embedding has a value that is infinite or NaN.
    #[error("the embedding of {split} image {row} ({}) is not finite", image.display())]
    Embedding {
        /// The split.
        split: Split,
        /// The index of the image in the split, from 0.
        row: usize,
        /// The image.
        image: PathBuf,
    },
    /// A file of a checkpoint is shorter or longer than when it was written.
    #[error("{}: expected {expected} bytes, found {found}: the checkpoint is damaged", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The length in bytes when it was written.
        expected: u64,
        /// The length in bytes now.
        found: u64,
    },
    /// The hash of a file of a checkpoint differs from that of the file that was written, the manifest is
    /// missing, or the pointer names something that is not a checkpoint.
    #[error(
        "{}: the content is not what was written: the checkpoint is damaged; copy the file from a backup, \
         or start a new run in another folder",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A weight or a running statistic is infinite or NaN, so no checkpoint was written.
    #[error(
        "epoch {epoch}, step {step}: the parameter `{name}` has values that are not finite, so no checkpoint \
         was written; the last one is unchanged; a lower learning rate or gradient clipping often helps"
    )]
    WeightsNotFinite {
        /// The epoch, counted from 1.
        epoch: usize,
        /// The last step of the epoch, counted from 1.
        step: usize,
        /// The parameter.
        name: String,
    },
    /// The running statistics of averaged weights were computed anew, and a value is infinite or NaN.
    #[error(
        "the running statistics of the average were computed anew from the batches of epoch {epoch}, and \
         `{name}` has values that are not finite; no checkpoint was written, and the last one is unchanged"
    )]
    StatisticsNotFinite {
        /// The epoch, counted from 1.
        epoch: usize,
        /// The running statistic or parameter.
        name: String,
    },
    /// A file of a checkpoint cannot be loaded into the model, the criterion or the optimizer.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A run cannot resume, because its recipe or a custom part differs from that of the checkpoint.
    #[error("{}: the run was started with another recipe: {difference}", path.display())]
    OtherRecipe {
        /// The checkpoint.
        path: PathBuf,
        /// The first setting that differs, with its old and new value.
        difference: String,
    },
    /// A run cannot resume, because the training images differ in number, names, labels or order.
    #[error(
        "{}: the run was started with {expected} training images and the data have {found}{}: resume with \
         the original images, or start a new run in another folder",
        path.display(),
        if expected == found { ", but not the same ones" } else { "" }
    )]
    OtherImages {
        /// The checkpoint.
        path: PathBuf,
        /// The number of images in the checkpoint.
        expected: usize,
        /// The number of images in the data.
        found: usize,
    },
    /// A checkpoint was saved after more steps of an epoch than the epoch now has.
    #[error(
        "epoch {epoch}: the checkpoint was saved after {expected} steps, but the epoch now has {found}: the \
         data or the sampler have changed"
    )]
    OtherSteps {
        /// The epoch, counted from 1.
        epoch: usize,
        /// The number of steps that were done.
        expected: usize,
        /// The number of steps that the epoch has now.
        found: usize,
    },
    /// Training without labels found fewer than two clusters.
    #[error(
        "round {round}: expected at least 2 clusters of {images} images, found {clusters} and {outliers} \
         outliers: raise `epsilon` if most images are outliers, and lower it if all are in one cluster"
    )]
    Clusters {
        /// The round, counted from 1.
        round: usize,
        /// The number of images.
        images: usize,
        /// The number of clusters.
        clusters: usize,
        /// The number of images in no cluster.
        outliers: usize,
    },
    /// A run cannot resume, because the training identities differ.
    #[error(
        "{}: the training identities are not those of the run: it was started with {expected}, the data \
         have {found}",
        path.display()
    )]
    OtherIdentities {
        /// The checkpoint.
        path: PathBuf,
        /// The number of identities in the checkpoint.
        expected: usize,
        /// The number of identities in the data.
        found: usize,
    },
}

/// Writes the message and its causes ([`reid_core::debug_error`]).
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        reid_core::debug_error(self, f)
    }
}

/// The first 4 paths, and how many more there are.
fn first_paths(images: &[PathBuf]) -> String {
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

/// The line and column of an error; empty if they are not known.
fn line_and_column(error: &serde_json::Error) -> String {
    match error.line() {
        0 => String::new(),
        line => format!(", line {line}, column {}", error.column()),
    }
}

/// The path of the field that is wrong; empty for the whole file.
fn field_path(field: &str) -> String {
    match field {
        "." => String::new(),
        field => format!(", {field}"),
    }
}

/// One problem on the same line, or several on separate lines.
fn problem_list(problems: &Problems) -> String {
    match problems.len() {
        1 => format!(": {problems}"),
        count => format!(": {count} problems\n{problems}"),
    }
}

/// The first 10 errors on separate lines, and how many more there are.
fn first_errors(errors: &[reid_data::Error]) -> String {
    const SHOWN: usize = 10;
    let lines = errors.iter().take(SHOWN).map(ToString::to_string);
    let text = lines.collect::<Vec<_>>().join("\n");
    match errors.len().saturating_sub(SHOWN) {
        0 => text,
        more => format!("{text}\nand {more} more"),
    }
}

/// Converts an error of the file system at `path`.
pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::Io { path, source }
}

/// The split, or the list, in an error message.
fn named(split: Option<Split>) -> String {
    split.map_or_else(
        || "the list".to_owned(),
        |split| format!("the {split} split"),
    )
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
