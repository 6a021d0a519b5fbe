//! Checks the images that lists name: each exists, is listed once per split, and has one identity and camera.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    fs,
    path::{Component, Path, PathBuf},
};

use reid_core::{Camera, Split};

use super::lines::Location;
use crate::Error;

/// The split, identity and camera that a line gives to an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) split: Split,
    pub(crate) identity: String,
    pub(crate) camera: Option<Camera>,
}

/// The claims of the lines read so far.
///
/// An image may be both a query and in the gallery. Any other second line about an image is an error: it
/// contradicts the first, or counts the image twice.
#[derive(Default)]
pub(crate) struct Claims {
    lists: Vec<PathBuf>,
    /// The claims about each image, at most one for each split, with the list (an index) and the line.
    by_image: HashMap<PathBuf, Vec<(usize, u64, Claim)>>,
}

impl Claims {
    /// Records the claim of a line about the image at `path`, which the line calls `name`.
    ///
    /// # Errors
    /// [`Error::Line`] if an earlier line contradicts the claim or lists the image in the same split.
    pub(crate) fn note(
        &mut self,
        location: Location<'_>,
        path: &Path,
        name: &str,
        claim: Claim,
    ) -> Result<(), Error> {
        let claims = self.by_image.entry(plain(path)).or_default();
        for (list, line, first) in claims.iter() {
            let list = self.lists[*list].file_name().unwrap_or_default();
            let before = format!("line {line} of {}", list.display());
            if let Some(expected) = contradiction(first, &claim, &before) {
                return Err(location.wrong(expected, name));
            }
        }
        if self.lists.last().is_none_or(|list| list != location.list) {
            self.lists.push(location.list.to_owned());
        }
        claims.push((self.lists.len() - 1, location.line, claim));
        Ok(())
    }
}

/// The text of what was expected instead of the second claim; `None` if both claims are valid.
fn contradiction(first: &Claim, second: &Claim, before: &str) -> Option<String> {
    let Claim {
        split,
        identity,
        camera,
    } = first;
    Some(if *identity != second.identity {
        format!("an image of identity `{identity}`, as {before} says")
    } else if *split == second.split {
        format!("an image that is not already listed in {before}")
    } else if [*split, second.split].contains(&Split::Train) {
        format!("an image that is not also in the {split} split ({before})")
    } else if *camera != second.camera {
        let camera = camera.map_or("no camera".into(), |camera| format!("camera {camera}"));
        format!("an image from {camera}, as {before} says")
    } else {
        return None;
    })
}

/// Removes `.` from a path, and resolves `..` where the path has a parent component.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if plain.file_name().is_some() => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

/// The images in a folder and its subfolders, with the claims of lists about them.
///
/// Each folder is listed once. A metadata call for each of a hundred thousand images would take minutes on a
/// network drive.
pub(crate) struct Named {
    root: PathBuf,
    listings: HashMap<PathBuf, HashSet<OsString>>,
    claims: Claims,
}

impl Named {
    /// Starts without claims about the images below `root`, a folder that the layout `expected` requires.
    ///
    /// # Errors
    /// [`Error::MissingFolder`] if `root` is not a folder.
    pub(crate) fn below(root: PathBuf, expected: &'static str) -> Result<Self, Error> {
        if !root.is_dir() {
            return Err(Error::MissingFolder {
                path: root,
                expected,
            });
        }
        Ok(Self {
            root,
            listings: HashMap::new(),
            claims: Claims::default(),
        })
    }

    /// Records the claim of a line about the image `name`, and returns the path of the image.
    ///
    /// # Errors
    /// [`Error::Line`] if the image does not exist or [`Claims::note`] rejects the claim, and [`Error::Io`].
    pub(crate) fn take(
        &mut self,
        location: Location<'_>,
        name: &str,
        claim: Claim,
    ) -> Result<PathBuf, Error> {
        let path = self.root.join(name);
        // Absolute paths and `..` can lead outside, such as from the training to the test images.
        let inside = plain(&path).starts_with(plain(&self.root));
        if !inside || !self.exists(&path)? {
            let expected = format!("an image file in `{}`", self.root.display());
            return Err(location.wrong(expected, name));
        }
        self.claims.note(location, &path, name, claim)?;
        Ok(path)
    }

    fn exists(&mut self, path: &Path) -> Result<bool, Error> {
        let (Some(folder), Some(file)) = (path.parent(), path.file_name()) else {
            return Ok(false);
        };
        if !self.listings.contains_key(folder) {
            self.listings.insert(folder.to_owned(), files(folder)?);
        }
        Ok(self.listings[folder].contains(file))
    }
}

/// The names of the files in a folder; empty if there is no such folder. Links to files are included.
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
        let kind = entry.file_type().map_err(error)?;
        if kind.is_file() || kind.is_symlink() && entry.path().is_file() {
            names.insert(entry.file_name());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(split: Split, identity: &str, camera: u32) -> Claim {
        Claim {
            split,
            identity: identity.to_owned(),
            camera: Some(Camera::new(camera)),
        }
    }

    #[test]
    fn each_image_must_exist_and_be_listed_once() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("7")).unwrap();
        fs::write(root.path().join("7/1.jpg"), "").unwrap();
        // Found by fuzzing: an absolute path in a list of training images that named a test image.
        let other = tempfile::NamedTempFile::new().unwrap();
        let beside = Path::new("..").join(other.path().file_name().unwrap());
        let outside = [other.path(), &beside].map(|path| path.to_str().unwrap().to_owned());
        let mut named = Named::below(root.path().to_owned(), "a layout").unwrap();
        let mut take = |line, name| {
            let list = Path::new("list.txt");
            let taken = named.take(Location { list, line }, name, claim(Split::Train, "7", 1));
            taken.map_err(|error| error.to_string())
        };
        assert_eq!(take(1, "7/1.jpg"), Ok(root.path().join("7/1.jpg")));
        for name in &outside {
            let error = take(1, name).unwrap_err();
            assert!(error.contains("expected an image file in"), "{error}");
        }
        for (line, name, expected) in [
            (
                2,
                "7/1.jpg",
                "list.txt: line 2: expected an image that is not already listed in line 1 of list.txt, \
                 found `7/1.jpg`",
            ),
            (
                3,
                "./7/../7/1.jpg",
                "line 1 of list.txt, found `./7/../7/1.jpg`",
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

    #[test]
    fn contradicting_lines_are_rejected() {
        let [list, other] = ["a/one.txt", "a/two.txt"].map(Path::new);
        let first = claim(Split::Query, "7", 1);
        for (second, expected) in [
            (claim(Split::Gallery, "7", 1), None),
            (
                claim(Split::Gallery, "8", 1),
                Some("an image of identity `7`, as line 3 of one.txt says"),
            ),
            (
                claim(Split::Train, "7", 1),
                Some("an image that is not also in the query split (line 3 of one.txt)"),
            ),
            (
                claim(Split::Query, "7", 1),
                Some("an image that is not already listed in line 3 of one.txt"),
            ),
            (
                claim(Split::Gallery, "7", 2),
                Some("an image from camera c1, as line 3 of one.txt says"),
            ),
        ] {
            let mut claims = Claims::default();
            let mut note = |list, line, claim| {
                let noted = claims.note(Location { list, line }, Path::new("i.jpg"), "i", claim);
                noted.map_err(|error| error.to_string())
            };
            note(list, 3, first.clone()).unwrap();
            let expected = expected
                .map(|expected| format!("a/two.txt: line 5: expected {expected}, found `i`"));
            assert_eq!(note(other, 5, second).err(), expected);
        }
    }

    #[test]
    fn a_query_may_be_listed_once_more_in_the_gallery() {
        let list = Path::new("list.txt");
        let mut claims = Claims::default();
        let mut note = |line, split| {
            let noted = claims.note(
                Location { list, line },
                Path::new("i.jpg"),
                "i",
                claim(split, "7", 1),
            );
            noted.map_err(|error| error.to_string())
        };
        note(1, Split::Query).unwrap();
        note(2, Split::Gallery).unwrap();
        let error = note(3, Split::Gallery).expect_err("twice in the gallery");
        let expected =
            "line 3: expected an image that is not already listed in line 2 of list.txt, found `i`";
        assert!(error.ends_with(expected), "{error}");
    }
}
