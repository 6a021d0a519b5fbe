//! Named: the images that a list names, each there and each named once.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use super::lines::Place;
use crate::Error;

/// The images below a folder that a list has named so far.
///
/// What is there is asked of each folder once: a hundred thousand questions, one per image, take
/// minutes on a network drive.
pub(crate) struct Named {
    root: PathBuf,
    there: HashMap<PathBuf, HashSet<OsString>>,
    taken: HashSet<PathBuf>,
}

impl Named {
    /// No image yet of those below `root`, a folder that the layout `expected` asks for.
    pub(crate) fn below(root: PathBuf, expected: &'static str) -> Result<Self, Error> {
        if !root.is_dir() {
            return Err(Error::MissingFolder {
                path: root,
                expected,
            });
        }
        Ok(Self {
            root,
            there: HashMap::new(),
            taken: HashSet::new(),
        })
    }

    /// The path of the image that the list calls `name`.
    pub(crate) fn take(&mut self, place: Place<'_>, name: &str) -> Result<PathBuf, Error> {
        let path = self.root.join(name);
        if !self.is_there(&path)? {
            let expected = format!("an image file in `{}`", self.root.display());
            return Err(place.wrong(expected, name));
        }
        if !self.taken.insert(path.clone()) {
            return Err(place.wrong("an image that no line before names", name));
        }
        Ok(path)
    }

    fn is_there(&mut self, path: &Path) -> Result<bool, Error> {
        let (Some(folder), Some(file)) = (path.parent(), path.file_name()) else {
            return Ok(false);
        };
        if !self.there.contains_key(folder) {
            self.there.insert(folder.to_owned(), files(folder)?);
        }
        Ok(self.there[folder].contains(file))
    }
}

/// The names of the files in a folder; none where there is no folder.
fn files(folder: &Path) -> Result<HashSet<OsString>, Error> {
    if !folder.is_dir() {
        return Ok(HashSet::new());
    }
    let error = |source| Error::Io {
        path: folder.to_owned(),
        source,
    };
    let mut names = HashSet::new();
    for entry in fs::read_dir(folder).map_err(error)? {
        let entry = entry.map_err(error)?;
        if !entry.file_type().map_err(error)?.is_dir() {
            names.insert(entry.file_name());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_there_and_named_once() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("7")).unwrap();
        fs::write(root.path().join("7/1.jpg"), "").unwrap();
        let mut named = Named::below(root.path().to_owned(), "a layout").unwrap();
        let mut take = |line, name| {
            let list = Path::new("list.txt");
            let taken = named.take(Place { list, line }, name);
            taken.map_err(|error| error.to_string())
        };
        assert_eq!(take(1, "7/1.jpg"), Ok(root.path().join("7/1.jpg")));
        for (line, name, expected) in [
            (
                2,
                "7/1.jpg",
                "list.txt: line 2: expected an image that no line before names, found `7/1.jpg`",
            ),
            (3, "7/2.jpg", "`, found `7/2.jpg`"),
            (4, "8/1.jpg", "`, found `8/1.jpg`"),
            (5, "", "`, found ``"),
            (6, "..", "`, found `..`"),
            (7, "7", "`, found `7`"),
        ] {
            let message = take(line, name).expect_err(name);
            assert!(message.ends_with(expected), "{message}");
        }
        assert!(Named::below(root.path().join("none"), "a layout").is_err());
    }
}
