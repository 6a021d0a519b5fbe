//! Lists the images or folders in a folder, sorted by name, and counts the skipped entries.

use std::{
    fs::{self, DirEntry, FileType},
    path::{Path, PathBuf},
};

use super::notices::Notices;
use crate::{Error, FileKind, file_kind};

/// Files that operating systems create in folders, in lower case. They are skipped without a notice.
const CLUTTER: [&str; 3] = ["thumbs.db", "desktop.ini", "icon\r"];

/// The images in a folder, sorted by name. Folders and other files are counted as skipped.
///
/// Hidden files that are not images and files in [`CLUTTER`] are skipped without a notice.
pub(crate) fn images(
    folder: &Path,
    expected: &'static str,
    notices: &mut Notices,
) -> Result<Vec<PathBuf>, Error> {
    let mut images = Vec::new();
    for (path, kind) in entries(folder, expected)? {
        match file_kind(&path) {
            _ if is_hidden(&path) => hidden(&path, kind, notices),
            _ if kind.is_dir() => notices.image("folders where images are expected", &path),
            FileKind::Readable if kind.is_file() => images.push(path),
            _ => other(&path, notices),
        }
    }
    Ok(images)
}

/// The folders in a folder, sorted by name. Files and hidden folders are counted as skipped, with the same
/// exceptions as in [`images`].
pub(crate) fn folders(
    folder: &Path,
    expected: &'static str,
    notices: &mut Notices,
) -> Result<Vec<PathBuf>, Error> {
    let mut folders = Vec::new();
    for (path, kind) in entries(folder, expected)? {
        match file_kind(&path) {
            _ if is_hidden(&path) => hidden(&path, kind, notices),
            _ if kind.is_dir() => folders.push(path),
            FileKind::Readable => notices.image("images outside the identity folders", &path),
            _ => other(&path, notices),
        }
    }
    Ok(folders)
}

fn hidden(path: &Path, kind: FileType, notices: &mut Notices) {
    if kind.is_dir() || file_kind(path) != FileKind::Other {
        notices.other("hidden files and folders", path);
    }
}

fn other(path: &Path, notices: &mut Notices) {
    let name = file_name(path).to_lowercase();
    match file_kind(path) {
        FileKind::UnreadableImage(format) => {
            let reason =
                format!("{format} images, which are not supported (convert them to JPEG or PNG)");
            notices.image(&reason, path);
        }
        FileKind::Readable => notices.image("entries that are neither files nor folders", path),
        FileKind::Other if CLUTTER.contains(&name.as_str()) => {}
        FileKind::Other => notices.other("files without an image extension", path),
    }
}

fn is_hidden(path: &Path) -> bool {
    file_name(path).starts_with('.')
}

/// The last component of a path as text. Paths such as `.` or `a/..` are resolved first.
pub(crate) fn name(path: &Path) -> String {
    let absolute = fs::canonicalize(path);
    let path = absolute.as_deref().unwrap_or(path);
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// The name of a listed file without its extension.
pub(crate) fn stem(path: &Path) -> &str {
    path.file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default()
}

/// The name of a listed file or folder.
pub(crate) fn file_name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

/// Finds the folder that contains `marker`.
///
/// It is `root` itself, a subfolder of `root` named after one of the archives, or a subfolder of that, again
/// named after an archive. The result is `root` if no such folder contains `marker`.
pub(crate) fn unpacked(root: &Path, marker: &str, archives: &[&str]) -> PathBuf {
    let inside = |folder: &Path| -> Vec<PathBuf> {
        archives
            .iter()
            .map(|archive| folder.join(archive))
            .collect()
    };
    let once = inside(root);
    let twice = once.iter().flat_map(|folder| inside(folder));
    let mut candidates = std::iter::once(root.to_owned())
        .chain(once.iter().cloned())
        .chain(twice);
    let found = candidates.find(|folder| folder.join(marker).exists());
    found.unwrap_or_else(|| root.to_owned())
}

/// The entries of a folder, sorted by name, with the file types of the targets of links.
///
/// A name that is not Unicode is an error because two such names could become equal as text. A broken link is
/// an error because an image or a whole identity would be missing silently.
fn entries(folder: &Path, expected: &'static str) -> Result<Vec<(PathBuf, FileType)>, Error> {
    if !folder.is_dir() {
        return Err(Error::MissingFolder {
            path: folder.to_owned(),
            expected,
        });
    }
    let error = |source| Error::Io {
        path: folder.to_owned(),
        source,
    };
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(error)? {
        let entry = entry.map_err(error)?;
        if entry.file_name().to_str().is_none() {
            return Err(Error::NotUnicode { path: entry.path() });
        }
        if let Some(kind) = kind(&entry)? {
            entries.push((entry.path(), kind));
        }
    }
    entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(entries)
}

/// The file type of an entry, or of the target of a link; `None` for a broken hidden link, as editors create.
///
/// The listing already has the types of all entries except links. A metadata call per file would take minutes
/// on a network drive.
fn kind(entry: &DirEntry) -> Result<Option<FileType>, Error> {
    let path = entry.path();
    let own = entry.file_type().map_err(|source| Error::Io {
        path: path.clone(),
        source,
    })?;
    if !own.is_symlink() {
        return Ok(Some(own));
    }
    match fs::metadata(&path) {
        Ok(target) => Ok(Some(target.file_type())),
        Err(_) if is_hidden(&path) => Ok(None),
        Err(error) => Err(Error::Entry {
            expected: "a link to an existing file or folder".into(),
            found: match fs::read_link(&path) {
                Ok(target) => format!("{} ({error})", target.display()),
                Err(_) => error.to_string(),
            },
            path,
        }),
    }
}

#[cfg(test)]
mod tests {
    use reid_core::Notice;

    use super::*;
    use crate::dataset::testing::tree;

    fn noticed(notices: Notices) -> Vec<(String, usize)> {
        let notices = notices.into_vec().into_iter();
        notices
            .map(|Notice { reason, count, .. }| (reason, count))
            .collect()
    }

    #[test]
    fn skipped_files_of_a_folder_are_counted() {
        let root = tree::with_files(&[
            "b.PNG",
            "a.jpg",
            "c.heic",
            "d.avif",
            "e.HEIC",
            "f.txt",
            "g",
            "Thumbs.db",
            ".DS_Store",
            "._a.jpg",
            "h/i.jpg",
        ]);
        let mut notices = Notices::default();
        let images = images(root.path(), "a folder", &mut notices).unwrap();
        assert_eq!(
            images,
            ["a.jpg", "b.PNG"].map(|name| root.path().join(name))
        );
        assert_eq!(
            noticed(notices),
            [
                (
                    "skipped AVIF images, which are not supported (convert them to JPEG or PNG)",
                    1
                ),
                (
                    "skipped HEIC images, which are not supported (convert them to JPEG or PNG)",
                    2
                ),
                ("skipped folders where images are expected", 1),
                ("skipped files without an image extension", 2),
                ("skipped hidden files and folders", 1),
            ]
            .map(|(reason, count)| (reason.to_owned(), count))
        );

        let mut notices = Notices::default();
        let folders = folders(root.path(), "a folder", &mut notices).unwrap();
        assert_eq!(folders, [root.path().join("h")]);
        assert!(
            noticed(notices)
                .contains(&("skipped images outside the identity folders".to_owned(), 2))
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_broken_link_and_a_name_that_is_not_unicode_are_rejected() {
        use std::{
            ffi::OsStr,
            os::unix::{ffi::OsStrExt, fs::symlink},
        };

        let root = tree::with_files(&["a.jpg"]);
        symlink("a.jpg", root.path().join("b.jpg")).unwrap();
        symlink("gone", root.path().join(".#a.jpg")).unwrap();
        let list = || images(root.path(), "a folder", &mut Notices::default());
        assert_eq!(list().unwrap().len(), 2);

        let dangling = root.path().join("c.jpg");
        symlink("gone.jpg", &dangling).unwrap();
        let message = list().expect_err("a broken link").to_string();
        assert!(
            message.contains(
                "c.jpg: expected a link to an existing file or folder, found `gone.jpg ("
            )
        );
        fs::remove_file(dangling).unwrap();

        // Some file systems do not allow such names.
        if fs::write(root.path().join(OsStr::from_bytes(b"Andr\xe9.jpg")), "").is_ok() {
            let message = list().expect_err("not Unicode").to_string();
            assert!(
                message.contains("Andr\u{fffd}.jpg: the name is not valid Unicode"),
                "{message}"
            );
        }
    }

    #[test]
    fn an_archive_may_be_unpacked_into_a_folder_with_its_own_name() {
        let root = tree::with_files(&["B/A/marker"]);
        let unpacked = |folder: &Path| unpacked(folder, "marker", &["A", "B"]);
        for folder in [root.path().to_owned(), root.path().join("B")] {
            assert_eq!(unpacked(&folder), root.path().join("B/A"));
        }
        assert_eq!(unpacked(&root.path().join("C")), root.path().join("C"));
    }
}
