//! Convolution on GPUs as an extension of Burn's backends.
//!
//! This crate lays out the operands and computes the gradient with respect to the weights. The forward pass
//! and the gradient with respect to the input are Burn's.

#![expect(
    clippy::too_many_arguments,
    reason = "an operation of a backend takes tensors and scalars, not structs"
)]

#[cfg(native_cube)]
use burn::{backend::fusion::custom::TensorSpec, tensor::Shape};
use burn::{
    backend::{
        Autodiff, Backend, TensorMetadata,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        tensor::FloatTensor,
    },
    tensor::ops::ConvOptions,
};

use super::form::{Form, Layout, Stem};

/// Convolution without dilation. It is computed in the dtype of the features. Weights may have another
/// dtype, which their gradient keeps.
#[backend_extension(
    Cube: cfg(native_cube),
    Autodiff,
    Fusion: cfg(native_cube),
)]
pub(super) trait GpuConvolution: Backend {
    /// Computes a convolution in a form.
    #[fusion(default)]
    fn convolve(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        options: ConvOptions<2>,
        form: Form,
    ) -> FloatTensor<Self> {
        let layout = layout(&input, &options, form);
        let [input, dense] = dense::<Self>(input, &weight, &layout);
        Self::conv2d(input, dense, None, form.options(options))
    }

    /// Copies blocks of 2 x 2 pixels to single pixels of sixteen channels.
    #[fusion(dtype = images, shape = Shape::from(stem.pixels))]
    fn space_to_depth(images: FloatTensor<Self>, stem: Stem) -> FloatTensor<Self>;

    /// The gradient of [`space_to_depth`](Self::space_to_depth); used in the backward pass only.
    #[fusion(dtype = pixels, shape = Shape::from(stem.images))]
    fn depth_to_space(pixels: FloatTensor<Self>, stem: Stem) -> FloatTensor<Self>;

    /// Rewrites weights in a layout and its dtype, with channels innermost.
    #[fusion(dtype = layout.dtype, shape = Shape::from(layout.shape(weight.dims())))]
    fn laid_out(weight: FloatTensor<Self>, layout: Layout) -> FloatTensor<Self>;

    /// Computes a convolution with a normalisation folded into its weights. Returns the output without its
    /// bias, and the bias. It has no backward pass.
    #[fusion(default)]
    fn convolve_folded(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f64,
        options: ConvOptions<2>,
        form: Form,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let layout = layout(&input, &options, form);
        let [_, _, down, across] = weight.shape().dims();
        let (dense, shift) = Self::folded(weight, gamma, bias, mean, variance, epsilon, layout);
        let input = dense_input::<Self>(input, [down, across], &layout);
        let output = Self::conv2d(input, dense, None, form.options(options));
        (output, shift)
    }

    /// Computes a convolution. Returns the output without its bias, and the bias in the dtype of the
    /// output. It has no backward pass.
    #[fusion(default)]
    fn convolve_biased(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: ConvOptions<2>,
        form: Form,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let layout = layout(&input, &options, form);
        let [_, _, down, across] = weight.shape().dims();
        let (dense, shift) = Self::biased(weight, bias, layout);
        let input = dense_input::<Self>(input, [down, across], &layout);
        let output = Self::conv2d(input, dense, None, form.options(options));
        (output, shift)
    }

    /// Rewrites weights in a layout, and converts the bias to the same dtype.
    #[fusion(meta = |weight, _, layout: &Layout| laid_out_with_shift(&weight.shape, layout))]
    fn biased(
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        layout: Layout,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Rewrites weights in a layout with a normalisation folded in. Returns the weights and the bias.
    #[fusion(meta = |weight, _, _, _, _, _, layout: &Layout| laid_out_with_shift(&weight.shape, layout))]
    fn folded(
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f64,
        layout: Layout,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradient with respect to the weights, from the operands of the dense convolution; used in the
    /// backward pass only.
    #[fusion(dtype = weight, shape = weight)]
    fn weight_gradient(
        input: FloatTensor<Self>,
        dense: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        options: ConvOptions<2>,
        layout: Layout,
    ) -> FloatTensor<Self>;
}

/// The shapes and dtypes of rewritten weights and of their bias.
#[cfg(native_cube)]
fn laid_out_with_shift(weight: &Shape, layout: &Layout) -> (TensorSpec, TensorSpec) {
    let shape = layout.shape(weight.dims());
    let shift = TensorSpec::new([shape[0]].into(), layout.dtype);
    (TensorSpec::new(shape.into(), layout.dtype), shift)
}

/// The layout of the weights of a convolution over the given features.
fn layout<T: TensorMetadata>(features: &T, options: &ConvOptions<2>, form: Form) -> Layout {
    Layout {
        form,
        padding: options.padding_begin(),
        dtype: features.dtype(),
    }
}

/// The operands of a convolution, rewritten in a form.
fn dense<B: GpuConvolution>(
    input: FloatTensor<B>,
    weight: &FloatTensor<B>,
    layout: &Layout,
) -> [FloatTensor<B>; 2] {
    let dense = B::laid_out(weight.clone(), *layout);
    let [_, _, down, across] = weight.shape().dims();
    [dense_input::<B>(input, [down, across], layout), dense]
}

/// The input of a convolution, rewritten in a form.
fn dense_input<B: GpuConvolution>(
    input: FloatTensor<B>,
    kernel: [usize; 2],
    layout: &Layout,
) -> FloatTensor<B> {
    match layout.form {
        Form::Stem => {
            let stem = Stem::new(input.shape().dims(), kernel, layout.padding);
            B::space_to_depth(input, stem)
        }
        Form::Whole | Form::Groups(_) => input,
    }
}

#[derive(Clone, Debug)]
struct State<T> {
    input: T,
    dense: T,
    weight: T,
    /// The options of the dense convolution.
    options: ConvOptions<2>,
    layout: Layout,
    images: [usize; 4],
}

#[derive(Debug)]
struct Convolve;

impl<B: GpuConvolution> Backward<B, 2> for Convolve {
    type State = State<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let State {
            input,
            dense,
            weight,
            options,
            layout,
            images,
        } = ops.state;
        let [by_input, by_weight] = ops.parents;
        if let Some(node) = by_input {
            let options = options.clone();
            let by_input =
                B::conv2d_x_backward(input.clone(), dense.clone(), gradient.clone(), options);
            let by_input = match layout.form {
                Form::Stem => {
                    let [_, _, down, across] = weight.shape().dims();
                    B::depth_to_space(by_input, Stem::new(images, [down, across], layout.padding))
                }
                Form::Whole | Form::Groups(_) => by_input,
            };
            grads.register::<B>(node.id, by_input);
        }
        if let Some(node) = by_weight {
            let by_weight = B::weight_gradient(input, dense, weight, gradient, options, layout);
            grads.register::<B>(node.id, by_weight);
        }
    }
}

impl<B: GpuConvolution, C: CheckpointStrategy> GpuConvolution for Autodiff<B, C> {
    fn convolve(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        options: ConvOptions<2>,
        form: Form,
    ) -> FloatTensor<Self> {
        let nodes = [input.node(), weight.node()];
        let [input, weight] = [input, weight].map(FloatTensor::<Self>::into_primitive);
        let (images, layout) = (input.shape().dims(), layout(&input, &options, form));
        let [input, dense] = dense::<B>(input, &weight, &layout);
        let options = form.options(options);
        let output = B::conv2d(input.clone(), dense.clone(), None, options.clone());
        let state = State {
            input,
            dense,
            weight,
            options,
            layout,
            images,
        };
        match Convolve.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(state, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn space_to_depth(_: FloatTensor<Self>, _: Stem) -> FloatTensor<Self> {
        unreachable!("with autodiff, a convolution is one operation")
    }

    fn depth_to_space(_: FloatTensor<Self>, _: Stem) -> FloatTensor<Self> {
        unreachable!("the backward pass of a convolution is not differentiable")
    }

    fn laid_out(_: FloatTensor<Self>, _: Layout) -> FloatTensor<Self> {
        unreachable!("with autodiff, a convolution is one operation")
    }

    fn convolve_folded(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f64,
        _: ConvOptions<2>,
        _: Form,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("with autodiff, a convolution and a normalisation are two operations")
    }

    fn convolve_biased(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: ConvOptions<2>,
        _: Form,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("with autodiff, a convolution and the addition of its bias are two operations")
    }

    fn biased(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Layout,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("with autodiff, a convolution and the addition of its bias are two operations")
    }

    fn folded(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f64,
        _: Layout,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("with autodiff, a convolution and a normalisation are two operations")
    }

    fn weight_gradient(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: ConvOptions<2>,
        _: Layout,
    ) -> FloatTensor<Self> {
        unreachable!("the backward pass of a convolution is not differentiable")
    }
}
