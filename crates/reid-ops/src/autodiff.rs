//! The backward passes of the CPU operations.

use burn::backend::{
    Autodiff,
    autodiff::{
        NodeId,
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    tensor::FloatTensor,
};
use reid_kernels::{Adam, Convolution, Mixing, Pooling, WindowAverage};

use crate::{
    extension::{BackwardOps, ReidOps},
    gate::Broadcast,
};

/// The state that the backward pass of a convolution needs.
#[derive(Clone, Debug)]
struct Convolved<T> {
    input: T,
    weight: T,
    convolution: Convolution,
}

impl<T: Clone> Convolved<T> {
    /// Registers the gradients with respect to input and weights, where these are tracked. The gradient with
    /// respect to the input comes last, because it may be written over `gradient`.
    fn register<B: BackwardOps<FloatTensorPrimitive = T>>(
        self,
        [input, weight]: [Option<NodeId>; 2],
        gradient: T,
        grads: &mut Gradients,
    ) {
        if let Some(node) = weight {
            let by_weight =
                B::convolve_weight_gradient(self.input, gradient.clone(), self.convolution);
            grads.register::<B>(node, by_weight);
        }
        if let Some(node) = input {
            let by_input = B::convolve_input_gradient(self.weight, gradient, self.convolution);
            grads.register::<B>(node, by_input);
        }
    }
}

#[derive(Debug)]
struct Convolve;

impl<B: BackwardOps> Backward<B, 2> for Convolve {
    type State = Convolved<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        ops.state.register::<B>(
            ops.parents.map(|parent| parent.map(|node| node.id)),
            gradient,
            grads,
        );
    }
}

#[derive(Debug)]
struct ConvolveBiased;

impl<B: BackwardOps> Backward<B, 3> for ConvolveBiased {
    type State = (Convolved<FloatTensor<B>>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let [input, weight, bias] = ops.parents;
        let (state, bias_value) = ops.state;
        if let Some(node) = bias {
            let by_bias =
                B::conv2d_bias_backward(state.input.clone(), bias_value, gradient.clone());
            grads.register::<B>(node.id, by_bias);
        }
        state.register::<B>(
            [input, weight].map(|parent| parent.map(|node| node.id)),
            gradient,
            grads,
        );
    }
}

#[derive(Debug)]
struct AddRelu;

impl<B: BackwardOps> Backward<B, 2> for AddRelu {
    /// The output of the ReLU.
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let gradient = B::add_relu_backward(ops.state, gradient);
        for node in ops.parents.into_iter().flatten() {
            grads.register::<B>(node.id, gradient.clone());
        }
    }
}

#[derive(Debug)]
struct MultiplyAddRelu;

impl<B: BackwardOps> Backward<B, 3> for MultiplyAddRelu {
    /// Features, gate and output.
    type State = ([FloatTensor<B>; 3], Broadcast);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let ([maps, factors, output], broadcast) = ops.state;
        let (maps, factors, shortcut) =
            B::multiply_add_relu_gradients(maps, factors, output, gradient, broadcast);
        for (node, gradient) in ops.parents.into_iter().zip([maps, factors, shortcut]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct Mix;

impl<B: BackwardOps> Backward<B, 1> for Mix {
    type State = (Mixing, bool);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let (mixing, to_partners) = ops.state;
        let [parent] = ops.parents;
        if let Some(node) = parent {
            grads.register::<B>(node.id, B::mix_gradient(gradient, mixing, to_partners));
        }
    }
}

#[derive(Debug)]
struct Pool;

impl<B: BackwardOps> Backward<B, 1> for Pool {
    type State = (FloatTensor<B>, Pooling);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let (input, pooling) = ops.state;
        let [parent] = ops.parents;
        if let Some(node) = parent {
            grads.register::<B>(node.id, B::pool_gradient(input, gradient, pooling));
        }
    }
}

#[derive(Debug)]
struct Average;

impl<B: BackwardOps> Backward<B, 1> for Average {
    type State = WindowAverage;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let [parent] = ops.parents;
        if let Some(node) = parent {
            grads.register::<B>(node.id, B::average_gradient(gradient, ops.state));
        }
    }
}

impl<B: BackwardOps, C: CheckpointStrategy> ReidOps for Autodiff<B, C> {
    fn convolve(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        convolution: Convolution,
    ) -> FloatTensor<Self> {
        let nodes = [input.node(), weight.node()];
        let (input, weight) = (input.into_primitive(), weight.into_primitive());
        let output = B::convolve(input.clone(), weight.clone(), convolution);
        let state = Convolved {
            input,
            weight,
            convolution,
        };
        match Convolve.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(state, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn convolve_biased(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        convolution: Convolution,
        relu: bool,
    ) -> FloatTensor<Self> {
        assert!(!relu, "a convolution with a ReLU has no backward pass");
        let nodes = [input.node(), weight.node(), bias.node()];
        let [input, weight, bias] = [input, weight, bias].map(FloatTensor::<Self>::into_primitive);
        let output = B::convolve_biased(
            input.clone(),
            weight.clone(),
            bias.clone(),
            convolution,
            false,
        );
        let state = Convolved {
            input,
            weight,
            convolution,
        };
        match ConvolveBiased
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((state, bias), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn convolve_normalised(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f64,
        _: Convolution,
        _: bool,
    ) -> FloatTensor<Self> {
        unreachable!("with autodiff, a convolution and a normalisation are two operations")
    }

    fn convolve_onto(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Convolution,
    ) -> FloatTensor<Self> {
        unreachable!(
            "with autodiff, a convolution and the addition of a shortcut are two operations"
        )
    }

    fn convolve_normalised_onto(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f64,
        _: Convolution,
    ) -> FloatTensor<Self> {
        unreachable!("with autodiff, a convolution and a normalisation are two operations")
    }

    fn normalise_by(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f64,
        _: bool,
    ) -> FloatTensor<Self> {
        unreachable!("with autodiff, a normalisation by given statistics is Burn's own")
    }

    fn adam(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Adam,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("Adam updates weights without autodiff")
    }

    fn add_relu(left: FloatTensor<Self>, right: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [left.node(), right.node()];
        let output = B::add_relu(left.into_primitive(), right.into_primitive());
        match AddRelu.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(output.clone(), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn multiply_add_relu(
        maps: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        shortcut: FloatTensor<Self>,
        broadcast: Broadcast,
    ) -> FloatTensor<Self> {
        let nodes = [maps.node(), factors.node(), shortcut.node()];
        let all = [maps, factors, shortcut];
        let [maps, factors, shortcut] = all.map(FloatTensor::<Self>::into_primitive);
        match MultiplyAddRelu
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let (x, gate) = (maps.clone(), factors.clone());
                let output = B::multiply_add_relu(x, gate, shortcut, broadcast);
                prep.finish(([maps, factors, output.clone()], broadcast), output)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::multiply_add_relu(maps, factors, shortcut, broadcast))
            }
        }
    }

    fn mix(maps: FloatTensor<Self>, mixing: Mixing, to_partners: bool) -> FloatTensor<Self> {
        let node = maps.node();
        let output = B::mix(maps.into_primitive(), mixing.clone(), to_partners);
        match Mix.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((mixing, to_partners), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn pool(input: FloatTensor<Self>, pooling: Pooling) -> FloatTensor<Self> {
        let node = input.node();
        let input = input.into_primitive();
        let output = B::pool(input.clone(), pooling);
        match Pool.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((input, pooling), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn average(input: FloatTensor<Self>, pooling: WindowAverage) -> FloatTensor<Self> {
        let node = input.node();
        let output = B::average(input.into_primitive(), pooling);
        match Average.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(pooling, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}
