//! Runs of several ranks.

use std::sync::Arc;

use reid_core::{Communicator, Ranks};

use super::Trainer;
use crate::{
    learner::Learner,
    parallel::{Parallel, ParallelConfig, RANKS},
};

impl<L: Learner> Trainer<'_, L> {
    /// Makes this trainer one of several ranks, which train one model together.
    ///
    /// Each rank draws its share of every batch: of P identities and n ranks, P/n whole identities. The gradients of
    /// the ranks are averaged in the order of the ranks, so that weights are bit-identical on all of them. With
    /// [`ParallelConfig::exact`], they equal those of one process up to rounding.
    ///
    /// Every rank runs the same program: the same recipe, data, calls and checkpoints. They are compared when the run
    /// starts.
    /// - Losses, accuracy and diagnostics are the means over the ranks, the same in the events of all ranks.
    /// - Only rank 0 writes checkpoints, and the others wait. All ranks resume from its folder.
    /// - Embeddings for an evaluation are computed in shares, and every rank ranks all of them. Every rank classifies
    ///   all test images.
    /// - An interrupt of one rank stops all of them after the same step.
    /// - If a rank fails, panics or ends, the others end with [`Error::Ranks`](crate::Error::Ranks) and its number.
    ///
    /// Call it before [`resume`](Self::resume). The settings must be those of the checkpoint. The number of ranks may
    /// change if both settings are over the whole batch; a single process, with or without this method, is such a run.
    ///
    /// Random choices of a network in training, such as dropout or feature `CutMix`, are those of the shares. They
    /// depend on the number of ranks. The learners of ranks in one process may be clones of one learner. Gradients flow
    /// between ranks on the backend Flex and on GPUs.
    ///
    /// ```
    /// use burn::tensor::Device;
    /// use reid_core::{InputSize, Threads};
    /// use reid_data::{dataset::market1501, loader::LoaderConfig};
    /// use reid_nn::{backbone::ResNetConfig, head::BnNeckConfig};
    /// use reid_synthetic::SyntheticConfig;
    /// use reid_train::{ParallelConfig, Recipe, Trainer};
    ///
    /// let folder = tempfile::tempdir()?;
    /// SyntheticConfig::new().with_train_identities(4).with_test_identities(2).write(folder.path())?;
    /// let splits = market1501::load(folder.path())?;
    /// let network = (ResNetConfig::resnet18().with_width(4), BnNeckConfig::new());
    /// let mut recipe = Recipe::strong_baseline("toy", InputSize::new(32, 16), network);
    /// (recipe.epochs, recipe.sampling.identities) = (1, 4);
    ///
    /// let histories = Threads::run(2, |communicator| {
    ///     let (loading, device) = (LoaderConfig::default(), Device::default());
    ///     let trainer = Trainer::new(&recipe, &splits, loading, &device)?;
    ///     let trainer = trainer.with_ranks(communicator, ParallelConfig::exact());
    ///     trainer.run(&mut ()).map(|outcome| outcome.history)
    /// });
    /// let histories = histories.into_iter().collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(histories[0], histories[1]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_ranks(
        mut self,
        communicator: Arc<dyn Communicator>,
        config: ParallelConfig,
    ) -> Self {
        let ranks = Ranks::new(communicator);
        if ranks.size() == 1 {
            return self;
        }
        if let Some(note) = config.note(ranks.size()) {
            self.run.note(RANKS, note);
        }
        let parallel = Parallel { ranks, config };
        self.learner.task.set_ranks(parallel.clone());
        self.run.parallel = Some(parallel);
        self
    }
}
