//! Error: what the world can get wrong, each with the place where it did.

use std::{fmt, io, path::PathBuf};

use reid_core::{Identity, Notice, Split};

/// What can go wrong with data: every message names the place, what was expected and what was
/// found, and includes the message of its cause.
///
/// ```
/// use reid_data::{Error, dataset::market1501};
///
/// let error = market1501::load("no/such/folder").expect_err("there is none");
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
        /// What the operating system says.
        source: io::Error,
    },
    /// An image file is damaged or truncated, or an image cannot be written.
    #[error("{}: {source}", path.display())]
    Image {
        /// The image file.
        path: PathBuf,
        /// What the codec says.
        source: image::ImageError,
    },
    /// A file is no image, or one of a kind that is not read.
    #[error("{}: expected {expected}, found {found}", path.display())]
    ImageFormat {
        /// The file.
        path: PathBuf,
        /// What is read.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// An image declares more pixels than are read, or more than there is memory for.
    #[error(
        "{}: expected an image of at most {limit} pixels that memory has room for, found {width} x {height} declared",
        path.display()
    )]
    ImageSize {
        /// The image file.
        path: PathBuf,
        /// Columns that it declares.
        width: u64,
        /// Rows that it declares.
        height: u64,
        /// The most pixels that are read.
        limit: u64,
    },
    /// A folder that the layout asks for is not there.
    #[error("{}: no such folder, expected {expected}", path.display())]
    MissingFolder {
        /// The folder.
        path: PathBuf,
        /// The layout that asks for it.
        expected: &'static str,
    },
    /// A split has no images.
    #[error("{}: no images for the {split} split, expected {expected}", path.display())]
    EmptySplit {
        /// Where they were looked for.
        path: PathBuf,
        /// The split.
        split: Split,
        /// What would count as one.
        expected: &'static str,
    },
    /// A folder of identities has no images.
    #[error("{}: no images, expected {expected}", path.display())]
    NoImages {
        /// The folder.
        path: PathBuf,
        /// What would count as one.
        expected: &'static str,
    },
    /// A training split shows one identity only: there is nobody to tell it from.
    #[error("{}: expected at least 2 identities to train on, found only {identity}", path.display())]
    OneIdentity {
        /// Where the training split is.
        path: PathBuf,
        /// The identity.
        identity: Identity,
    },
    /// The name of an image does not follow the layout.
    #[error("{}: expected a name such as {expected}", path.display())]
    FileName {
        /// The image.
        path: PathBuf,
        /// An example of a name that does.
        expected: &'static str,
    },
    /// A file or folder is not what it should be, or says what contradicts another.
    #[error("{}: expected {expected}, found `{found}`", path.display())]
    Entry {
        /// The file or folder.
        path: PathBuf,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The name of a file or folder is not Unicode, so that two names could become one.
    #[error("{}: the name is not Unicode: rename it in UTF-8", path.display())]
    NotUnicode {
        /// The file or folder, with U+FFFD for what is not Unicode.
        path: PathBuf,
    },
    /// Images would be left out, and the result has no place to say so.
    #[error("{}: expected nothing to leave out, found {notice}", path.display())]
    LeftOut {
        /// The folder.
        path: PathBuf,
        /// What would be left out.
        notice: Notice,
    },
    /// No known layout is there.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Layout {
        /// The folder.
        path: PathBuf,
        /// What would tell a layout.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A list has no column of this name.
    #[error("{}: line 1: expected a column `{column}`, found `{found}`", path.display())]
    MissingColumn {
        /// The list.
        path: PathBuf,
        /// The column.
        column: &'static str,
        /// The header.
        found: String,
    },
    /// A field, or a whole line, of a list is not what it should be.
    #[error("{}: line {line}: expected {expected}, found `{found}`", path.display())]
    Line {
        /// The list.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// What should stand there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// An image of a labelled folder is not among the labels.
    #[error("{}: no label, expected one in {}", path.display(), labels.display())]
    NoLabel {
        /// The image.
        path: PathBuf,
        /// The list of labels.
        labels: PathBuf,
    },
    /// Too few identities to hold some out for validation.
    #[error(
        "{}: expected {expected} identities seen by 2 cameras or more to hold out and 2 others to \
         train on, found {found} to hold out",
        path.display()
    )]
    HeldOut {
        /// The list of labels.
        path: PathBuf,
        /// How many were asked for.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// There are fewer identities than a batch needs.
    #[error("a batch needs {expected} identities, the samples have {found}")]
    TooFewIdentities {
        /// Identities in a batch.
        expected: usize,
        /// Identities among the samples.
        found: usize,
    },
    /// There are fewer images than a batch needs.
    #[error("a batch needs {expected} images, the samples have {found}")]
    TooFewImages {
        /// Images in a batch.
        expected: usize,
        /// Images among the samples.
        found: usize,
    },
    /// A sampler cannot make batches of these samples.
    #[error("the sampler cannot make batches: {reason}")]
    Sampling {
        /// Why not.
        reason: String,
    },
    /// The class names of an attribute are not in strictly ascending order.
    #[error("class {class} is `{found}`, expected a name after `{previous}`")]
    AttributeOrder {
        /// The class that is out of order.
        class: usize,
        /// Its name.
        found: String,
        /// The name of the class before it.
        previous: String,
    },
    /// A table of classes is not in strictly ascending order.
    #[error("class {class} is identity {found}, expected one greater than {previous}")]
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

/// The message and its causes, as [`reid_core::debug_error`] writes them.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        reid_core::debug_error(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_ends_with_an_error_prints_its_message() {
        let error = Error::Io {
            path: "data/1.jpg".into(),
            source: io::Error::other("no such file"),
        };
        let boxed: Box<dyn std::error::Error> = Box::new(error);
        assert_eq!(format!("{boxed:?}"), "data/1.jpg: no such file");
    }
}
