//! Checkpoints: the state of a run on disk, written so that neither a kill nor a power cut loses it.

mod files;
mod fingerprint;
mod generations;
mod sealed;
#[cfg(test)]
mod simulated;

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use burn::{
    module::Module,
    optim::ModuleOptimizer,
    store::{ModuleRecord, RecordError},
    tensor::Bytes,
};
use reid_core::Sample;
use reid_data::loader::Classes;
use reid_nn::{Block, Criterion, Head};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

pub(crate) use self::fingerprint::Fingerprint;
use self::{
    files::Disk,
    generations::{Best, Check, Generations, Pointer, read_pointer, verify},
    sealed::to_json,
};
use crate::{
    error::{Error, at},
    history::{EpochSummary, Scores, Sums},
    recipe::Recipe,
    scaling::LossScale,
    trainee::Trainee,
};

const STATE: &str = "state.json";
const MODEL: &str = "model.bpk";
const CRITERION: &str = "criterion.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const CRITERION_OPTIMIZER: &str = "criterion-optimizer.bpk";
const RECIPE: &str = "recipe.json";
const LOCK: &str = ".lock";

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
/// use reid_train::{Checkpoints, Kept};
///
/// let folder = tempfile::tempdir()?;
/// let checkpoints = Checkpoints::new(folder.path());
/// assert_eq!(checkpoints.find(Kept::Last)?, None); // nothing saved yet
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
}

/// Which checkpoint is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The one written last: a run resumes from it.
    Last,
    /// The one with the best mean average precision.
    Best,
}

/// Everything of a run but tensors. The data order and every random draw are functions of the
/// recipe's seed and of `epoch` and `step`, so no generator is saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// The recipe, as JSON.
    pub(crate) recipe: Value,
    /// The class number of each training identity.
    pub(crate) classes: Classes,
    /// The epoch under way, counted from 0.
    pub(crate) epoch: usize,
    /// Its next step, counted from 0.
    pub(crate) step: usize,
    /// Its sums so far.
    pub(crate) sums: Sums,
    /// What losses are scaled by in half precision.
    #[serde(default)]
    pub(crate) loss_scale: LossScale,
    /// What the epochs so far came to. An epoch is saved before it is evaluated, so the scores of the last
    /// one are not here but in `last.json`.
    pub(crate) history: Vec<EpochSummary>,
    /// The training images; none in checkpoints of version 0.1.
    #[serde(default)]
    pub(crate) images: Option<Fingerprint>,
    /// The length of each file in checkpoints of version 0.1, which have no manifest.
    #[serde(default, skip_serializing)]
    pub(crate) lengths: Vec<(String, u64)>,
}

impl State {
    /// A run at its beginning.
    pub(crate) fn new(recipe: Value, classes: Classes, samples: &[Sample]) -> Self {
        Self {
            recipe,
            classes,
            epoch: 0,
            step: 0,
            sums: Sums::default(),
            loss_scale: LossScale::default(),
            history: Vec::new(),
            images: Some(Fingerprint::of_samples(samples)),
            lengths: Vec::new(),
        }
    }
}

/// The parts of a run that hold tensors.
pub(crate) struct Parts<B, H, C> {
    pub(crate) trainee: Trainee<B, H, C>,
    pub(crate) optimizer: ModuleOptimizer,
    pub(crate) criterion_optimizer: ModuleOptimizer,
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
    /// let checkpoints = Checkpoints::begin(folder.path().join("run"))?;
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
    pub fn find(&self, kept: Kept) -> Result<Option<PathBuf>, Error> {
        let name = read_pointer(&self.folder)?.and_then(|pointer| match kept {
            Kept::Last => Some(pointer.checkpoint),
            Kept::Best => pointer.best.map(|best| best.checkpoint),
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
    pub(crate) fn save<B: Block, H: Head, C: Criterion>(
        &self,
        parts: &Parts<B, H, C>,
        state: &State,
    ) -> Result<PathBuf, Error> {
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
    pub fn recipe<N>(checkpoint: &Path) -> Result<Recipe<N>, Error>
    where
        N: Serialize + DeserializeOwned,
    {
        let state = Self::read_state(checkpoint)?;
        serde_json::from_value(state.recipe).map_err(|source| Error::Json {
            path: checkpoint.join(STATE),
            source,
        })
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

    /// Loads the model of a checkpoint into one built by the same recipe.
    ///
    /// # Errors
    /// If the checkpoint cannot be read, is damaged, or belongs to another network.
    pub fn load_model<M: Module>(checkpoint: &Path, model: M) -> Result<M, Error> {
        Self::read_whole(checkpoint)?;
        load(model, &checkpoint.join(MODEL))
    }
}

impl State {
    /// Compares the files of a checkpoint of version 0.1 with the lengths that it notes.
    fn verify_lengths(&self, checkpoint: &Path) -> Result<(), Error> {
        if self.lengths.is_empty() {
            return Err(Error::Damaged {
                path: checkpoint.join(generations::MANIFEST),
            });
        }
        for (name, expected) in &self.lengths {
            let path = checkpoint.join(name);
            let found = fs::metadata(&path).map_err(at(&path))?.len();
            if found != *expected {
                return Err(Error::Truncated {
                    path,
                    expected: *expected,
                    found,
                });
            }
        }
        Ok(())
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

impl<B: Block, H: Head, C: Criterion> Parts<B, H, C> {
    /// The files of a checkpoint, each made when it is asked for, so that only one is held at a time.
    fn files(&self, state: &State) -> impl Iterator<Item = Result<(&'static str, Bytes), Error>> {
        let names = [MODEL, CRITERION, OPTIMIZER, CRITERION_OPTIMIZER, STATE];
        names
            .into_iter()
            .map(|name| Ok((name, self.file(name, state)?)))
    }

    fn file(&self, name: &'static str, state: &State) -> Result<Bytes, Error> {
        let Trainee { model, criterion } = &self.trainee;
        let bytes = match name {
            MODEL => model.clone().into_record().into_bytes(),
            CRITERION => criterion.clone().into_record().into_bytes(),
            OPTIMIZER => self.optimizer.into_bytes(),
            CRITERION_OPTIMIZER => self.criterion_optimizer.into_bytes(),
            _ => return to_json(Path::new(name), state).map(Bytes::from_bytes_vec),
        };
        bytes.map_err(|error| unusable(Path::new(name), &error))
    }

    /// The same parts with the tensors of a checkpoint.
    pub(crate) fn load(self, checkpoint: &Path) -> Result<Self, Error> {
        let optimizer = |optimizer: ModuleOptimizer, name: &str| {
            let path = checkpoint.join(name);
            let loaded = optimizer.from_bytes(read(&path)?);
            loaded.map_err(|error| unusable(&path, &error))
        };
        let Trainee { model, criterion } = self.trainee;
        Ok(Self {
            trainee: Trainee {
                model: load(model, &checkpoint.join(MODEL))?,
                criterion: load(criterion, &checkpoint.join(CRITERION))?,
            },
            optimizer: optimizer(self.optimizer, OPTIMIZER)?,
            criterion_optimizer: optimizer(self.criterion_optimizer, CRITERION_OPTIMIZER)?,
        })
    }
}

/// The folder of a run, owned by one process. The operating system gives it back when the process ends,
/// however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    fn take(folder: &Path) -> Result<Self, Error> {
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

fn load<M: Module>(module: M, path: &Path) -> Result<M, Error> {
    let record = ModuleRecord::from_bytes(read(path)?).map_err(|error| unusable(path, &error))?;
    module
        .try_load_record(record)
        .map_err(|error| unusable(path, &error))
}

fn read(path: &Path) -> Result<Bytes, Error> {
    Ok(Bytes::from_bytes_vec(fs::read(path).map_err(at(path))?))
}

fn unusable(path: &Path, error: &RecordError) -> Error {
    Error::Checkpoint {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = fs::read_to_string(path).map_err(at(path))?;
    serde_json::from_str(&text).map_err(|source| Error::Json {
        path: path.to_owned(),
        source,
    })
}
