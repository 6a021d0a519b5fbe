//! Batch normalisation on Flex.

use burn::backend::{Flex, tensor::FloatTensor};
use burn_flex::FlexTensor;
use reid_kernels::normalisation::{Map, Parameters, Sizes, Statistics, normalise, normalise_onto};

use super::extension::{Step, TrainingNorm, updated};
use crate::flex::{Read, own, tensor};

/// Weight and bias in contiguous memory, and ε.
pub(crate) struct Affine([Read; 2], f64);

impl Affine {
    pub(crate) fn new(gamma: &FlexTensor, bias: &FlexTensor, epsilon: f64) -> Self {
        Self([gamma, bias].map(Read::new), epsilon)
    }

    pub(crate) fn parameters(&self) -> Parameters<'_> {
        let Self([gamma, bias], epsilon) = self;
        Parameters {
            weight: gamma.values(),
            bias: bias.values(),
            epsilon: *epsilon,
        }
    }
}

fn per_channel(values: Vec<f32>) -> FlexTensor {
    let channels = values.len();
    tensor(values, [channels])
}

/// Copies given statistics.
pub(crate) fn given(mean: &FlexTensor, variance: &FlexTensor) -> Statistics {
    let [mean, variance] = [mean, variance].map(|of| Read::new(of).values().to_vec());
    Statistics { mean, variance }
}

impl TrainingNorm for Flex {
    fn normalise(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
        relu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let shape = input.layout().shape().clone();
        let (input, affine) = (Read::new(&input), Affine::new(&gamma, &bias, epsilon));
        let parameters = affine.parameters();
        let (output, Statistics { mean, variance }) =
            normalise(Sizes::new(&shape), input.values(), parameters, relu);
        (
            tensor(output, shape),
            per_channel(mean),
            per_channel(variance),
        )
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
        let sizes = Sizes::new(input.layout().shape());
        let (input, affine) = (Read::new(&input), Affine::new(&gamma, &bias, step.epsilon));
        let mut output = own(shortcut);
        let statistics = normalise_onto(
            sizes,
            input.values(),
            affine.parameters(),
            output.storage_mut(),
        );
        let batch = [statistics.mean, statistics.variance].map(per_channel);
        let [batch_mean, batch_variance] = batch.clone();
        let [mean, variance] = updated::<Self>([mean, variance], batch, step);
        (output, batch_mean, batch_variance, mean, variance)
    }

    fn normalise_gradients(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f64,
        relu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let sizes = Sizes::new(input.layout().shape());
        let (input, mut gradient) = (Read::new(&input), own(gradient));
        let (affine, statistics) = (Affine::new(&gamma, &bias, epsilon), given(&mean, &variance));
        let map = Map::new(&statistics, affine.parameters());
        let gradients = map.gradients(sizes, input.values(), gradient.storage_mut(), relu);
        (
            gradient,
            per_channel(gradients.weight),
            per_channel(gradients.bias),
        )
    }

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
    ) {
        let shape = input.layout().shape().clone();
        let (input, output, mut gradient) = (Read::new(&input), Read::new(&output), own(gradient));
        let (affine, statistics) = (Affine::new(&gamma, &bias, epsilon), given(&mean, &variance));
        let map = Map::new(&statistics, affine.parameters());
        let (by_input, gradients) = map.add_relu_gradients(
            Sizes::new(&shape),
            input.values(),
            output.values(),
            gradient.storage_mut(),
        );
        (
            tensor(by_input, shape),
            per_channel(gradients.weight),
            per_channel(gradients.bias),
            gradient,
        )
    }
}
