//! A run that continues with the optimizers of an earlier run.

use std::path::Path;

use super::Trainer;
use crate::{checkpoint::load_optimizers, error::Error, learner::Learner};

impl<L: Learner> Trainer<'_, L> {
    /// Loads the states of the optimizers from a checkpoint of another run with the same optimizers and
    /// groups. The parameters of the learner must have the identifiers of that checkpoint.
    ///
    /// # Errors
    /// If a state cannot be read.
    pub(crate) fn with_optimizers_of(mut self, checkpoint: &Path) -> Result<Self, Error> {
        load_optimizers(checkpoint, &mut self.optimizers)?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        store::{bridge, burn_pack::Reader},
        tensor::{Bytes, Device},
    };
    use reid_core::{InputSize, Splits};
    use reid_data::{dataset::market1501, loader::LoaderConfig};
    use reid_nn::{backbone::ResNetConfig, head::BnNeckConfig};
    use reid_synthetic::SyntheticConfig;

    use super::*;
    use crate::{
        checkpoint::{CheckpointKind, Checkpoints},
        recipe::Recipe,
    };

    /// The names, parameters and values of a state, sorted, because their order in a file is not fixed.
    fn tensors(state: Bytes) -> Vec<(String, Option<u64>, Vec<u8>)> {
        let tensors = Reader::from_bytes(state).and_then(Reader::into_tensors);
        let tensors = tensors.expect("a state").into_iter().map(|tensor| {
            let data = bridge::to_data(&tensor).expect("in memory");
            (tensor.name, tensor.param_id, data.bytes().to_vec())
        });
        let mut tensors: Vec<_> = tensors.collect();
        tensors.sort_unstable();
        tensors
    }

    fn state<L: Learner>(trainer: &Trainer<'_, L>) -> Bytes {
        trainer.optimizers.all[0].into_bytes().expect("a state")
    }

    #[test]
    fn the_state_of_the_optimizer_is_that_of_the_checkpoint() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        SyntheticConfig::new()
            .with_train_identities(4)
            .with_test_identities(2)
            .write(&data)
            .expect("written");
        let train = market1501::load(&data).expect("read").train;
        let splits = Splits::new("toy").with_train(train);
        let network = (ResNetConfig::resnet18().with_width(4), BnNeckConfig::new());
        let mut recipe = Recipe::strong_baseline("toy", InputSize::new(32, 16), network);
        (recipe.epochs, recipe.sampling.identities) = (1, 4);

        let new = || {
            let loading = LoaderConfig::default();
            Trainer::new(&recipe, &splits, loading, &Device::default()).expect("a valid recipe")
        };
        let checkpoints = Checkpoints::new(folder.path().join("run"));
        let run = new().with_checkpoints(checkpoints.clone());
        run.run(&mut ()).expect("it trains");
        let checkpoint = checkpoints.find(CheckpointKind::Last).expect("read");
        let checkpoint = checkpoint.expect("a checkpoint");

        let trainer = new();
        let before = tensors(state(&trainer));
        let trainer = trainer.with_optimizers_of(&checkpoint).expect("states");
        let saved = std::fs::read(checkpoint.join("optimizer.bpk")).expect("read");
        let saved = tensors(Bytes::from_bytes_vec(saved));
        assert!(before.is_empty() && !saved.is_empty());
        assert!(tensors(state(&trainer)) == saved);
    }
}
