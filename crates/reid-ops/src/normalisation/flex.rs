//! Batch normalisation in training on Flex.

use burn::backend::{Flex, tensor::FloatTensor};
use burn_flex::FlexTensor;
use reid_kernels::normalisation::{Map, Parameters, Sizes, Statistics, normalise, normalise_onto};

use super::extension::{Step, TrainingNorm, moved};
use crate::flex::{Read, own, tensor};

/// Gains and biases that can be read.
pub(crate) struct Learnt([Read; 2], f64);

impl Learnt {
    pub(crate) fn new(gain: &FlexTensor, bias: &FlexTensor, epsilon: f64) -> Self {
        Self([gain, bias].map(Read::new), epsilon)
    }

    pub(crate) fn parameters(&self) -> Parameters<'_> {
        let Self([gain, bias], epsilon) = self;
        Parameters {
            gain: gain.numbers(),
            bias: bias.numbers(),
            epsilon: *epsilon,
        }
    }
}

fn per_channel(numbers: Vec<f32>) -> FlexTensor {
    let channels = numbers.len();
    tensor(numbers, [channels])
}

/// Statistics that are given.
pub(crate) fn given(mean: &FlexTensor, variance: &FlexTensor) -> Statistics {
    let [mean, variance] = [mean, variance].map(|of| Read::new(of).numbers().to_vec());
    Statistics { mean, variance }
}

impl TrainingNorm for Flex {
    fn normalise(
        input: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
        rectify: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let shape = input.layout().shape().clone();
        let (input, learnt) = (Read::new(&input), Learnt::new(&gain, &bias, epsilon));
        let parameters = learnt.parameters();
        let (output, Statistics { mean, variance }) =
            normalise(Sizes::new(&shape), input.numbers(), parameters, rectify);
        (
            tensor(output, shape),
            per_channel(mean),
            per_channel(variance),
        )
    }

    fn normalise_joined(
        input: FloatTensor<Self>,
        gain: FloatTensor<Self>,
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
        let sizes = Sizes::new(input.layout().shape());
        let (input, learnt) = (Read::new(&input), Learnt::new(&gain, &bias, step.epsilon));
        let mut output = own(shortcut);
        let statistics = normalise_onto(
            sizes,
            input.numbers(),
            learnt.parameters(),
            output.storage_mut(),
        );
        let batch = [statistics.mean, statistics.variance].map(per_channel);
        let [batch_mean, batch_variance] = batch.clone();
        let [mean, variance] = moved::<Self>([mean, variance], batch, step);
        (output, batch_mean, batch_variance, mean, variance)
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
        let sizes = Sizes::new(input.layout().shape());
        let (input, mut gradient) = (Read::new(&input), own(gradient));
        let (learnt, statistics) = (Learnt::new(&gain, &bias, epsilon), given(&mean, &variance));
        let map = Map::new(&statistics, learnt.parameters());
        let gradients = map.gradients(sizes, input.numbers(), gradient.storage_mut(), rectify);
        (
            gradient,
            per_channel(gradients.gain),
            per_channel(gradients.bias),
        )
    }

    fn joined_gradients(
        input: FloatTensor<Self>,
        gain: FloatTensor<Self>,
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
    ) {
        let shape = input.layout().shape().clone();
        let (input, output, mut gradient) = (Read::new(&input), Read::new(&output), own(gradient));
        let (learnt, statistics) = (Learnt::new(&gain, &bias, epsilon), given(&mean, &variance));
        let map = Map::new(&statistics, learnt.parameters());
        let (by_input, gradients) = map.joined_gradients(
            Sizes::new(&shape),
            input.numbers(),
            output.numbers(),
            gradient.storage_mut(),
        );
        (
            tensor(by_input, shape),
            per_channel(gradients.gain),
            per_channel(gradients.bias),
            gradient,
        )
    }
}
