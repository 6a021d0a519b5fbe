//! Checkpoints: the state of a run on disk, written so that a kill cannot lose it.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use burn::{module::Module, optim::ModuleOptimizer};
use reid_data::loader::Classes;
use reid_nn::{Block, Criterion, Head};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

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
const FILES: [&str; 4] = [MODEL, CRITERION, OPTIMIZER, CRITERION_OPTIMIZER];

/// The checkpoints of a run: a folder that holds the last one and the best one.
///
/// ```text
/// last.json                  {"checkpoint": "epoch-0007-step-00000"}
/// best.json                  {"checkpoint": "epoch-0005-step-00000"}
/// epoch-0007-step-00000/     model.bpk  criterion.bpk  optimizer.bpk  …  state.json
/// epoch-0005-step-00000/     …
/// ```
///
/// A checkpoint is written under a temporary name, flushed, renamed, and only then pointed to; what
/// nothing points to is removed last. A process killed at any moment leaves the previous checkpoint
/// whole.
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

impl Kept {
    const fn pointer(self) -> &'static str {
        match self {
            Self::Last => "last.json",
            Self::Best => "best.json",
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Pointer {
    checkpoint: String,
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
    /// What the epochs so far came to.
    pub(crate) history: Vec<EpochSummary>,
    /// The best scores so far.
    pub(crate) best: Option<Scores>,
    /// The length of each file, so that a truncated one is told from a whole one.
    pub(crate) lengths: Vec<(String, u64)>,
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

    /// The checkpoints of a run that begins in a folder: makes the folder and writes the recipe there
    /// as `recipe.json`. An older run in it is refused unless `go_on` says that it is this one.
    ///
    /// ```
    /// use reid_core::InputSize;
    /// use reid_train::{Checkpoints, Recipe};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let recipe = Recipe::strong_baseline("toy", InputSize::PERSON, "any network".to_owned());
    /// Checkpoints::begin(folder.path(), &recipe, false)?;
    /// let read = Recipe::<String>::load(folder.path().join("recipe.json"))?;
    /// assert_eq!(read.name, "toy");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If the folder holds a run and `go_on` is false, or cannot be written.
    pub fn begin<N: Serialize + DeserializeOwned>(
        folder: impl Into<PathBuf>,
        recipe: &Recipe<N>,
        go_on: bool,
    ) -> Result<Self, Error> {
        let checkpoints = Self::new(folder);
        let folder = &checkpoints.folder;
        if !go_on && checkpoints.find(Kept::Last)?.is_some() {
            let path = folder.clone();
            return Err(Error::HoldsRun { path });
        }
        fs::create_dir_all(folder).map_err(at(folder))?;
        recipe.save(folder.join("recipe.json"))?;
        Ok(checkpoints)
    }

    /// The folder of the last or best checkpoint, if there is one.
    ///
    /// # Errors
    /// If the file that points to it cannot be read.
    pub fn find(&self, kept: Kept) -> Result<Option<PathBuf>, Error> {
        let path = self.folder.join(kept.pointer());
        if !path.exists() {
            return Ok(None);
        }
        let pointer: Pointer = read_json(&path)?;
        Ok(Some(self.folder.join(pointer.checkpoint)))
    }

    /// Writes a checkpoint as the last one and, if told so, as the best one.
    pub(crate) fn save<B: Block, H: Head, C: Criterion>(
        &self,
        parts: &Parts<B, H, C>,
        mut state: State,
        best: bool,
    ) -> Result<PathBuf, Error> {
        let name = format!("epoch-{:04}-step-{:05}", state.epoch, state.step);
        let (target, draft) = (self.folder.join(&name), self.folder.join(".draft"));
        remove(&draft)?;
        fs::create_dir_all(&draft).map_err(at(&draft))?;
        parts.write(&draft)?;
        state.lengths = lengths(&draft)?;
        write_json(&draft.join(STATE), &state)?;
        // The same place in the run can be saved twice: on resuming, and stopping at once.
        remove(&target)?;
        fs::rename(&draft, &target).map_err(at(&target))?;
        self.point(Kept::Last, &name)?;
        if best {
            self.point(Kept::Best, &name)?;
        }
        self.remove_unkept()?;
        Ok(target)
    }

    fn point(&self, kept: Kept, name: &str) -> Result<(), Error> {
        let path = self.folder.join(kept.pointer());
        let draft = path.with_extension("draft");
        let checkpoint = name.to_owned();
        write_json(&draft, &Pointer { checkpoint })?;
        fs::rename(&draft, &path).map_err(at(path))
    }

    /// Removes checkpoints that nothing points to.
    fn remove_unkept(&self) -> Result<(), Error> {
        let kept = [self.find(Kept::Last)?, self.find(Kept::Best)?];
        for entry in fs::read_dir(&self.folder).map_err(at(&self.folder))? {
            let path = entry.map_err(at(&self.folder))?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or("");
            let ours = name.starts_with("epoch-") && path.join(STATE).exists();
            if ours && !kept.iter().flatten().any(|kept| *kept == path) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Reads what a checkpoint says of the run, after checking that its files are whole.
    pub(crate) fn read_state(checkpoint: &Path) -> Result<State, Error> {
        let state: State = read_json(&checkpoint.join(STATE))?;
        for (name, expected) in &state.lengths {
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

    /// What the epochs up to a checkpoint came to.
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
        Self::read_state(checkpoint)?;
        load(model, &checkpoint.join(MODEL))
    }
}

impl<B: Block, H: Head, C: Criterion> Parts<B, H, C> {
    fn write(&self, folder: &Path) -> Result<(), Error> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: burn::store::RecordError| Error::Checkpoint {
                path,
                reason: error.to_string(),
            }
        };
        let path = folder.join(MODEL);
        self.trainee
            .model
            .clone()
            .save_file(&path)
            .map_err(failed(&path))?;
        let path = folder.join(CRITERION);
        self.trainee
            .criterion
            .clone()
            .save_file(&path)
            .map_err(failed(&path))?;
        let path = folder.join(OPTIMIZER);
        self.optimizer.save(&path).map_err(failed(&path))?;
        let path = folder.join(CRITERION_OPTIMIZER);
        self.criterion_optimizer
            .save(&path)
            .map_err(failed(&path))?;
        FILES.iter().try_for_each(|name| flush(&folder.join(name)))
    }

    /// The same parts with the tensors of a checkpoint.
    pub(crate) fn load(self, checkpoint: &Path) -> Result<Self, Error> {
        let optimizer = |optimizer: ModuleOptimizer, name: &str| {
            let path = checkpoint.join(name);
            optimizer.load(&path).map_err(|error| Error::Checkpoint {
                path,
                reason: error.to_string(),
            })
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

fn load<M: Module>(module: M, path: &Path) -> Result<M, Error> {
    module
        .try_load_file(path)
        .map_err(|error| Error::Checkpoint {
            path: path.to_owned(),
            reason: error.to_string(),
        })
}

fn lengths(folder: &Path) -> Result<Vec<(String, u64)>, Error> {
    let length = |name: &&str| {
        let path = folder.join(name);
        let metadata = fs::metadata(&path).map_err(at(&path))?;
        Ok(((*name).to_owned(), metadata.len()))
    };
    FILES.iter().map(length).collect()
}

/// Waits until a file is on disk, so that a pointer to it never is without it.
fn flush(path: &Path) -> Result<(), Error> {
    let file = File::options().write(true).open(path).map_err(at(path))?;
    file.sync_all().map_err(at(path))
}

fn remove(folder: &Path) -> Result<(), Error> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(at(folder))?;
    }
    Ok(())
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let json = serde_json::to_vec_pretty(value).map_err(|source| Error::Json {
        path: path.to_owned(),
        source,
    })?;
    let mut file = File::create(path).map_err(at(path))?;
    file.write_all(&json).map_err(at(path))?;
    file.sync_all().map_err(at(path))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = fs::read_to_string(path).map_err(at(path))?;
    serde_json::from_str(&text).map_err(|source| Error::Json {
        path: path.to_owned(),
        source,
    })
}
