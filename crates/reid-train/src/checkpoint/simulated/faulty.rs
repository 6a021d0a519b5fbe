//! A simulated disk with faults.

use std::{
    cell::{Cell, RefCell},
    io,
    path::{Path, PathBuf},
};

use super::super::files::{Disk, Files};

/// One operation of a save.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    CreateFolder(PathBuf),
    Write(PathBuf, Vec<u8>),
    SyncFile(PathBuf),
    SyncFolder(PathBuf),
    Rename(PathBuf, PathBuf),
    RemoveFile(PathBuf),
    RemoveFolder(PathBuf),
}

impl Operation {
    pub(super) fn apply(&self) -> io::Result<()> {
        match self {
            Self::CreateFolder(path) => Disk.create_folder(path),
            Self::Write(path, bytes) => Disk.write(path, bytes),
            // Flushes are slow, and make no difference without a power cut.
            Self::SyncFile(_) | Self::SyncFolder(_) => Ok(()),
            Self::Rename(from, to) => Disk.rename(from, to),
            Self::RemoveFile(path) => Disk.remove_file(path),
            Self::RemoveFolder(path) => Disk.remove_folder(path),
        }
    }
}

/// A disk that records its operations and fails at chosen ones.
#[derive(Default)]
pub(super) struct Faulty {
    pub(super) operations: RefCell<Vec<Operation>>,
    /// The index of the operation that fails, from 0, and whether all later operations fail too.
    pub(super) fails: Option<(usize, bool)>,
    /// The number of bytes that can still be written. A longer write writes these bytes and fails.
    pub(super) room: Option<Cell<usize>>,
}

impl Faulty {
    fn perform(&self, operation: &Operation) -> io::Result<()> {
        let number = self.operations.borrow().len();
        self.operations.borrow_mut().push(operation.clone());
        if let Some((first, forever)) = self.fails
            && (number == first || (forever && number > first))
        {
            return Err(io::Error::other("a fault"));
        }
        if let (Some(room), Operation::Write(path, bytes)) = (&self.room, operation) {
            let fits = room.get().min(bytes.len());
            room.set(room.get() - fits);
            Disk.write(path, &bytes[..fits])?;
            return if fits == bytes.len() {
                Ok(())
            } else {
                Err(io::ErrorKind::StorageFull.into())
            };
        }
        operation.apply()
    }
}

impl Files for Faulty {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.perform(&Operation::CreateFolder(path.to_owned()))
    }
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.perform(&Operation::Write(path.to_owned(), bytes.to_vec()))
    }
    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.perform(&Operation::SyncFile(path.to_owned()))
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.perform(&Operation::SyncFolder(path.to_owned()))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.perform(&Operation::Rename(from.to_owned(), to.to_owned()))
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.perform(&Operation::RemoveFile(path.to_owned()))
    }
    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.perform(&Operation::RemoveFolder(path.to_owned()))
    }
}

impl Operation {
    /// The same operation with other paths.
    pub(super) fn moved(&self, to: &impl Fn(&Path) -> PathBuf) -> Self {
        match self {
            Self::CreateFolder(path) => Self::CreateFolder(to(path)),
            Self::Write(path, bytes) => Self::Write(to(path), bytes.clone()),
            Self::SyncFile(path) => Self::SyncFile(to(path)),
            Self::SyncFolder(path) => Self::SyncFolder(to(path)),
            Self::Rename(one, other) => Self::Rename(to(one), to(other)),
            Self::RemoveFile(path) => Self::RemoveFile(to(path)),
            Self::RemoveFolder(path) => Self::RemoveFolder(to(path)),
        }
    }
}
