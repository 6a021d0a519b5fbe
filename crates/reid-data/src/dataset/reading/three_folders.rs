//! Three folders: one per split, with labels in the names of images.

use std::path::{Path, PathBuf};

use reid_core::{Camera, Identity, Sample, Split, Splits};

use super::{check, identities::Spellings, listing, notices::Notices};
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

    /// How many images in a folder have a name of each of these layouts.
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
