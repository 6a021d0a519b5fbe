//! The file operations of a save. Each is one step that tests can stop, fail or undo.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

/// The operations of a file system that a save uses.
///
/// Durability follows POSIX: the content of a file survives a power cut after
/// [`sync_file`](Self::sync_file), and the names in a folder (files created, renamed or removed in it)
/// after [`sync_folder`](Self::sync_folder).
pub(crate) trait Files {
    /// Creates one folder, unless it exists.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Writes a file, or replaces its content if it exists.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Waits until the content of a file is on the disk.
    fn sync_file(&self, path: &Path) -> io::Result<()>;
    /// Waits until the names in a folder are on the disk.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Renames a file or folder. An existing file of that name is replaced atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
}

/// The files of the operating system.
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
        // Windows flushes only files that are open for writing.
        File::options().write(true).open(path)?.sync_all()
    }

    /// Does nothing on Windows, which cannot flush a folder.
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

/// Creates a folder and its parents, durably.
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

/// Replaces a file atomically and durably: readers find the complete old or new content.
pub(crate) fn replace(files: &impl Files, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path has no file name",
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
        // The draft is removed because it takes disk space. The first error is the one to report.
        let _ = files.remove_file(&draft);
        return Err(error);
    }
    files.sync_folder(folder)
}
