//! The parts of a run that hold tensors, as files.

use std::{fs, path::Path};

use burn::{
    module::Module,
    optim::ModuleOptimizer,
    store::{ModuleRecord, RecordError, burn_pack::Reader},
    tensor::Bytes,
};
use reid_nn::{Block, Criterion, Head};

use super::{sealed::to_json, state::State};
use crate::{
    error::{Error, at},
    learner::Learner,
};

pub(super) const STATE: &str = "state.json";
pub(super) const MODEL: &str = "model.bpk";
const CRITERION: &str = "criterion.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const CRITERION_OPTIMIZER: &str = "criterion-optimizer.bpk";

/// The parts of a run that hold tensors.
pub(crate) struct Parts<B, H, C> {
    pub(crate) learner: Learner<B, H, C>,
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
        let Learner { model, criterion } = &self.learner;
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
        let optimizer = |optimizer, name| load_optimizer(optimizer, &checkpoint.join(name));
        let Learner { model, criterion } = self.learner;
        Ok(Self {
            learner: Learner {
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

/// Burn panics at a tensor that belongs to no parameter, so that it is looked for first.
fn load_optimizer(optimizer: ModuleOptimizer, path: &Path) -> Result<ModuleOptimizer, Error> {
    let bytes = read(path)?.shared();
    let refused = |reason| Error::Checkpoint {
        path: path.to_owned(),
        reason,
    };
    let tensors = Reader::from_bytes(bytes.clone())
        .and_then(Reader::into_tensors)
        .map_err(|error| refused(error.to_string()))?;
    if let Some(stray) = tensors.iter().find(|tensor| tensor.param_id.is_none()) {
        let name = &stray.name;
        return Err(refused(format!(
            "the tensor `{name}` belongs to no parameter"
        )));
    }
    let loaded = optimizer.from_bytes(bytes);
    loaded.map_err(|error| unusable(path, &error))
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

#[cfg(test)]
mod tests {
    use burn::{
        store::burn_pack::{Tensor, Writer},
        tensor::{DType, Shape},
    };

    use super::*;
    use crate::optimizer::OptimizerConfig;

    #[test]
    fn the_state_of_an_optimizer_must_belong_to_parameters() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(OPTIMIZER);
        let load = |id| {
            let bytes = Bytes::from_bytes_vec(vec![0; 4]);
            let tensor = Tensor::new("7.momentum".into(), DType::F32, Shape::from([1]), id, bytes);
            fs::write(&path, &*Writer::new(vec![tensor]).into_bytes().unwrap()).unwrap();
            load_optimizer(OptimizerConfig::adam().init(), &path)
        };
        assert!(load(Some(7)).is_ok());
        let error = load(None).map(drop).expect_err("no parameter").to_string();
        assert!(error.contains(OPTIMIZER), "{error}");
        let expected = "the tensor `7.momentum` belongs to no parameter";
        assert!(error.contains(expected), "{error}");
    }
}
