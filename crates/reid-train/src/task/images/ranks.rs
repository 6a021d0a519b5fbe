//! The share of one of several ranks in the task of re-identification and classification.

use burn::{
    module::{ModuleVisitor, Param},
    tensor::Tensor,
};
use reid_core::{Problems, Ranks};
use reid_nn::{norm::synchronise_batch_norm, traversal};

use super::ImageTask;
use crate::{
    error::Error,
    learner::Learner,
    parallel::{Parallel, Scope},
};

impl ImageTask<'_> {
    /// Sets the ranks that share batches and evaluation.
    pub(crate) fn set_ranks(&mut self, parallel: Parallel) {
        let extractor = self.extractor.clone();
        self.extractor = extractor.with_ranks(parallel.ranks.clone());
        self.parallel = Some(parallel);
    }

    /// The number of this rank and of all.
    pub(super) fn share(&self) -> [usize; 2] {
        let parallel = self.parallel.as_ref();
        parallel.map_or([0, 1], |all| [all.ranks.rank(), all.ranks.size()])
    }

    /// The ranks over whose batches losses are computed, if they are.
    pub(super) fn ranks_of_losses(&self) -> Option<&Ranks> {
        let all = self.parallel.as_ref()?;
        (all.config.losses == Scope::WholeBatch).then_some(&all.ranks)
    }

    /// Runs a forward pass, with batch normalisation over the whole batch if the run has it.
    pub(super) fn forward<R>(&self, work: impl FnOnce() -> R) -> R {
        match &self.parallel {
            Some(Parallel { ranks, config }) if config.batch_norm == Scope::WholeBatch => {
                synchronise_batch_norm(ranks, work)
            }
            _ => work(),
        }
    }

    /// Adds a problem if the ranks cannot share the batches, or their losses would differ from those that the settings
    /// name.
    pub(super) fn validate_ranks<L: Learner>(&self, learner: &L, problems: &mut Problems) {
        let Some(Parallel { ranks, config }) = &self.parallel else {
            return;
        };
        let count = ranks.size();
        if let Some(sampling) = &self.sampling {
            let (field, found) = match sampling.shuffled {
                Some(images) => ("shuffled", images),
                None => ("identities", sampling.identities),
            };
            let expected = format_args!("a multiple of {count}, the number of ranks");
            let shares = found.is_multiple_of(count);
            problems.at("sampling", |problems| {
                problems.require(field, shares, expected, found);
            });
            // One identity has no triplet, and one image no variance.
            let alone = found == count && count > 1;
            if shares && alone && (sampling.shuffled.is_some() || config.losses == Scope::PerRank) {
                let expected = format_args!("at least {}, 2 for each rank", 2 * count);
                problems.at("sampling", |problems| {
                    problems.require(field, false, expected, found);
                });
            }
        }
        match config.losses {
            Scope::WholeBatch => {
                let expected = "a learner that gathers outputs (`Learner::gathers`) for losses over the whole batch";
                let found = "one that does not";
                problems.require("learner", learner.gathers(), expected, found);
            }
            Scope::PerRank => {
                let mut untrained = Untrained::default();
                traversal::visit(learner.criterion(), &mut untrained);
                let holds = untrained.found.is_none();
                let expected = "losses over the whole batch (`ParallelConfig::losses`) for a criterion that keeps \
                                values of earlier batches";
                let path = untrained.found.unwrap_or_default();
                let found = format_args!("losses per rank and `criterion.{path}`");
                problems.require("losses", holds, expected, found);
            }
        }
    }
}

/// Rejects batches that ranks cannot share equally.
pub(super) fn expect_shares(batches: &[Vec<usize>], shares: usize) -> Result<(), Error> {
    let mut sizes = batches.iter().map(Vec::len);
    match sizes.find(|size| !size.is_multiple_of(shares)) {
        None => Ok(()),
        Some(size) => {
            let reason = format!("a batch of {size} images, expected a multiple of {shares} ranks");
            Err(reid_data::Error::Sampling { reason }.into())
        }
    }
}

/// Finds the path of the first value of a criterion that is not trained.
#[derive(Default)]
struct Untrained {
    path: Vec<String>,
    found: Option<String>,
}

impl ModuleVisitor for Untrained {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            self.found.get_or_insert_with(|| self.path.join("."));
        }
    }
}
