//! The parts of a run that hold tensors, as files.

use std::{fs, path::Path};

use burn::{
    module::Module,
    optim::ModuleOptimizer,
    store::{ModuleRecord, RecordError},
    tensor::Bytes,
};
use reid_nn::{Block, Criterion, Head};

use super::{sealed::to_json, state::State};
use crate::{
    error::{Error, at},
    trainee::Trainee,
};

pub(super) const STATE: &str = "state.json";
pub(super) const MODEL: &str = "model.bpk";
const CRITERION: &str = "criterion.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const CRITERION_OPTIMIZER: &str = "criterion-optimizer.bpk";

/// The parts of a run that hold tensors.
pub(crate) struct Parts<B, H, C> {
    pub(crate) trainee: Trainee<B, H, C>,
    pub(crate) optimizer: ModuleOptimizer,
    pub(crate) criterion_optimizer: ModuleOptimizer,
}

impl<B: Block, H: Head, C: Criterion> Parts<B, H, C> {
    /// The files of a checkpoint, each made when it is asked for, so that only one is held at a time.
    pub(super) fn files(
        &self,
        state: &State,
    ) -> impl Iterator<Item = Result<(&'static str, Bytes), Error>> {
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

pub(super) fn load<M: Module>(module: M, path: &Path) -> Result<M, Error> {
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
