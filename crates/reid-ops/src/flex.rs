//! The operations on Flex.

use burn::{
    backend::{Flex, tensor::FloatTensor},
    tensor::{Bytes, DType, Shape},
};
use burn_flex::{FlexTensor, Layout};

use crate::{
    cpu::{self, Geometry, Pooling},
    extension::{Pullbacks, ReidOps},
    turns::{self, Turns},
};

/// A tensor whose numbers lie one behind the other.
struct Read(FlexTensor);

impl Read {
    fn new(tensor: &FlexTensor) -> Self {
        Self(tensor.to_contiguous())
    }

    fn numbers(&self) -> &[f32] {
        self.0.as_slice().expect("contiguous single precision")
    }
}

fn tensor(numbers: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::new(
        Bytes::from_elems(numbers),
        Layout::contiguous(shape.into()),
        DType::F32,
    )
}

fn convolve(
    input: &FlexTensor,
    weight: &FlexTensor,
    bias: Option<&FlexTensor>,
    geometry: &Geometry,
    rectify: bool,
) -> FlexTensor {
    let (input, weight, bias) = (Read::new(input), Read::new(weight), bias.map(Read::new));
    let bias = bias.as_ref().map(Read::numbers);
    let [height, width] = geometry.output();
    let output = cpu::convolve(geometry, input.numbers(), weight.numbers(), bias, rectify);
    tensor(
        output,
        [geometry.batch, geometry.channels[1], height, width],
    )
}

impl ReidOps for Flex {
    fn convolve(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        convolve(&input, &weight, None, &geometry, false)
    }

    fn convolve_biased(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        geometry: Geometry,
        rectify: bool,
    ) -> FloatTensor<Self> {
        convolve(&input, &weight, Some(&bias), &geometry, rectify)
    }

    fn normalise(
        input: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
        rectify: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let shape = input.layout().shape().clone();
        let [input, gain, bias] = [&input, &gain, &bias].map(Read::new);
        let sizes = cpu::Sizes::new(&shape);
        let statistics = cpu::statistics(sizes, input.numbers());
        let map = cpu::Map::new(
            &statistics,
            gain.numbers(),
            bias.numbers(),
            epsilon,
            rectify,
        );
        let output = map.apply(sizes, input.numbers());
        (
            tensor(output, shape),
            tensor(statistics.mean, [sizes.channels]),
            tensor(statistics.variance, [sizes.channels]),
        )
    }

    fn normalise_by(
        input: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f64,
        rectify: bool,
    ) -> FloatTensor<Self> {
        let shape = input.layout().shape().clone();
        let [input, gain, bias] = [&input, &gain, &bias].map(Read::new);
        let [mean, variance] = [&mean, &variance].map(|of| Read::new(of).numbers().to_vec());
        let statistics = cpu::Statistics { mean, variance };
        let map = cpu::Map::new(
            &statistics,
            gain.numbers(),
            bias.numbers(),
            epsilon,
            rectify,
        );
        tensor(map.apply(cpu::Sizes::new(&shape), input.numbers()), shape)
    }

    fn add_rectified(left: FloatTensor<Self>, right: FloatTensor<Self>) -> FloatTensor<Self> {
        let shape = left.layout().shape().clone();
        let (left, right) = (Read::new(&left), Read::new(&right));
        tensor(cpu::add_rectified(left.numbers(), right.numbers()), shape)
    }

    fn pool(input: FloatTensor<Self>, pooling: Pooling) -> FloatTensor<Self> {
        let mut shape = input.layout().shape().clone();
        let output = pooling.forward(Read::new(&input).numbers());
        [shape[2], shape[3]] = pooling.output;
        tensor(output, shape)
    }

    fn attend(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        turns: Turns,
    ) -> FloatTensor<Self> {
        turns::attend::<Self>(&query, &key, &value, turns)
    }
}

impl Pullbacks for Flex {
    fn convolve_input_gradient(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let (weight, gradient) = (Read::new(&weight), Read::new(&gradient));
        let [height, width] = geometry.input;
        let result = cpu::input_gradient(&geometry, weight.numbers(), gradient.numbers());
        tensor(
            result,
            [geometry.batch, geometry.channels[0], height, width],
        )
    }

    fn convolve_weight_gradient(
        input: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let (input, gradient) = (Read::new(&input), Read::new(&gradient));
        let [height, width] = geometry.kernel;
        let [from, to] = geometry.channels;
        let result = cpu::weight_gradient(&geometry, input.numbers(), gradient.numbers());
        tensor(result, [to, from / geometry.groups, height, width])
    }

    fn rectified_gradient(
        output: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let shape = output.layout().shape().clone();
        let (output, gradient) = (Read::new(&output), Read::new(&gradient));
        tensor(
            cpu::rectified_gradient(output.numbers(), gradient.numbers()),
            shape,
        )
    }

    fn pool_gradient(
        input: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        pooling: Pooling,
    ) -> FloatTensor<Self> {
        let shape = input.layout().shape().clone();
        let (input, gradient) = (Read::new(&input), Read::new(&gradient));
        tensor(pooling.gradient(input.numbers(), gradient.numbers()), shape)
    }

    fn attend_gradients(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        turns: Turns,
    ) -> [FloatTensor<Self>; 3] {
        turns::gradients::<Self>(&query, &key, &value, &gradient, turns)
    }

    fn normalise_gradients(
        input: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f64,
        rectify: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let shape = input.layout().shape().clone();
        let [input, gain, bias, gradient] = [&input, &gain, &bias, &gradient].map(Read::new);
        let [mean, variance] = [&mean, &variance].map(|of| Read::new(of).numbers().to_vec());
        let sizes = cpu::Sizes::new(&shape);
        let statistics = cpu::Statistics { mean, variance };
        let map = cpu::Map::new(
            &statistics,
            gain.numbers(),
            bias.numbers(),
            epsilon,
            rectify,
        );
        let gradients = map.gradients(sizes, input.numbers(), gradient.numbers());
        (
            tensor(gradients.input, shape),
            tensor(gradients.gain, [sizes.channels]),
            tensor(gradients.bias, [sizes.channels]),
        )
    }
}
