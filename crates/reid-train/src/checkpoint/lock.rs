//! The lock on the folder of a run.

use std::{
    fs::{File, TryLockError},
    path::Path,
};

use crate::error::{Error, at};

const LOCK: &str = ".lock";

/// The folder of a run, owned by one process. The operating system gives it back when the process ends,
/// however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(LOCK);
        let mut options = File::options();
        options.create(true).truncate(false).write(true);
        let file = options.open(&path).map_err(at(&path))?;
        match file.try_lock() {
            // A file system without locks, as some network ones are, is no reason not to train.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::InUse {
                path: folder.to_owned(),
            }),
        }
    }
}
