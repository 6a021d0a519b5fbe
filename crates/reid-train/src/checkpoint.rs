//! Checkpoints: the state of a run on disk, written so that neither a kill nor a power cut loses it.

mod files;
mod fingerprint;
mod generations;
mod lock;
mod parts;
mod sealed;
#[cfg(test)]
mod simulated;
mod state;

use std::path::{Path, PathBuf};

use burn::module::Module;
use reid_data::loader::Classes;
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::{
    files::Disk,
    generations::{Best, Check, Generations, Pointer, read_pointer, verify},
    parts::{AVERAGE, MODEL, STATE},
};
pub(crate) use self::{
    lock::Lock,
    parts::{Parts, load, load_parts, to_bytes},
    state::State,
};
use crate::{
    error::Error,
    history::{EpochSummary, Scores},
    recipe::{Recipe, renamed},
};

const RECIPE: &str = "recipe.json";

/// The checkpoints of a run: a folder that holds the last one and the best one.
///
/// ```text
/// last.json                  names the last checkpoint, its scores and the best checkpoint
/// recipe.json                what the run was begun with
/// epoch-0007-step-00000/     model.bpk  criterion.bpk  optimizer.bpk  …  state.json  manifest.json
/// epoch-0005-step-00000/     …
/// ```
///
/// # What is promised
///
/// A checkpoint is never changed once it counts. Each save writes a folder of its own under a temporary
/// name: its files, each flushed to the disk, then a manifest with their lengths and SHA-256 hashes. The
/// folder is flushed, gets its name, and the name is flushed. Only then is `last.json` replaced, by a
/// rename, which makes the new checkpoint count; and only after that has been flushed are checkpoints
/// removed that no longer count. `last.json` names the last and the best checkpoint together, so the two
/// always fit.
///
/// | what happens | what is there afterwards |
/// |---|---|
/// | the process is killed, at any moment | the checkpoint before the save or the one after it, whole |
/// | a write, flush or rename fails (full disk, broken disk) | the same, and the error names the file |
/// | the power fails, on Unix | the same, on a file system and disk that keep what they were told to flush |
/// | the power fails, on Windows | files are flushed, but Windows has no call that flushes a folder: the renames of the last seconds can be undone, while removals are kept. The last checkpoint can be lost |
/// | a bit of a file changes, a file is cut short or goes missing | an error that names the file, before anything is loaded |
/// | two processes train in one folder | the second is refused, where the file system has locks |
///
/// ```
/// use reid_train::{Checkpoints, CheckpointKind};
///
/// let folder = tempfile::tempdir()?;
/// let checkpoints = Checkpoints::new(folder.path());
/// assert_eq!(checkpoints.find(CheckpointKind::Last)?, None); // nothing saved yet
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
}

/// Which checkpoint is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointKind {
    /// The one written last: a run resumes from it.
    Last,
    /// The one with the best mean average precision.
    Best,
}

impl Checkpoints {
    /// The checkpoints in a folder, which need not exist yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// The checkpoints of a run that begins in a folder.
    ///
    /// # Errors
    /// [`Error::HoldsRun`] if there is a run in it already.
    ///
    /// ```
    /// use reid_train::Checkpoints;
    ///
    /// let folder = tempfile::tempdir()?;
    /// let _checkpoints = Checkpoints::begin(folder.path().join("run"))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn begin(folder: impl Into<PathBuf>) -> Result<Self, Error> {
        let checkpoints = Self::new(folder);
        checkpoints.refuse_a_run()?;
        Ok(checkpoints)
    }

    /// The folder of the last or best checkpoint, if there is one.
    ///
    /// # Errors
    /// If `last.json` cannot be read or is damaged.
    pub fn find(&self, kept: CheckpointKind) -> Result<Option<PathBuf>, Error> {
        let name = read_pointer(&self.folder)?.and_then(|pointer| match kept {
            CheckpointKind::Last => Some(pointer.checkpoint),
            CheckpointKind::Best => pointer.best.map(|best| best.checkpoint),
        });
        Ok(name.map(|name| self.folder.join(name)))
    }

    fn generations(&self) -> Generations<Disk> {
        Generations::new(self.folder.clone(), Disk)
    }

    fn refuse_a_run(&self) -> Result<(), Error> {
        match read_pointer(&self.folder)? {
            Some(_) => Err(Error::HoldsRun {
                path: self.folder.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Makes the folder ready for a run that has been accepted, and writes its recipe there. The run owns
    /// the folder until what is returned is dropped.
    pub(crate) fn prepare(&self, recipe: &Value, resumed: bool) -> Result<Lock, Error> {
        if !resumed {
            self.refuse_a_run()?;
        }
        let generations = self.generations();
        generations.create()?;
        let lock = Lock::take(&self.folder)?;
        generations.clean()?;
        let path = self.folder.join(RECIPE);
        let mut json = serde_json::to_vec_pretty(recipe).map_err(|source| Error::Json {
            path: path.clone(),
            source,
        })?;
        json.push(b'\n');
        generations.replace(RECIPE, &json)?;
        Ok(lock)
    }

    /// Writes a checkpoint, which becomes the last one.
    pub(crate) fn save(&self, parts: &Parts<'_>, state: &State) -> Result<PathBuf, Error> {
        let generations = self.generations();
        let name = format!("epoch-{:04}-step-{:05}", state.epoch, state.step);
        let name = generations.write(&name, parts.files(state))?;
        let best = match generations.pointer()? {
            Some(pointer) => pointer.best,
            None => None,
        };
        let path = self.folder.join(&name);
        generations.point(&Pointer {
            checkpoint: name,
            scores: None,
            best,
        })?;
        Ok(path)
    }

    /// Adds scores to the last checkpoint, which also becomes the best one if told so.
    pub(crate) fn record(&self, scores: Scores, is_best: bool) -> Result<(), Error> {
        let generations = self.generations();
        let Some(pointer) = generations.pointer()? else {
            return Ok(());
        };
        let best = Best {
            checkpoint: pointer.checkpoint.clone(),
            scores: Some(scores),
        };
        generations.point(&Pointer {
            best: if is_best { Some(best) } else { pointer.best },
            scores: Some(scores),
            checkpoint: pointer.checkpoint,
        })
    }

    /// Reads what a checkpoint says of the run, after comparing it with its manifest.
    pub(crate) fn read_state(checkpoint: &Path) -> Result<State, Error> {
        Self::read_verified(checkpoint, Check::File(STATE))
    }

    /// The same after comparing every file with its hash, for who loads tensors next.
    pub(crate) fn read_whole(checkpoint: &Path) -> Result<State, Error> {
        Self::read_verified(checkpoint, Check::All)
    }

    fn read_verified(checkpoint: &Path, check: Check) -> Result<State, Error> {
        let has_manifest = verify(checkpoint, check)?;
        let mut state: State = read_json(&checkpoint.join(STATE))?;
        if !has_manifest {
            state.verify_lengths(checkpoint)?;
        }
        if let Some(last) = state.history.last_mut()
            && last.scores.is_none()
        {
            last.scores = scores_beside(checkpoint)?;
        }
        Ok(state)
    }

    /// The recipe that a checkpoint was trained by.
    ///
    /// # Errors
    /// If the checkpoint cannot be read, is damaged, or holds another kind of recipe.
    pub fn recipe<N, L>(checkpoint: &Path) -> Result<Recipe<N, L>, Error>
    where
        N: DeserializeOwned,
        L: DeserializeOwned,
    {
        let state = Self::read_state(checkpoint)?;
        crate::json::from_value(&checkpoint.join(STATE), renamed(state.recipe))
    }

    /// What the epochs up to a checkpoint came to. The scores of its last epoch are in the `last.json` of the
    /// run's folder, so a checkpoint that was copied elsewhere alone comes without them.
    ///
    /// # Errors
    /// If the checkpoint cannot be read or is damaged.
    pub fn history(checkpoint: &Path) -> Result<Vec<EpochSummary>, Error> {
        Ok(Self::read_state(checkpoint)?.history)
    }

    /// The training identities of a checkpoint, in class order.
    ///
    /// # Errors
    /// If the checkpoint cannot be read or is damaged.
    pub fn classes(checkpoint: &Path) -> Result<Classes, Error> {
        Ok(Self::read_state(checkpoint)?.classes)
    }

    /// Loads the model of a checkpoint into one built by the same recipe: that of averaged weights, if the recipe
    /// averages them.
    ///
    /// # Errors
    /// If the checkpoint cannot be read, is damaged, or belongs to another network.
    pub fn load_model<M: Module>(checkpoint: &Path, model: M) -> Result<M, Error> {
        Self::read_whole(checkpoint)?;
        let average = checkpoint.join(AVERAGE);
        let whole = checkpoint.join(MODEL);
        load(model, if average.exists() { &average } else { &whole })
    }
}

/// What a checkpoint scored, by the pointer of the folder that it is in.
fn scores_beside(checkpoint: &Path) -> Result<Option<Scores>, Error> {
    let (Some(folder), Some(name)) = (checkpoint.parent(), checkpoint.file_name()) else {
        return Ok(None);
    };
    let pointer = read_pointer(folder)?;
    Ok(pointer.and_then(|pointer| pointer.scores_of(name.to_str()?)))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    crate::json::read(path)
}
