//! Batch normalisation in training as an extension of Burn's backends, and its backward pass.

#![expect(
    clippy::too_many_arguments,
    clippy::type_complexity,
    reason = "an operation of a backend takes and returns tensors and scalars, not structs"
)]

use burn::backend::{
    Autodiff, Backend,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    backend_extension,
    tensor::FloatTensor,
};

/// The hyper-parameters of a normalisation that updates running statistics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) epsilon: f64,
    /// The weight of the batch in the updated statistics.
    pub(crate) momentum: f64,
    /// The factor from the biased to the unbiased variance, `n/(n - 1)`.
    pub(crate) unbiased: f64,
}

/// Batch normalisation by the statistics of the batch. Weight, bias and statistics are `[channels]` in single
/// precision. On Flex, features are in single precision too.
#[backend_extension(
    Flex: cfg(native_flex),
    Cube: cfg(native_cube),
    Autodiff,
    Fusion: cfg(native_cube),
)]
pub(crate) trait TrainingNorm: Backend {
    /// Computes the normalised features, and the mean and variance of each channel.
    #[fusion(meta = |input, gamma, bias, _, _| (input.clone(), gamma.clone(), bias.clone()))]
    fn normalise(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
        relu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// As [`normalise`](Self::normalise), and updates running means and variances; see
    /// [`crate::RunningStatistics`].
    #[fusion(meta = |input, gamma, bias, mean, variance, _, _| {
        (input.clone(), gamma.clone(), bias.clone(), mean.clone(), variance.clone())
    })]
    fn normalise_update(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        relu: bool,
        step: Step,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        let (output, batch_mean, batch_variance) =
            Self::normalise(input, gamma, bias, step.epsilon, relu);
        let batch = [batch_mean.clone(), batch_variance.clone()];
        let [mean, variance] = updated::<Self>([mean, variance], batch, step);
        (output, batch_mean, batch_variance, mean, variance)
    }

    /// As [`normalise_update`](Self::normalise_update), then adds a shortcut and applies a ReLU.
    #[fusion(meta = |input, gamma, bias, mean, variance, _, _| {
        (input.clone(), gamma.clone(), bias.clone(), mean.clone(), variance.clone())
    })]
    fn normalise_add_relu(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        shortcut: FloatTensor<Self>,
        step: Step,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    );

    /// Computes the gradients with respect to input, weight and bias; used in the backward pass only.
    #[fusion(meta = |input, gamma, bias, _, _, _, _, _| (input.clone(), gamma.clone(), bias.clone()))]
    fn normalise_gradients(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f64,
        relu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Computes the gradients with respect to input, weight, bias and shortcut; used in the backward pass
    /// only.
    #[fusion(meta = |input, gamma, bias, _, _, _, gradient, _| {
        (input.clone(), gamma.clone(), bias.clone(), gradient.clone())
    })]
    fn add_relu_gradients(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        output: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f64,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    );
}

/// Updates running means and variances with those of a batch.
pub(crate) fn updated<B: Backend>(
    [mean, variance]: [FloatTensor<B>; 2],
    [batch_mean, batch_variance]: [FloatTensor<B>; 2],
    step: Step,
) -> [FloatTensor<B>; 2] {
    let move_towards = |running, batch, share: f64| {
        let kept = B::float_mul_scalar(running, (1.0 - step.momentum).into());
        B::float_add(kept, B::float_mul_scalar(batch, share.into()))
    };
    let mean = move_towards(mean, batch_mean, step.momentum);
    let variance = move_towards(variance, batch_variance, step.momentum * step.unbiased);
    [mean, variance]
}

#[derive(Clone, Debug)]
struct State<T> {
    input: T,
    gamma: T,
    bias: T,
    mean: T,
    variance: T,
    epsilon: f64,
    relu: bool,
}

#[derive(Debug)]
struct Normalise;

impl<B: TrainingNorm> Backward<B, 3> for Normalise {
    type State = State<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let state = ops.state;
        let (input, gamma, bias) = B::normalise_gradients(
            state.input,
            state.gamma,
            state.bias,
            state.mean,
            state.variance,
            gradient,
            state.epsilon,
            state.relu,
        );
        for (node, gradient) in ops.parents.into_iter().zip([input, gamma, bias]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct NormaliseAddRelu;

impl<B: TrainingNorm> Backward<B, 4> for NormaliseAddRelu {
    /// The state of the normalisation, and the output.
    type State = (State<FloatTensor<B>>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let (state, output) = ops.state;
        let (input, gamma, bias, shortcut) = B::add_relu_gradients(
            state.input,
            state.gamma,
            state.bias,
            state.mean,
            state.variance,
            output,
            gradient,
            state.epsilon,
        );
        for (node, gradient) in ops.parents.into_iter().zip([input, gamma, bias, shortcut]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: TrainingNorm, C: CheckpointStrategy> TrainingNorm for Autodiff<B, C> {
    fn normalise(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
        relu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [input.node(), gamma.node(), bias.node()];
        let [input, gamma, bias] = [input, gamma, bias].map(FloatTensor::<Self>::into_primitive);
        let (output, mean, variance) =
            B::normalise(input.clone(), gamma.clone(), bias.clone(), epsilon, relu);
        let state = State {
            input,
            gamma,
            bias,
            mean: mean.clone(),
            variance: variance.clone(),
            epsilon,
            relu,
        };
        let output = match Normalise.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(state, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        };
        // The statistics are not differentiable.
        let [mean, variance] = [mean, variance].map(FloatTensor::<Self>::new);
        (output, mean, variance)
    }

    fn normalise_update(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        relu: bool,
        step: Step,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        let nodes = [input.node(), gamma.node(), bias.node()];
        let all = [input, gamma, bias, mean, variance];
        let [input, gamma, bias, mean, variance] = all.map(FloatTensor::<Self>::into_primitive);
        let (output, batch_mean, batch_variance, mean, variance) = B::normalise_update(
            input.clone(),
            gamma.clone(),
            bias.clone(),
            mean,
            variance,
            relu,
            step,
        );
        let state = State {
            input,
            gamma,
            bias,
            mean: batch_mean.clone(),
            variance: batch_variance.clone(),
            epsilon: step.epsilon,
            relu,
        };
        let output = match Normalise.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(state, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        };
        let statistics = [batch_mean, batch_variance, mean, variance];
        let [batch_mean, batch_variance, mean, variance] = statistics.map(FloatTensor::<Self>::new);
        (output, batch_mean, batch_variance, mean, variance)
    }

    fn normalise_add_relu(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        shortcut: FloatTensor<Self>,
        step: Step,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        let nodes = [input.node(), gamma.node(), bias.node(), shortcut.node()];
        let all = [input, gamma, bias, mean, variance, shortcut];
        let [input, gamma, bias, mean, variance, shortcut] =
            all.map(FloatTensor::<Self>::into_primitive);
        let (output, batch_mean, batch_variance, mean, variance) = B::normalise_add_relu(
            input.clone(),
            gamma.clone(),
            bias.clone(),
            mean,
            variance,
            shortcut,
            step,
        );
        let state = State {
            input,
            gamma,
            bias,
            mean: batch_mean.clone(),
            variance: batch_variance.clone(),
            epsilon: step.epsilon,
            relu: true,
        };
        let output = match NormaliseAddRelu
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((state, output.clone()), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        };
        let statistics = [batch_mean, batch_variance, mean, variance];
        let [batch_mean, batch_variance, mean, variance] = statistics.map(FloatTensor::<Self>::new);
        (output, batch_mean, batch_variance, mean, variance)
    }

    fn normalise_gradients(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f64,
        _: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("the backward pass of a normalisation is not differentiable")
    }

    fn add_relu_gradients(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f64,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        unreachable!("the backward pass of a normalisation is not differentiable")
    }
}
