//! The learner of a slot as one of several ranks.

use burn::{
    module::{ModuleMapper, ModuleVisitor, Param},
    tensor::Tensor,
};
use reid_core::Ranks;
use reid_nn::{norm::average_statistics, traversal};
use sha2::{Digest, Sha256};

use super::Slot;
use crate::{checkpoint::hexadecimal, learner::LearnerParts, task::Task};

impl<L: LearnerParts, T: Task<L>> Slot<L, T> {
    /// Gives every tensor of the learner its own autodiff graph, which it shares with no clone on another rank.
    pub(crate) fn detach(&mut self) {
        self.replace(|learner| traversal::map(learner, &mut Detach));
    }

    pub(super) fn average_statistics_over(&mut self, ranks: &Ranks, of_average: bool) {
        if of_average {
            let average = self.average.take();
            self.average = average.map(|average| average_statistics(average, ranks));
        } else {
            self.replace(|learner| average_statistics(learner, ranks));
        }
    }

    /// A hash of all values of the learner.
    pub(super) fn hash_of_values(&self) -> String {
        let mut values = Values(Sha256::new());
        traversal::visit(self.learner(), &mut values);
        hexadecimal(&values.0.finalize())
    }
}

/// Detaches each tensor. Whether it requires a gradient does not change.
struct Detach;

impl ModuleMapper for Detach {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(Tensor::detach)
    }
}

/// Hashes the values of parameters and running statistics, in order.
struct Values(Sha256);

impl ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.update(param.val().to_data().as_bytes());
    }
}
