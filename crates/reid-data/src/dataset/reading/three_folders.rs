//! Loads layouts with one folder per split and the labels in the file names.

use std::path::{Path, PathBuf};

use reid_core::{Camera, Identity, Sample, Split, Splits};

use super::{check, identities::Spellings, listing, notices::Notices};
use crate::Error;

/// A layout with one folder per split.
pub(crate) struct ThreeFolders {
    pub(crate) train: &'static str,
    pub(crate) query: &'static str,
    pub(crate) gallery: &'static str,
    /// The layout and its folders, for error messages.
    pub(crate) layout: &'static str,
    /// An example of a file name and its fields, for error messages.
    pub(crate) name: &'static str,
    /// Parses the identity and the camera of a file name without its extension.
    pub(crate) parse: fn(&str) -> Option<(Identity, Camera)>,
}

impl ThreeFolders {
    /// The folders of Market-1501, with another format of file names.
    pub(crate) const fn market(
        layout: &'static str,
        name: &'static str,
        parse: fn(&str) -> Option<(Identity, Camera)>,
    ) -> Self {
        Self {
            train: "bounding_box_train",
            query: "query",
            gallery: "bounding_box_test",
            layout,
            name,
            parse,
        }
    }

    /// Loads the three folders in `root`. The dataset is named after `root`.
    pub(crate) fn load(&self, root: &Path) -> Result<Splits, Error> {
        let mut notices = Notices::default();
        let mut spellings = Spellings::default();
        let mut samples = |split| -> Result<Vec<Sample>, Error> {
            let images =
                listing::images(&root.join(self.folder(split)), self.layout, &mut notices)?;
            let sample = |path| self.sample(path, &mut spellings);
            images.into_iter().map(sample).collect()
        };
        let splits = Splits::new(listing::name(root))
            .with_train(samples(Split::Train)?)
            .with_query(samples(Split::Query)?)
            .with_gallery(samples(Split::Gallery)?)
            .with_layout(self.layout.split(':').next().unwrap_or_default())
            .with_notices(notices.into_vec());
        check::checked(splits, |split| root.join(self.folder(split)), self.name)
    }

    /// For each layout, counts the images in a folder whose names follow it.
    pub(crate) fn names<const N: usize>(layouts: &[Self; N], folder: &Path) -> [usize; N] {
        let images = listing::images(folder, "a folder of images", &mut Notices::default());
        let images = images.unwrap_or_default();
        let parsed = |layout: &Self| {
            let stems = images.iter().map(|path| listing::stem(path));
            stems.filter(|stem| (layout.parse)(stem).is_some()).count()
        };
        layouts.each_ref().map(parsed)
    }

    /// The folder of a split.
    const fn folder(&self, split: Split) -> &'static str {
        match split {
            Split::Train => self.train,
            Split::Query => self.query,
            Split::Gallery => self.gallery,
        }
    }

    fn sample(&self, path: PathBuf, spellings: &mut Spellings) -> Result<Sample, Error> {
        let stem = listing::stem(&path);
        let Some((identity, camera)) = (self.parse)(stem) else {
            return Err(Error::FileName {
                path,
                expected: self.name,
            });
        };
        let label = stem.split('_').next().unwrap_or_default();
        let noted = spellings.check(label, || path.display().to_string());
        match noted {
            Ok(()) => Ok(Sample::new(path, identity).with_camera(camera)),
            Err(expected) => Err(Error::Entry {
                found: label.to_owned(),
                path,
                expected,
            }),
        }
    }
}
