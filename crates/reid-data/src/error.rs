//! The error type of the crate: bad files, folders, lists and batches, each with its location.

use std::{fmt, io, path::PathBuf};

use reid_core::{Identity, Notice, Split};

use crate::BoxProblem;

/// An error while reading a dataset or making batches.
///
/// A message about a file names its path and, in a list, the line. It says what was expected and what was
/// found, and includes the message of the underlying error.
///
/// ```
/// use reid_data::{Error, dataset::market1501};
///
/// let error = market1501::load("no/such/folder").expect_err("the folder does not exist");
/// assert!(matches!(error, Error::MissingFolder { .. }));
/// assert!(error.to_string().contains("bounding_box_train"));
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// An image file is damaged or truncated, or an image cannot be written.
    #[error("{}: {source}", path.display())]
    Image {
        /// The image file.
        path: PathBuf,
        /// The error of the codec.
        source: image::ImageError,
    },
    /// A file is not an image, or its image format is not supported.
    #[error("{}: expected {expected}, found {found}", path.display())]
    ImageFormat {
        /// The file.
        path: PathBuf,
        /// The supported formats.
        expected: &'static str,
        /// The content that was found instead.
        found: String,
    },
    /// An image declares more pixels than the limit, or more than fit in memory.
    #[error(
        "{}: expected an image of at most {limit} pixels that fits in memory, found {width} x {height}",
        path.display()
    )]
    ImageSize {
        /// The image file.
        path: PathBuf,
        /// The width that it declares, in pixels.
        width: u64,
        /// The height that it declares, in pixels.
        height: u64,
        /// The largest number of pixels that is accepted.
        limit: u64,
    },
    /// A binary file is damaged or truncated.
    #[error("{}: byte {offset}: expected {expected}, found {found}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The number of bytes before the damaged part.
        offset: u64,
        /// What was expected there.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The bytes of a frame do not have the size that was given.
    #[error("a frame of {width} x {height} pixels: expected {expected}, found {found}")]
    Frame {
        /// The width that was given, in pixels.
        width: u32,
        /// The height that was given, in pixels.
        height: u32,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
    /// Bounding boxes cannot be cropped from a frame.
    #[error(
        "{frame}: {} of {boxes} boxes cannot be cropped:{}",
        problems.len(),
        first_problems(problems)
    )]
    Boxes {
        /// The name and size of the frame.
        frame: String,
        /// The number of boxes that were given.
        boxes: usize,
        /// Each box that cannot be cropped, in order.
        problems: Vec<BoxProblem>,
    },
    /// A folder that the layout requires does not exist.
    #[error("{}: no such folder, expected {expected}", path.display())]
    MissingFolder {
        /// The folder.
        path: PathBuf,
        /// The layout that requires it.
        expected: &'static str,
    },
    /// A split has no images.
    #[error("{}: no images for the {split} split, expected {expected}", path.display())]
    EmptySplit {
        /// The folder or list that was searched for images.
        path: PathBuf,
        /// The split.
        split: Split,
        /// The files or lines that would count as images of the split.
        expected: &'static str,
    },
    /// A folder of identities has no images.
    #[error("{}: no images, expected {expected}", path.display())]
    NoImages {
        /// The folder.
        path: PathBuf,
        /// The files that would count as images.
        expected: &'static str,
    },
    /// The training split has only one identity. Training needs at least two.
    #[error("{}: expected at least 2 identities to train on, found only identity {identity}", path.display())]
    OneIdentity {
        /// The folder or list of the training split.
        path: PathBuf,
        /// The identity.
        identity: Identity,
    },
    /// The file name of an image does not follow the layout.
    #[error("{}: expected a name such as {expected}", path.display())]
    FileName {
        /// The image.
        path: PathBuf,
        /// An example of a valid name.
        expected: &'static str,
    },
    /// A file or folder is invalid, or contradicts another one.
    #[error("{}: expected {expected}, found `{found}`", path.display())]
    Entry {
        /// The file or folder.
        path: PathBuf,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The name of a file or folder is not Unicode.
    ///
    /// Such names are rejected because two of them could become equal when they are converted to text.
    #[error("{}: the name is not valid Unicode: rename the file or folder in UTF-8", path.display())]
    NotUnicode {
        /// The file or folder; the message shows U+FFFD for bytes that are not Unicode.
        path: PathBuf,
    },
    /// Images would be skipped by a function whose result cannot carry notices.
    #[error("{}: expected no skipped image, found: {notice}", path.display())]
    LeftOut {
        /// The folder.
        path: PathBuf,
        /// The images that would be skipped.
        notice: Notice,
    },
    /// The path has no known layout.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Layout {
        /// The folder.
        path: PathBuf,
        /// The files and folders that identify a layout.
        expected: &'static str,
        /// The first entries of the folder.
        found: String,
    },
    /// A list has no column of this name.
    #[error("{}: line 1: expected a column `{column}`{}, found `{found}`", path.display(), separated(found))]
    MissingColumn {
        /// The list.
        path: PathBuf,
        /// The column.
        column: &'static str,
        /// The header.
        found: String,
    },
    /// A field, or a whole line, of a list is invalid.
    #[error("{}: line {line}: expected {expected}, found `{found}`", path.display())]
    Line {
        /// The list.
        path: PathBuf,
        /// The line number, from 1.
        line: u64,
        /// What was expected in this line.
        expected: String,
        /// What was found.
        found: String,
    },
    /// An image of a labelled folder has no entry in the list of labels.
    #[error("{}: no label, expected one in {}", path.display(), labels.display())]
    NoLabel {
        /// The image.
        path: PathBuf,
        /// The list of labels.
        labels: PathBuf,
    },
    /// There are too few identities to hold the requested number out for validation.
    #[error(
        "{}: expected {expected} identities to hold out, each seen by at least 2 cameras, and 2 more \
         identities to train on, found {found} that can be held out",
        path.display()
    )]
    HeldOut {
        /// The list of labels.
        path: PathBuf,
        /// The requested number of identities.
        expected: usize,
        /// The number of identities that can be held out.
        found: usize,
    },
    /// There are fewer identities than a batch needs.
    #[error("a batch needs {expected} identities, the samples have {found}")]
    TooFewIdentities {
        /// The number of identities in a batch.
        expected: usize,
        /// The number of identities among the samples.
        found: usize,
    },
    /// There are fewer images than a batch needs.
    #[error("a batch needs {expected} images, the samples have {found}")]
    TooFewImages {
        /// The number of images in a batch.
        expected: usize,
        /// The number of images among the samples.
        found: usize,
    },
    /// A sampler cannot make batches of these samples.
    #[error("the sampler cannot make batches: {reason}")]
    Sampling {
        /// The reason.
        reason: String,
    },
    /// The class names of an attribute are not in strictly ascending order.
    #[error("class {class} is `{found}`, expected a name that sorts after `{previous}`")]
    AttributeOrder {
        /// The class that is out of order.
        class: usize,
        /// Its name.
        found: String,
        /// The name of the class before it.
        previous: String,
    },
    /// The identities of a class table are not in strictly ascending order.
    #[error("class {class} is identity {found}, expected an identity greater than {previous}")]
    ClassOrder {
        /// The class that is out of order.
        class: usize,
        /// Its identity.
        found: Identity,
        /// The identity of the class before it.
        previous: Identity,
    },
    /// A worker thread could not be started, or panicked.
    #[error("a loader's worker thread failed: {reason}")]
    Worker {
        /// The message of the panic or of the operating system.
        reason: String,
    },
}

/// Lists the first ten boxes that cannot be cropped, one per line.
fn first_problems(problems: &[BoxProblem]) -> String {
    let mut lines: Vec<String> = problems
        .iter()
        .take(10)
        .map(|problem| format!("\n{problem}"))
        .collect();
    if problems.len() > lines.len() {
        lines.push(format!("\nand {} more", problems.len() - lines.len()));
    }
    lines.concat()
}

/// Formats the message and its causes as [`reid_core::debug_error`] does.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        reid_core::debug_error(self, f)
    }
}

/// What a header without commas lacks, in an error message.
fn separated(header: &str) -> &'static str {
    if header.contains([';', '\t']) && !header.contains(',') {
        ", separated by commas"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_is_the_message() {
        let error = Error::Io {
            path: "data/1.jpg".into(),
            source: io::Error::other("no such file"),
        };
        let boxed: Box<dyn std::error::Error> = Box::new(error);
        assert_eq!(format!("{boxed:?}"), "data/1.jpg: no such file");
    }
}
