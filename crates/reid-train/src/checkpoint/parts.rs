//! The files of a checkpoint that hold tensors.

use std::{fs, path::Path};

use burn::{
    module::Module,
    optim::ModuleOptimizer,
    store::{
        ModuleRecord, RecordError,
        burn_pack::{Reader, Writer},
    },
    tensor::Bytes,
};

use super::{sealed::to_json, state::State};
use crate::{
    error::{Error, at},
    groups::Optimizers,
    learner::{AnyLearner, Part},
};

pub(super) const STATE: &str = "state.json";
pub(super) const MODEL: &str = "model.bpk";
pub(super) const AVERAGE: &str = "average.bpk";
const CRITERION: &str = "criterion.bpk";
/// The optimizer of the centres of a center loss in version 0.1.
const OF_CENTERS: &str = "criterion-optimizer.bpk";

/// The parts of a checkpoint that hold tensors.
pub(crate) struct Parts<'a> {
    pub(crate) learner: &'a dyn AnyLearner,
    pub(crate) optimizers: &'a Optimizers,
    /// Whether there is an average of the weights.
    pub(crate) averaged: bool,
}

/// The content of a file of a checkpoint.
enum Content {
    Learner(Part),
    Optimizer(usize),
    State,
}

impl Parts<'_> {
    /// Iterates over the names and contents of the files of a checkpoint. Only one content is held at a time.
    pub(super) fn files(
        &self,
        state: &State,
    ) -> impl Iterator<Item = Result<(String, Bytes), Error>> {
        let files = contents(self.averaged, self.optimizers.all.len());
        files.into_iter().map(|(name, content)| {
            let bytes = match content {
                Content::Learner(part) => self.learner.save(part)?,
                Content::Optimizer(index) => {
                    let bytes = self.optimizers.all[index].into_bytes();
                    bytes.map_err(|error| unusable(Path::new(&name), &error))?
                }
                Content::State => Bytes::from_bytes_vec(to_json(Path::new(&name), state)?),
            };
            Ok((name, bytes))
        })
    }
}

/// Loads a learner and its optimizers from a checkpoint.
pub(crate) fn load_parts(
    checkpoint: &Path,
    learner: &mut dyn AnyLearner,
    optimizers: &mut Optimizers,
    averaged: bool,
) -> Result<(), Error> {
    for (name, content) in contents(averaged, optimizers.all.len()) {
        let mut path = checkpoint.join(name);
        match content {
            Content::Learner(part) => learner.load(part, &path)?,
            Content::Optimizer(1) if !path.exists() && checkpoint.join(OF_CENTERS).exists() => {
                path = checkpoint.join(OF_CENTERS);
                let optimizer = optimizers.all[1].clone();
                optimizers.all[1] = load_optimizer(optimizer, &path)?;
            }
            Content::Optimizer(index) => {
                let optimizer = optimizers.all[index].clone();
                optimizers.all[index] = load_optimizer(optimizer, &path)?;
            }
            Content::State => {}
        }
    }
    Ok(())
}

/// Loads the states of optimizers from a checkpoint, for a learner whose parameters have the identifiers of
/// that checkpoint.
pub(crate) fn load_optimizers(checkpoint: &Path, optimizers: &mut Optimizers) -> Result<(), Error> {
    for (index, state) in optimizers.all.iter_mut().enumerate() {
        *state = load_optimizer(state.clone(), &checkpoint.join(optimizer(index)))?;
    }
    Ok(())
}

/// The names of the files of a checkpoint, and what they hold.
fn contents(averaged: bool, optimizers: usize) -> Vec<(String, Content)> {
    let learner = [(MODEL, Part::Model), (CRITERION, Part::Criterion)];
    let average = averaged.then_some((AVERAGE, Part::Average));
    let learner = learner.into_iter().chain(average);
    let learner = learner.map(|(name, part)| (name.to_owned(), Content::Learner(part)));
    let optimizers = (0..optimizers).map(|index| (optimizer(index), Content::Optimizer(index)));
    let state = (STATE.to_owned(), Content::State);
    learner.chain(optimizers).chain([state]).collect()
}

/// The file name of an optimizer: 0 is that of the recipe, followed by those of the groups.
fn optimizer(index: usize) -> String {
    match index {
        0 => "optimizer.bpk".to_owned(),
        _ => format!("optimizer-{index}.bpk"),
    }
}

/// Writes the parameters of a module.
pub(crate) fn to_bytes<M: Module>(module: &M) -> Result<Bytes, Error> {
    let bytes = module.clone().into_record().into_bytes();
    bytes.map_err(|error| unusable(Path::new("a module"), &error))
}

/// Loads a module from a file of a checkpoint, also of version 0.1, in which some parameters had other names.
pub(crate) fn load<M: Module>(module: M, path: &Path) -> Result<M, Error> {
    let bytes = read(path)?.shared();
    let load = |module: M, bytes| {
        ModuleRecord::from_bytes(bytes).and_then(|record| module.try_load_record(record))
    };
    load(module.clone(), bytes.clone()).or_else(|error| {
        let renamed = renamed(bytes).ok_or_else(|| unusable(path, &error))?;
        load(module, renamed).map_err(|_| unusable(path, &error))
    })
}

/// The names of the branches of FNC in version 0.1, and their names now.
const RENAMED: [(&str, &str); 2] = [
    ("head.spatial.", "head.branches.0."),
    ("head.channel.", "head.branches.1."),
];

/// Renames the parameters of a file of version 0.1; `None` if no parameter has a name of version 0.1.
fn renamed(file: Bytes) -> Option<Bytes> {
    let mut tensors = Reader::from_bytes(file)
        .and_then(Reader::into_tensors)
        .ok()?;
    let mut any = false;
    for tensor in &mut tensors {
        for (old, new) in RENAMED {
            if let Some(rest) = tensor.name.strip_prefix(old) {
                tensor.name = format!("{new}{rest}");
                any = true;
                break;
            }
        }
    }
    any.then(|| Writer::new(tensors).into_bytes().ok())
        .flatten()
}

/// Loads the state of an optimizer. Tensors without a parameter are rejected first, because Burn panics at
/// them.
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
        nn::{Linear, LinearConfig},
        store::burn_pack::Tensor,
        tensor::{DType, Device, Shape},
    };

    use super::*;
    use crate::optimizer::OptimizerConfig;

    #[test]
    fn the_state_of_an_optimizer_must_belong_to_parameters() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(optimizer(0));
        let load = |id| {
            let bytes = Bytes::from_bytes_vec(vec![0; 4]);
            let tensor = Tensor::new("7.momentum".into(), DType::F32, Shape::from([1]), id, bytes);
            fs::write(&path, &*Writer::new(vec![tensor]).into_bytes().unwrap()).unwrap();
            load_optimizer(OptimizerConfig::adam().init(), &path)
        };
        assert!(load(Some(7)).is_ok());
        let error = load(None).map(drop).expect_err("no parameter").to_string();
        assert!(error.contains("optimizer.bpk"), "{error}");
        let expected = "the tensor `7.momentum` belongs to no parameter";
        assert!(error.contains(expected), "{error}");
    }

    #[derive(Module, Debug)]
    struct Head<B> {
        head: B,
    }

    #[derive(Module, Debug)]
    struct Named {
        spatial: Linear,
        channel: Linear,
    }

    #[derive(Module, Debug)]
    struct Listed {
        branches: (Linear, Linear),
    }

    #[test]
    fn checkpoints_with_the_branch_names_of_0_1_are_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(MODEL);
        let linear = || LinearConfig::new(2, 3).init(&Device::default());
        let (spatial, channel) = (linear(), linear());
        let (expected, id) = (channel.weight.val().to_data(), channel.weight.id);
        let head = Named { spatial, channel };
        fs::write(&path, &*to_bytes(&Head { head }).unwrap()).unwrap();

        let branches = (linear(), linear());
        let Head { head } = load(
            Head {
                head: Listed { branches },
            },
            &path,
        )
        .unwrap();
        assert_eq!(head.branches.1.weight.val().to_data(), expected);
        assert_eq!(head.branches.1.weight.id, id);

        let error = load(Head { head: linear() }, &path).map(drop);
        let error = error.expect_err("another head").to_string();
        assert!(
            error.contains("model.bpk") && error.contains("head.weight"),
            "{error}"
        );
    }
}
