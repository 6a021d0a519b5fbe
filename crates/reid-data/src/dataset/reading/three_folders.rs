//! Three folders: one per split, with labels in the names of images.

use std::path::{Path, PathBuf};

use reid_core::{Camera, Identity, Sample, Split, Splits};

use super::{check, listing};
use crate::Error;

/// A layout of three folders.
pub(crate) struct ThreeFolders {
    pub(crate) train: &'static str,
    pub(crate) query: &'static str,
    pub(crate) gallery: &'static str,
    /// The folders in words, for error messages.
    pub(crate) layout: &'static str,
    /// A name in words, for error messages.
    pub(crate) name: &'static str,
    /// Identity and camera of a name without its ending.
    pub(crate) parse: fn(&str) -> Option<(Identity, Camera)>,
}

impl ThreeFolders {
    /// The folders of Market-1501, with other names in them.
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

    /// Reads the three folders in `root`, which names the data set.
    pub(crate) fn load(&self, root: &Path) -> Result<Splits, Error> {
        let samples = |split| -> Result<Vec<Sample>, Error> {
            let images = listing::images(&root.join(self.folder(split)), self.layout)?;
            images.into_iter().map(|path| self.sample(path)).collect()
        };
        let splits = Splits {
            name: listing::name(root),
            train: samples(Split::Train)?,
            query: samples(Split::Query)?,
            gallery: samples(Split::Gallery)?,
        };
        check::checked(splits, |split| root.join(self.folder(split)), self.name)
    }

    /// Whether the first training image in `root` has a name of this layout.
    pub(crate) fn names(&self, root: &Path) -> bool {
        let images = listing::images(&root.join(self.train), self.layout).unwrap_or_default();
        let first = images.first().map(|path| listing::stem(path));
        first.is_some_and(|stem| (self.parse)(&stem).is_some())
    }

    /// The folder of a split.
    const fn folder(&self, split: Split) -> &'static str {
        match split {
            Split::Train => self.train,
            Split::Query => self.query,
            Split::Gallery => self.gallery,
        }
    }

    fn sample(&self, path: PathBuf) -> Result<Sample, Error> {
        match (self.parse)(&listing::stem(&path)) {
            Some((identity, camera)) => Ok(Sample::new(path, identity).with_camera(camera)),
            None => Err(Error::FileName {
                path,
                expected: self.name,
            }),
        }
    }
}
