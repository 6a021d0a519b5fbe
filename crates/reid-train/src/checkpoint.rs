//! Checkpoints: the state of a run on disk, safe against kills and power cuts.

mod files;
mod fingerprint;
mod generations;
mod lock;
mod parts;
mod sealed;
#[cfg(test)]
mod simulated;
mod state;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use burn::module::Module;
use reid_data::loader::{AttributeClasses, Classes};
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::{
    files::Disk,
    generations::{Best, Check, Generations, Pointer, read_pointer, verify},
    parts::{AVERAGE, MODEL, STATE},
};
pub(crate) use self::{
    fingerprint::Fingerprint,
    lock::Lock,
    parts::{Parts, load, load_optimizers, load_parts, to_bytes},
    sealed::{hexadecimal, seal, unseal},
    state::State,
};
use crate::{
    error::Error,
    history::{EpochSummary, Scores},
    recipe::{Recipe, SegmentationRecipe, renamed},
};

const RECIPE: &str = "recipe.json";

/// The checkpoints of a run: a folder with the last and the best checkpoint.
///
/// ```text
/// last.json                  names the last checkpoint, its scores and the best checkpoint
/// recipe.json                the recipe of the run
/// epoch-0007-step-00000/     model.bpk  criterion.bpk  optimizer.bpk  …  state.json  manifest.json
/// epoch-0005-step-00000/     …
/// ```
///
/// # Guarantees
///
/// A checkpoint is never changed after it is saved. A save has these steps:
/// 1. Write the files to a folder with a temporary name, and flush each to the disk.
/// 2. Write a manifest with the lengths and SHA-256 hashes of the files, and flush it and the folder.
/// 3. Rename the folder to its final name, and flush the parent folder.
/// 4. Replace `last.json` by a rename, and flush. From now on the new checkpoint is the last one.
/// 5. Remove the checkpoints that `last.json` does not name.
///
/// `last.json` names both the last and the best checkpoint, so the two are always consistent.
///
/// | event | state afterwards |
/// |---|---|
/// | the process is killed at any moment | the checkpoint before or after the save is complete |
/// | a write, flush or rename fails (full or broken disk) | the same, and the error names the file |
/// | the power fails, on Unix | the same, if the file system and the disk keep flushed data |
/// | the power fails, on Windows | the last checkpoint can be lost: Windows cannot flush a folder, so recent renames can be undone while removals are kept |
/// | a bit of a file flips, or a file is truncated or missing | an error that names the file, before anything is loaded |
/// | two processes train in one folder | the second gets an error, if the file system supports locks |
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

/// Selects the last or the best checkpoint of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointKind {
    /// The checkpoint that was written last. A run resumes from it.
    Last,
    /// The checkpoint with the best mean average precision (mAP), or the best accuracy if the data have no
    /// queries; in segmentation, the best mIoU.
    Best,
}

impl Checkpoints {
    /// The checkpoints in a folder. The folder need not exist yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// The checkpoints of a new run in a folder. The folder need not exist yet.
    ///
    /// # Errors
    /// [`Error::HoldsRun`] if the folder already holds a run; also if `last.json` cannot be read or is
    /// damaged.
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

    /// Returns the folder of the last or the best checkpoint; `None` if there is none yet.
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

    /// Creates, locks and cleans the folder, and writes the recipe of the run. The folder is locked until the
    /// result is dropped.
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

    /// Saves a checkpoint, which becomes the last one.
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

    /// Adds scores to the last checkpoint, and makes it the best one if `is_best`.
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

    /// Reads the state of a checkpoint, after its hash and the lengths of the other files were verified.
    pub(crate) fn read_state(checkpoint: &Path) -> Result<State, Error> {
        Self::read_verified(checkpoint, Check::File(STATE))
    }

    /// Reads the state of a checkpoint, after the hashes of all files were verified.
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

    /// Reads the recipe of a checkpoint.
    ///
    /// # Errors
    /// If the checkpoint cannot be read, is damaged, or holds another kind of recipe.
    pub fn recipe<N, L>(checkpoint: &Path) -> Result<Recipe<N, L>, Error>
    where
        N: DeserializeOwned,
        L: DeserializeOwned,
    {
        Self::recipe_as(checkpoint)
    }

    /// Reads the recipe of a checkpoint of semantic segmentation.
    ///
    /// # Errors
    /// As [`recipe`](Self::recipe).
    pub fn segmentation_recipe<N>(checkpoint: &Path) -> Result<SegmentationRecipe<N>, Error>
    where
        N: DeserializeOwned,
    {
        Self::recipe_as(checkpoint)
    }

    fn recipe_as<R: DeserializeOwned>(checkpoint: &Path) -> Result<R, Error> {
        let state = Self::read_state(checkpoint)?;
        crate::json::from_value(&checkpoint.join(STATE), renamed(state.recipe))
    }

    /// Reads the summaries of the epochs up to a checkpoint. The scores of the last epoch are in the
    /// `last.json` of the folder of the run, so they are missing if a checkpoint was copied without that
    /// file.
    ///
    /// # Errors
    /// If the checkpoint cannot be read or is damaged.
    pub fn history(checkpoint: &Path) -> Result<Vec<EpochSummary>, Error> {
        Ok(Self::read_state(checkpoint)?.history)
    }

    /// Reads the training identities of a checkpoint, in the order of their labels.
    ///
    /// # Errors
    /// If the checkpoint cannot be read or is damaged.
    pub fn classes(checkpoint: &Path) -> Result<Classes, Error> {
        Ok(Self::read_state(checkpoint)?.classes)
    }

    /// Reads the classes of each attribute of a checkpoint, by the name of the attribute. Empty if the training images
    /// had no attributes.
    ///
    /// # Errors
    /// If the checkpoint cannot be read or is damaged.
    pub fn attribute_classes(
        checkpoint: &Path,
    ) -> Result<BTreeMap<String, AttributeClasses>, Error> {
        Ok(Self::read_state(checkpoint)?.attribute_classes)
    }

    /// Loads the model of a checkpoint into a model that was built by the same recipe. If the recipe averages
    /// weights, the averaged model is loaded.
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

/// The scores of a checkpoint, from the pointer in its parent folder.
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
