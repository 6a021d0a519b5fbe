//! Lookahead (Zhang et al., Lookahead Optimizer: k steps forward, 1 step back, `NeurIPS` 2019,
//! arXiv:1907.08610).

use burn::{
    optim::{LearningRate, Optimizer, RecordState, StateSink, StateSource, join_path},
    tensor::{Device, Tensor},
};

/// An optimizer around another one, with a slow copy of the weights. Every k steps the slow weights move
/// towards the weights, which are then reset to the slow ones.
///
/// ```text
/// w ← step of the inner optimizer
/// every k steps:  s ← s + α·(w - s),  w ← s           s = w before the first step
/// ```
///
/// The slow weights are part of the state of the optimizer, so they are saved in checkpoints. The state of
/// the inner optimizer is not reset.
///
/// ```
/// use burn::optim::{ModuleOptimizer, SgdConfig};
/// use reid_train::Lookahead;
///
/// let inner = SgdConfig::new().build();
/// let optimizer = ModuleOptimizer::from(Lookahead { inner, alpha: 0.5, period: 6 });
/// # let _ = optimizer;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lookahead<O> {
    /// The inner optimizer.
    pub inner: O,
    /// The step α of the slow weights towards the weights, in `(0, 1]`; 0.5 in the paper.
    pub alpha: f64,
    /// The number of steps k between updates of the slow weights, at least 1; 6 in Ranger.
    pub period: usize,
}

impl<O> Lookahead<O> {
    /// Lookahead with the hyper-parameters of Ranger: α = 0.5, k = 6.
    pub const fn new(inner: O) -> Self {
        Self {
            inner,
            alpha: 0.5,
            period: 6,
        }
    }
}

/// The state of [`Lookahead`]: that of the inner optimizer, the slow weights, and the number of steps.
#[derive(Clone, Debug)]
pub struct LookaheadState<S, const D: usize> {
    /// The state of the inner optimizer.
    pub inner: Option<S>,
    /// The slow weights.
    pub slow: Tensor<D>,
    /// The number of steps so far.
    pub time: usize,
}

impl<S: RecordState, const D: usize> RecordState for LookaheadState<S, D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        if let Some(inner) = &self.inner {
            inner.state_flatten(&join_path(prefix, "inner"), out);
        }
        out.push_tensor(prefix, "slow", self.slow.to_data());
        out.push_scalar(prefix, "time", (self.time as u64).into());
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        let inner = join_path(prefix, "inner");
        let inner = if src.has_under(&inner) {
            Some(S::state_unflatten(&inner, src, device)?)
        } else {
            None
        };
        Some(Self {
            inner,
            slow: Tensor::from_data(src.take_tensor(prefix, "slow")?, device),
            time: usize::try_from(u64::try_from(src.take_scalar(prefix, "time")?).ok()?).ok()?,
        })
    }
}

impl<O: Optimizer> Optimizer for Lookahead<O> {
    type State<const D: usize> = LookaheadState<O::State<D>, D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        weights: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let LookaheadState { inner, slow, time } = state.unwrap_or_else(|| LookaheadState {
            inner: None,
            slow: weights.clone(),
            time: 0,
        });
        let (weights, inner) = self.inner.step(rate, weights, gradient, inner);
        let time = time + 1;
        let (weights, slow) = if time.is_multiple_of(self.period) {
            let slow = slow.clone() + (weights - slow) * self.alpha;
            (slow.clone(), slow)
        } else {
            (weights, slow)
        };
        (weights, Some(LookaheadState { inner, slow, time }))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        LookaheadState {
            inner: state.inner.map(|inner| O::to_device(inner, device)),
            slow: state.slow.to_device(device),
            time: state.time,
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        module::{Module, Param},
        optim::{GradientsParams, ModuleOptimizer},
    };

    use super::*;
    use crate::optimizer::Radam;

    fn optimizer() -> ModuleOptimizer {
        ModuleOptimizer::from(Lookahead {
            inner: Radam::default(),
            alpha: 0.5,
            period: 3,
        })
    }

    fn walk(
        mut optimizer: ModuleOptimizer,
        mut weights: Vec<Param<Tensor<1>>>,
        steps: usize,
    ) -> (ModuleOptimizer, Vec<Param<Tensor<1>>>) {
        for _ in 0..steps {
            let mut gradients = GradientsParams::new();
            let gradient = weights[0].val().without_autodiff() * 0.5 + 1.0;
            gradients.register(weights[0].id, gradient);
            weights = optimizer.step(0.1, weights, gradients);
        }
        (optimizer, weights)
    }

    /// An optimizer that is saved between two updates of the slow weights resumes bit-identically.
    #[test]
    fn slow_weights_are_saved_and_loaded() {
        let device = Device::default().autodiff();
        let start = Tensor::<1>::from_data([1.0, -2.0], &device);
        let weights = vec![Param::from_tensor(start)];
        let (whole, expected) = walk(optimizer(), weights.clone(), 7);
        drop(whole);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("optimizer.bpk");
        let (first, weights) = walk(optimizer(), weights, 4);
        first.save(&path).unwrap();
        let loaded = optimizer().load(&path).unwrap();
        let (_, found) = walk(loaded, weights, 3);
        assert_eq!(found[0].val().to_data(), expected[0].val().to_data());
        assert_eq!(found.num_params(), 2);
    }
}
