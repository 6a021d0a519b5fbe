//! Named: the images that lists name, each once, for one person and on one side.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    fs,
    path::{Component, Path, PathBuf},
};

use reid_core::{Camera, Split};

use super::lines::Place;
use crate::Error;

/// What a line says of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) split: Split,
    pub(crate) identity: String,
    pub(crate) camera: Option<Camera>,
}

/// What lines have said of images so far.
///
/// An image may be a query and in the gallery as well. What else is said twice is a contradiction, or
/// counts an image double.
#[derive(Default)]
pub(crate) struct Claims {
    lists: Vec<PathBuf>,
    /// One of each image in each split.
    of: HashMap<PathBuf, Vec<(usize, u64, Claim)>>,
}

impl Claims {
    /// Notes what a line says of the image at `path`, which it calls `name`.
    pub(crate) fn note(
        &mut self,
        place: Place<'_>,
        path: &Path,
        name: &str,
        claim: Claim,
    ) -> Result<(), Error> {
        let claims = self.of.entry(plain(path)).or_default();
        for (list, line, first) in claims.iter() {
            let list = self.lists[*list].file_name().unwrap_or_default();
            let before = format!("line {line} of {}", list.display());
            if let Some(expected) = contradiction(first, &claim, &before) {
                return Err(place.wrong(expected, name));
            }
        }
        if self.lists.last().is_none_or(|list| list != place.list) {
            self.lists.push(place.list.to_owned());
        }
        claims.push((self.lists.len() - 1, place.line, claim));
        Ok(())
    }
}

/// What would be right instead of a second line about an image, if anything is wrong with it.
fn contradiction(first: &Claim, second: &Claim, before: &str) -> Option<String> {
    let Claim {
        split,
        identity,
        camera,
    } = first;
    Some(if *identity != second.identity {
        format!("an image of identity `{identity}`, as {before} says")
    } else if *split == second.split {
        format!("an image that is named once, not in {before} too")
    } else if [*split, second.split].contains(&Split::Train) {
        format!("an image that is not in {split} too, as {before} says")
    } else if *camera != second.camera {
        let camera = camera.map_or("no camera".into(), |camera| format!("camera {camera}"));
        format!("an image by {camera}, as {before} says")
    } else {
        return None;
    })
}

/// A path without `.`, and without `..` where that is clear from the path alone.
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

/// The images below a folder that lists have named so far.
///
/// What is there is asked of each folder once: a hundred thousand questions, one per image, take
/// minutes on a network drive.
pub(crate) struct Named {
    root: PathBuf,
    there: HashMap<PathBuf, HashSet<OsString>>,
    claims: Claims,
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
            claims: Claims::default(),
        })
    }

    /// The path of the image that the list calls `name`.
    pub(crate) fn take(
        &mut self,
        place: Place<'_>,
        name: &str,
        claim: Claim,
    ) -> Result<PathBuf, Error> {
        let path = self.root.join(name);
        if !self.is_there(&path)? {
            let expected = format!("an image file in `{}`", self.root.display());
            return Err(place.wrong(expected, name));
        }
        self.claims.note(place, &path, name, claim)?;
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

/// The names of the files in a folder; none where there is no folder. A link counts if it leads to a file.
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
    fn images_are_there_and_named_once() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("7")).unwrap();
        fs::write(root.path().join("7/1.jpg"), "").unwrap();
        let mut named = Named::below(root.path().to_owned(), "a layout").unwrap();
        let mut take = |line, name| {
            let list = Path::new("list.txt");
            let taken = named.take(Place { list, line }, name, claim(Split::Train, "7", 1));
            taken.map_err(|error| error.to_string())
        };
        assert_eq!(take(1, "7/1.jpg"), Ok(root.path().join("7/1.jpg")));
        for (line, name, expected) in [
            (
                2,
                "7/1.jpg",
                "list.txt: line 2: expected an image that is named once, not in line 1 of list.txt too, found `7/1.jpg`",
            ),
            (
                3,
                "./7/../7/1.jpg",
                "line 1 of list.txt too, found `./7/../7/1.jpg`",
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
    fn two_lines_may_not_contradict_each_other() {
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
                Some("an image that is not in query too, as line 3 of one.txt says"),
            ),
            (
                claim(Split::Query, "7", 1),
                Some("an image that is named once, not in line 3 of one.txt too"),
            ),
            (
                claim(Split::Gallery, "7", 2),
                Some("an image by camera c1, as line 3 of one.txt says"),
            ),
        ] {
            let mut claims = Claims::default();
            let mut note = |list, line, claim| {
                let noted = claims.note(Place { list, line }, Path::new("i.jpg"), "i", claim);
                noted.map_err(|error| error.to_string())
            };
            note(list, 3, first.clone()).unwrap();
            let expected = expected
                .map(|expected| format!("a/two.txt: line 5: expected {expected}, found `i`"));
            assert_eq!(note(other, 5, second).err(), expected);
        }
    }

    #[test]
    fn an_image_is_named_once_in_the_gallery_also_if_it_is_a_query() {
        let list = Path::new("list.txt");
        let mut claims = Claims::default();
        let mut note = |line, split| {
            let noted = claims.note(
                Place { list, line },
                Path::new("i.jpg"),
                "i",
                claim(split, "7", 1),
            );
            noted.map_err(|error| error.to_string())
        };
        note(1, Split::Query).unwrap();
        note(2, Split::Gallery).unwrap();
        let error = note(3, Split::Gallery).expect_err("twice in the gallery");
        let expected = "line 3: expected an image that is named once, not in line 2 of list.txt too, found `i`";
        assert!(error.ends_with(expected), "{error}");
    }
}
