//! The operations on files that a save consists of, one system call each, so that tests can stop, fail or
//! undo any of them.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

/// What a save asks of a file system.
///
/// Durability follows POSIX: the content of a file survives a power cut after [`sync_file`](Self::sync_file),
/// and the names in a folder (files made, renamed or removed in it) after [`sync_folder`](Self::sync_folder).
pub(crate) trait Files {
    /// Makes one folder; one that is there already is kept.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes a file with this content, or replaces the content of the one that is there.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Waits until the content of a file is on the disk.
    fn sync_file(&self, path: &Path) -> io::Result<()>;
    /// Waits until the names in a folder are on the disk.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Gives a file or folder another name; a file of that name is replaced, at once.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
}

/// The operating system's files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disk;

impl Files for Disk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            result => result,
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        File::create(path)?.write_all(bytes)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        // Windows flushes only what is open for writing.
        File::options().write(true).open(path)?.sync_all()
    }

    /// Does nothing on Windows, which has no such call.
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        if cfg!(unix) {
            File::open(path)?.sync_all()?;
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }
}

/// Makes a folder and those above it, durably.
pub(crate) fn create_folders(files: &impl Files, path: &Path) -> io::Result<()> {
    if path.is_dir() || path.as_os_str().is_empty() {
        return Ok(());
    }
    let above = match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    create_folders(files, above)?;
    files.create_folder(path)?;
    files.sync_folder(above)
}

/// Replaces a file, durably: whoever reads it finds the old content or the new one, whole.
pub(crate) fn replace(files: &impl Files, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path names no file",
        ));
    };
    let mut draft = std::ffi::OsString::from(".");
    draft.push(name);
    draft.push(".draft");
    let draft = folder.join(draft);
    let written = files
        .write(&draft, bytes)
        .and_then(|()| files.sync_file(&draft))
        .and_then(|()| files.rename(&draft, path));
    if let Err(error) = written {
        // The first error is the one to report. The draft is in nobody's way but takes room.
        let _ = files.remove_file(&draft);
        return Err(error);
    }
    files.sync_folder(folder)
}
