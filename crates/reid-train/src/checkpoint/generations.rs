//! Generations: one folder per saved checkpoint, and a pointer file that names the last and the best one.

use std::{
    fs, io,
    ops::Deref,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    files::{Files, create_folders, replace},
    sealed::{seal, sha256, unseal},
};
use crate::{
    error::{Error, at},
    history::Scores,
};

pub(super) const POINTER: &str = "last.json";
/// The file that names the best checkpoint in version 0.1.
const BEST_OF_0_1: &str = "best.json";
pub(super) const MANIFEST: &str = "manifest.json";
const DRAFT: &str = ".draft";

/// The content of the pointer file: the checkpoints that are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Pointer {
    /// The folder of the last checkpoint.
    pub(super) checkpoint: String,
    /// The scores of the last checkpoint; `None` before its evaluation.
    pub(super) scores: Option<Scores>,
    /// The best checkpoint; `None` before the first evaluation.
    pub(super) best: Option<Best>,
}

/// The best checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Best {
    /// Its folder.
    pub(super) checkpoint: String,
    /// Its scores; `None` if version 0.1 wrote the pointer.
    pub(super) scores: Option<Scores>,
}

impl Pointer {
    fn names(&self, name: &str) -> bool {
        let best = self.best.as_ref();
        self.checkpoint == name || best.is_some_and(|best| best.checkpoint == name)
    }

    /// The scores of a checkpoint.
    pub(super) fn scores_of(&self, name: &str) -> Option<Scores> {
        if self.checkpoint == name {
            return self.scores;
        }
        let best = self.best.as_ref();
        best.filter(|best| best.checkpoint == name)?.scores
    }
}

/// The files of one generation.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    files: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    name: String,
    bytes: u64,
    sha256: String,
}

/// The files of a generation whose hashes are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// The hash of this file, and the lengths of all files.
    File(&'static str),
    /// The hashes and lengths of all files.
    All,
}

/// The generations of a run.
#[derive(Clone, Debug)]
pub(super) struct Generations<F> {
    folder: PathBuf,
    files: F,
}

impl<F: Files> Generations<F> {
    pub(super) const fn new(folder: PathBuf, files: F) -> Self {
        Self { folder, files }
    }

    #[cfg(test)]
    pub(super) const fn files(&self) -> &F {
        &self.files
    }

    /// Creates the folder, durably.
    pub(super) fn create(&self) -> Result<(), Error> {
        create_folders(&self.files, &self.folder).map_err(at(&self.folder))
    }

    /// Removes what an interrupted save has left in the folder.
    pub(super) fn clean(&self) -> Result<(), Error> {
        match self.pointer()? {
            Some(pointer) => self.remove_unnamed(&pointer),
            // Without a pointer no checkpoint is removed: the pointer may have been lost.
            None => drop(self.remove_draft()),
        }
        Ok(())
    }

    /// Replaces a small file of the folder.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.folder.join(name);
        replace(&self.files, &path, bytes).map_err(at(path))
    }

    /// Reads the pointer; `None` before the first save.
    pub(super) fn pointer(&self) -> Result<Option<Pointer>, Error> {
        read_pointer(&self.folder)
    }

    /// Writes a generation, which the pointer does not name yet. Returns the name of its folder: `name`,
    /// with a number appended if that exists. Each part is created, written and dropped before the next.
    pub(super) fn write<P, N, B>(&self, name: &str, parts: P) -> Result<String, Error>
    where
        P: IntoIterator<Item = Result<(N, B), Error>>,
        N: Into<String>,
        B: Deref<Target = [u8]>,
    {
        let draft = self.folder.join(DRAFT);
        self.remove_draft().map_err(at(&draft))?;
        let written = self
            .write_draft(&draft, parts)
            .and_then(|()| self.name_draft(&draft, name));
        if written.is_err() {
            // An incomplete draft may fill the disk. The first error is the one to report.
            let _ = self.remove_draft();
        }
        written
    }

    fn write_draft<P, N, B>(&self, draft: &Path, parts: P) -> Result<(), Error>
    where
        P: IntoIterator<Item = Result<(N, B), Error>>,
        N: Into<String>,
        B: Deref<Target = [u8]>,
    {
        self.files.create_folder(draft).map_err(at(draft))?;
        let mut manifest = Manifest { files: Vec::new() };
        for part in parts {
            let (name, bytes) = part?;
            let name = name.into();
            self.write_durably(&draft.join(&name), &bytes)?;
            manifest.files.push(Entry {
                name,
                bytes: bytes.len() as u64,
                sha256: sha256(&bytes),
            });
        }
        let path = draft.join(MANIFEST);
        self.write_durably(&path, &seal(&path, &manifest)?)?;
        self.files.sync_folder(draft).map_err(at(draft))
    }

    fn name_draft(&self, draft: &Path, name: &str) -> Result<String, Error> {
        let free = |name: &String| !self.folder.join(name).exists();
        let names = (2..).map(|number| format!("{name}-{number}"));
        let name = std::iter::once(name.to_owned())
            .chain(names)
            .find(free)
            .expect("some number gives a free name");
        let target = self.folder.join(&name);
        self.files.rename(draft, &target).map_err(at(&target))?;
        self.files
            .sync_folder(&self.folder)
            .map_err(at(&self.folder))?;
        Ok(name)
    }

    fn write_durably(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        self.files
            .write(path, bytes)
            .and_then(|()| self.files.sync_file(path))
            .map_err(at(path))
    }

    /// Replaces the pointer, and removes the checkpoints that it does not name.
    pub(super) fn point(&self, pointer: &Pointer) -> Result<(), Error> {
        let path = self.folder.join(POINTER);
        self.replace(POINTER, &seal(&path, pointer)?)?;
        self.remove_unnamed(pointer);
        Ok(())
    }

    /// Removes the checkpoints that the pointer does not name. Failures are ignored, because the run is
    /// safe on disk; the next save tries again.
    fn remove_unnamed(&self, pointer: &Pointer) {
        let _ = self.remove_draft();
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| is_generation(name)) else {
                continue;
            };
            if !pointer.names(name) {
                let _ = self.remove_generation(&entry.path());
            }
        }
        let best_of_0_1 = self.folder.join(BEST_OF_0_1);
        if read_sealed_pointer(&self.folder) && best_of_0_1.exists() {
            let _ = self.files.remove_file(&best_of_0_1);
        }
    }

    fn remove_draft(&self) -> io::Result<()> {
        let draft = self.folder.join(DRAFT);
        if !draft.exists() {
            return Ok(());
        }
        for entry in fs::read_dir(&draft)? {
            self.files.remove_file(&entry?.path())?;
        }
        self.files.remove_folder(&draft)
    }

    /// Removes the files of a checkpoint, and the folder if it is empty then.
    fn remove_generation(&self, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let ours = |name: &str| {
                Path::new(name)
                    .extension()
                    .is_some_and(|extension| extension == "bpk" || extension == "json")
            };
            if path
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(ours)
            {
                self.files.remove_file(&path)?;
            }
        }
        self.files.remove_folder(folder)
    }
}

/// Reads the pointer of a folder; `None` if nothing was saved there.
///
/// # Errors
/// [`Error::Damaged`] if the pointer is damaged or names anything but checkpoints of this folder.
pub(super) fn read_pointer(folder: &Path) -> Result<Option<Pointer>, Error> {
    let Some(pointer) = read_any_pointer(folder)? else {
        return Ok(None);
    };
    let best = pointer.best.as_ref();
    if is_generation(&pointer.checkpoint) && best.is_none_or(|best| is_generation(&best.checkpoint))
    {
        return Ok(Some(pointer));
    }
    let path = folder.join(POINTER);
    Err(Error::Damaged { path })
}

fn read_any_pointer(folder: &Path) -> Result<Option<Pointer>, Error> {
    let Some((path, bytes)) = read_if_there(folder, POINTER)? else {
        return Ok(None);
    };
    let Some(checkpoint) = pointer_of_0_1(&bytes) else {
        return unseal(&path, &bytes).map(Some);
    };
    let best = read_if_there(folder, BEST_OF_0_1)?;
    let best = best.map(|(path, bytes)| {
        pointer_of_0_1(&bytes)
            .map(|checkpoint| Best {
                checkpoint,
                scores: None,
            })
            .ok_or(Error::Damaged { path })
    });
    Ok(Some(Pointer {
        checkpoint,
        scores: None,
        best: best.transpose()?,
    }))
}

/// Whether the pointer of a folder was not written by version 0.1.
fn read_sealed_pointer(folder: &Path) -> bool {
    matches!(read_if_there(folder, POINTER), Ok(Some((_, bytes))) if pointer_of_0_1(&bytes).is_none())
}

/// The checkpoint that a pointer of version 0.1 names; `None` for a pointer of this version.
fn pointer_of_0_1(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Pointer {
        checkpoint: String,
    }
    let pointer: Pointer = serde_json::from_slice(bytes).ok()?;
    Some(pointer.checkpoint)
}

fn read_if_there(folder: &Path, name: &str) -> Result<Option<(PathBuf, Vec<u8>)>, Error> {
    let path = folder.join(name);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some((path, bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

/// Verifies a generation by its manifest. Returns `false` if there is no manifest, as in version 0.1.
///
/// # Errors
/// The error names the first file that is missing, has another length, or has changed.
pub(super) fn verify(generation: &Path, check: Check) -> Result<bool, Error> {
    let Some((path, bytes)) = read_if_there(generation, MANIFEST)? else {
        return Ok(false);
    };
    let manifest: Manifest = unseal(&path, &bytes)?;
    for entry in &manifest.files {
        let path = generation.join(&entry.name);
        let found = fs::metadata(&path).map_err(at(&path))?.len();
        if found != entry.bytes {
            return Err(Error::Truncated {
                path,
                expected: entry.bytes,
                found,
            });
        }
        let compared = match check {
            Check::All => true,
            Check::File(name) => name == entry.name,
        };
        if compared && sha256(&fs::read(&path).map_err(at(&path))?) != entry.sha256 {
            return Err(Error::Damaged { path });
        }
    }
    Ok(true)
}

/// Whether a folder of this name is a generation: `epoch-0007-step-00000`, or with a number appended.
fn is_generation(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = name.split('-').collect();
    match parts[..] {
        ["epoch", epoch, "step", step] => digits(epoch) && digits(step),
        ["epoch", epoch, "step", step, number] => [epoch, step, number].into_iter().all(digits),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_may_only_name_checkpoints_of_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, checkpoint: &str| {
            let json = format!("{{\"checkpoint\":\"{checkpoint}\"}}");
            fs::write(folder.path().join(name), json).unwrap();
        };
        let good = "epoch-0001-step-00000";
        for bad in [
            "",
            ".",
            "..",
            "/",
            "../epoch-0001-step-00000",
            "eh-00/e-t1sp-00000",
        ] {
            for (last, best) in [(bad, good), (good, bad)] {
                write(POINTER, last);
                write(BEST_OF_0_1, best);
                let error = read_pointer(folder.path()).expect_err(bad);
                assert!(error.to_string().contains(POINTER), "{error}");
            }
        }
        write(BEST_OF_0_1, good);
        let pointer = read_pointer(folder.path()).unwrap().expect("a pointer");
        assert!(pointer.names(good));
    }
}
