//! The operations on Burn's CPU backend Flex.
//!
//! Results are written over an operand where no other tensor shares its memory. A sum is written over one of
//! its branches, a depthwise convolution over its input, a gradient over the gradient with respect to the
//! output, and new weights over their gradient. This saves filling a result with zeros and the page faults of
//! fresh memory. It also keeps the end of the heap in use, which glibc would otherwise return to the system
//! after every step.

use burn::{
    backend::{Flex, tensor::FloatTensor},
    tensor::{Bytes, DType, Shape},
};
use burn_flex::{FlexTensor, Layout};
use reid_kernels::{
    Adam, ConvEpilogue, Convolution, Mixing, Pooling, WindowAverage,
    normalisation::{Map, Sizes},
};

use crate::{
    extension::{BackwardOps, ReidOps},
    gate::{Broadcast, Gates, sizes},
    normalisation::{Affine, given},
};

/// A tensor in contiguous memory: the given one, or a copy if it is not contiguous.
pub(crate) struct Read(FlexTensor);

impl Read {
    pub(crate) fn new(tensor: &FlexTensor) -> Self {
        Self(expanded(tensor).unwrap_or_else(|| tensor.to_contiguous()))
    }

    pub(crate) fn values(&self) -> &[f32] {
        self.0.as_slice().expect("contiguous single precision")
    }
}

/// Creates a contiguous tensor.
pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::new(
        Bytes::from_elems(values),
        Layout::contiguous(shape.into()),
        DType::F32,
    )
}

/// Copies a tensor whose feature maps are one repeated value each, as the gradients of sums and means are;
/// `None` for other tensors.
fn expanded(tensor: &FlexTensor) -> Option<FlexTensor> {
    let layout = tensor.layout();
    let (&[batch, channels, height, width], &[images, maps, 0, 0]) =
        (&layout.shape()[..], layout.strides())
    else {
        return None;
    };
    let (values, start) = (tensor.storage::<f32>(), layout.start_offset());
    let value = |at: usize| {
        let image = (at / channels).cast_signed() * images;
        let map = (at % channels).cast_signed() * maps;
        values[start
            .checked_add_signed(image + map)
            .expect("an index in the storage")]
    };
    let each: Vec<f32> = (0..batch * channels).map(value).collect();
    let shape = [batch, channels, height, width];
    Some(self::tensor(
        reid_kernels::global_avg_pool_backward(&each, height * width),
        shape,
    ))
}

/// Whether a tensor is contiguous, covers its whole storage and is the only owner of it.
pub(crate) fn is_own(tensor: &FlexTensor) -> bool {
    let whole = tensor.storage::<f32>().len() == tensor.layout().num_elements();
    tensor.is_unique() && whole && tensor.is_contiguous()
}

/// A tensor that may be written in place: the given one if [`is_own`], otherwise a copy.
pub(crate) fn own(tensor: FlexTensor) -> FlexTensor {
    if is_own(&tensor) {
        return tensor;
    }
    let Read(read) = Read::new(&tensor);
    let shape = tensor.layout().shape().clone();
    drop(tensor);
    // A tensor that was not contiguous has been copied already.
    if is_own(&read) {
        return read;
    }
    self::tensor(reid_kernels::copied(Read(read).values()), shape)
}

/// Computes a convolution with an epilogue.
fn convolve(
    mut input: FlexTensor,
    weight: &FlexTensor,
    convolution: &Convolution,
    epilogue: ConvEpilogue,
) -> FlexTensor {
    let weight = Read::new(weight);
    if convolution.is_in_place() && is_own(&input) {
        convolution.forward_in_place(input.storage_mut(), weight.values(), epilogue);
        return input;
    }
    let input = Read::new(&input);
    let [height, width] = convolution.output();
    let output = convolution.forward(input.values(), weight.values(), epilogue);
    tensor(
        output,
        [convolution.batch, convolution.channels[1], height, width],
    )
}

/// As [`convolve`], adding the result to `shortcut` before the ReLU.
fn convolve_onto(
    input: &FlexTensor,
    weight: &FlexTensor,
    shortcut: FlexTensor,
    convolution: &Convolution,
    epilogue: ConvEpilogue,
) -> FlexTensor {
    let (input, weight) = (Read::new(input), Read::new(weight));
    let mut output = own(shortcut);
    let (input, weight) = (input.values(), weight.values());
    convolution.forward_onto(input, weight, epilogue, output.storage_mut());
    output
}

impl ReidOps for Flex {
    fn convolve(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        convolution: Convolution,
    ) -> FloatTensor<Self> {
        convolve(input, &weight, &convolution, ConvEpilogue::default())
    }

    fn convolve_biased(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        convolution: Convolution,
        relu: bool,
    ) -> FloatTensor<Self> {
        let bias = Read::new(&bias);
        let epilogue = ConvEpilogue {
            scale: None,
            bias: Some(bias.values()),
            relu,
        };
        convolve(input, &weight, &convolution, epilogue)
    }

    fn convolve_normalised(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f64,
        convolution: Convolution,
        relu: bool,
    ) -> FloatTensor<Self> {
        let (affine, statistics) = (Affine::new(&gamma, &bias, epsilon), given(&mean, &variance));
        let (scale, shift) = Map::new(&statistics, affine.parameters()).scale_and_shift();
        let epilogue = ConvEpilogue {
            scale: Some(&scale),
            bias: Some(&shift),
            relu,
        };
        convolve(input, &weight, &convolution, epilogue)
    }

    fn convolve_onto(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        shortcut: FloatTensor<Self>,
        convolution: Convolution,
    ) -> FloatTensor<Self> {
        let bias = Read::new(&bias);
        let epilogue = ConvEpilogue {
            scale: None,
            bias: Some(bias.values()),
            relu: true,
        };
        convolve_onto(&input, &weight, shortcut, &convolution, epilogue)
    }

    fn convolve_normalised_onto(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        shortcut: FloatTensor<Self>,
        epsilon: f64,
        convolution: Convolution,
    ) -> FloatTensor<Self> {
        let (affine, statistics) = (Affine::new(&gamma, &bias, epsilon), given(&mean, &variance));
        let (scale, shift) = Map::new(&statistics, affine.parameters()).scale_and_shift();
        let epilogue = ConvEpilogue {
            scale: Some(&scale),
            bias: Some(&shift),
            relu: true,
        };
        convolve_onto(&input, &weight, shortcut, &convolution, epilogue)
    }

    fn normalise_by(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f64,
        relu: bool,
    ) -> FloatTensor<Self> {
        let shape = input.layout().shape().clone();
        let (affine, statistics) = (Affine::new(&gamma, &bias, epsilon), given(&mean, &variance));
        let map = Map::new(&statistics, affine.parameters());
        let input = Read::new(&input);
        let output = map.apply(Sizes::new(&shape), input.values(), relu);
        tensor(output, shape)
    }

    fn add_relu(left: FloatTensor<Self>, right: FloatTensor<Self>) -> FloatTensor<Self> {
        let (left, right) = if is_own(&right) && !is_own(&left) {
            (right, left)
        } else {
            (left, right)
        };
        let (mut sum, right) = (own(left), Read::new(&right));
        reid_kernels::add_relu(sum.storage_mut(), right.values());
        sum
    }

    fn multiply_add_relu(
        maps: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        shortcut: FloatTensor<Self>,
        broadcast: Broadcast,
    ) -> FloatTensor<Self> {
        let (gate, factors) = (sizes(&maps, broadcast), Read::new(&factors));
        let shortcut = Read::new(&shortcut);
        let (factors, shortcut) = (factors.values(), shortcut.values());
        if is_own(&maps) {
            let mut gated = maps;
            gate.multiply_add_relu(gated.storage_mut(), factors, shortcut);
            return gated;
        }
        let shape = maps.layout().shape().clone();
        let maps = Read::new(&maps);
        let gated = gate.multiplied(maps.values(), factors, Some(shortcut));
        tensor(gated, shape)
    }

    fn mix(maps: FloatTensor<Self>, mixing: Mixing, _: bool) -> FloatTensor<Self> {
        let shape = maps.layout().shape().clone();
        tensor(mixing.forward(Read::new(&maps).values()), shape)
    }

    fn adam(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        square: FloatTensor<Self>,
        step: Adam,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [mut updated, mut mean, mut square] = [gradient, mean, square].map(own);
        step.apply(
            Read::new(&weights).values(),
            updated.storage_mut(),
            mean.storage_mut(),
            square.storage_mut(),
        );
        (updated, mean, square)
    }

    fn pool(input: FloatTensor<Self>, pooling: Pooling) -> FloatTensor<Self> {
        let mut shape = input.layout().shape().clone();
        let output = pooling.forward(Read::new(&input).values());
        [shape[2], shape[3]] = pooling.output;
        tensor(output, shape)
    }

    fn average(input: FloatTensor<Self>, pooling: WindowAverage) -> FloatTensor<Self> {
        let mut shape = input.layout().shape().clone();
        let output = pooling.forward(Read::new(&input).values());
        [shape[2], shape[3]] = pooling.output();
        tensor(output, shape)
    }
}

impl BackwardOps for Flex {
    fn convolve_input_gradient(
        weight: FloatTensor<Self>,
        mut gradient: FloatTensor<Self>,
        convolution: Convolution,
    ) -> FloatTensor<Self> {
        let weight = Read::new(&weight);
        if convolution.is_in_place() && is_own(&gradient) {
            convolution.input_gradient_in_place(weight.values(), gradient.storage_mut());
            return gradient;
        }
        let gradient = Read::new(&gradient);
        let [height, width] = convolution.input;
        let result = convolution.input_gradient(weight.values(), gradient.values());
        tensor(
            result,
            [convolution.batch, convolution.channels[0], height, width],
        )
    }

    fn convolve_weight_gradient(
        input: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        convolution: Convolution,
    ) -> FloatTensor<Self> {
        let (input, gradient) = (Read::new(&input), Read::new(&gradient));
        let [height, width] = convolution.kernel;
        let [from, to] = convolution.channels;
        let result = convolution.weight_gradient(input.values(), gradient.values());
        tensor(result, [to, from / convolution.groups, height, width])
    }

    fn add_relu_backward(
        output: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (output, mut gradient) = (Read::new(&output), own(gradient));
        reid_kernels::relu_backward(output.values(), gradient.storage_mut());
        gradient
    }

    fn multiply_add_relu_gradients(
        maps: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        output: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        broadcast: Broadcast,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (output, mut shortcut) = (Read::new(&output), own(gradient));
        reid_kernels::relu_backward(output.values(), shortcut.storage_mut());
        let (by_maps, by_factors) =
            Self::multiply_gradients(maps, factors, shortcut.clone(), broadcast);
        (by_maps, by_factors, shortcut)
    }

    fn mix_gradient(
        gradient: FloatTensor<Self>,
        mixing: Mixing,
        to_partners: bool,
    ) -> FloatTensor<Self> {
        let shape = gradient.layout().shape().clone();
        let gradient = Read::new(&gradient);
        tensor(mixing.gradient(gradient.values(), to_partners), shape)
    }

    fn pool_gradient(
        input: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        pooling: Pooling,
    ) -> FloatTensor<Self> {
        let shape = input.layout().shape().clone();
        let (input, gradient) = (Read::new(&input), Read::new(&gradient));
        tensor(pooling.gradient(input.values(), gradient.values()), shape)
    }

    fn average_gradient(gradient: FloatTensor<Self>, pooling: WindowAverage) -> FloatTensor<Self> {
        let mut shape = gradient.layout().shape().clone();
        [shape[2], shape[3]] = pooling.input;
        tensor(pooling.gradient(Read::new(&gradient).values()), shape)
    }
}
