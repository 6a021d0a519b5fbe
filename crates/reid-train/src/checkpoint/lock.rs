//! The lock on the folder of a run.

use std::{
    fs::{File, TryLockError},
    path::Path,
};

use crate::error::{Error, at};

const LOCK: &str = ".lock";

/// The lock of one process on the folder of a run. The operating system releases it when the process ends,
/// even after a kill.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn take(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(LOCK);
        let mut options = File::options();
        options.create(true).truncate(false).write(true);
        let file = options.open(&path).map_err(at(&path))?;
        match file.try_lock() {
            // Some network file systems have no locks. The run trains without one.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::InUse {
                path: folder.to_owned(),
            }),
        }
    }
}
