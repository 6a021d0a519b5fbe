//! Listing: what a folder holds, in the order of names.

use std::{
    ffi::OsStr,
    fs::{self, DirEntry, FileType},
    io,
    path::{Path, PathBuf},
};

use crate::Error;

/// Endings of image files, in small letters.
const ENDINGS: [&str; 4] = ["jpg", "jpeg", "png", "bmp"];

/// The images in a folder, by name. Other files, hidden ones and folders are passed over.
pub(crate) fn images(folder: &Path, expected: &'static str) -> Result<Vec<PathBuf>, Error> {
    let mut paths = entries(folder, FileType::is_file, expected)?;
    paths.retain(|path| {
        let ending = path.extension().map(OsStr::to_ascii_lowercase);
        let known = |ending| ENDINGS.iter().any(|&known| ending == known);
        ending.is_some_and(known)
    });
    Ok(paths)
}

/// The folders in a folder, by name. Files and hidden folders are passed over.
pub(crate) fn folders(folder: &Path, expected: &'static str) -> Result<Vec<PathBuf>, Error> {
    entries(folder, FileType::is_dir, expected)
}

/// The last part of a path as text, also of `.` and of what ends in `..`.
pub(crate) fn name(path: &Path) -> String {
    let absolute = fs::canonicalize(path);
    let path = absolute.as_deref().unwrap_or(path);
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// The name of a file without its ending.
pub(crate) fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

/// The name of a file.
pub(crate) fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The folder with `marker` in it: `root`, or what one of these archives unpacks to in it; `root` if
/// none has.
pub(crate) fn unpacked(root: &Path, marker: &str, archives: &[&str]) -> PathBuf {
    let inside = archives.iter().map(|archive| root.join(archive));
    let mut candidates = std::iter::once(root.to_owned()).chain(inside);
    let found = candidates.find(|folder| folder.join(marker).exists());
    found.unwrap_or_else(|| root.to_owned())
}

fn entries(
    folder: &Path,
    kind: fn(&FileType) -> bool,
    expected: &'static str,
) -> Result<Vec<PathBuf>, Error> {
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
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(error)? {
        let entry = entry.map_err(error)?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !hidden && is_kind(&entry, kind).map_err(error)? {
            paths.push(entry.path());
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

/// Whether an entry, or what it links to, is of a kind. The listing itself says so for all but links,
/// and a question per file takes minutes on a network drive.
fn is_kind(entry: &DirEntry, kind: fn(&FileType) -> bool) -> io::Result<bool> {
    let own = entry.file_type()?;
    Ok(if own.is_symlink() {
        fs::metadata(entry.path()).is_ok_and(|target| kind(&target.file_type()))
    } else {
        kind(&own)
    })
}
