//! `LinearBnReluHead`: pooling, a linear layer with batch normalisation and `ReLU`, and a classifier. It is
//! the branch of Batch `DropBlock` and of progressive feature `CutMix`.

use burn::{
    config::Config,
    module::{Module, Param},
    nn::{Initializer, Linear, LinearConfig},
    tensor::{Int, Tensor, activation::relu},
};
use reid_core::{FeatureShape, Problems};

use super::{
    Head, HeadConfig, OutputShape, PassCam, ReidOutput, TrainingStep, validate_dimensions,
};
use crate::{
    grad_cam::{ClosedForm, weighted_sum},
    init::Init,
    linear,
    norm::{BatchNorm, BatchNormConfig},
    pool::{Pool, PoolConfig},
    precision::widened,
    similarity_map::EmbeddingTerms,
};

/// Configuration of [`LinearBnReluHead`], whose documentation has an example.
#[derive(Config, Debug, PartialEq)]
pub struct LinearBnReluHeadConfig {
    /// Dimensions of the embedding, from 1 to [`MAX_DIMENSIONS`](super::MAX_DIMENSIONS); 512 in the global
    /// branch of both papers' code.
    #[config(default = 512)]
    pub dimensions: usize,
    /// Pooling; average by default.
    #[config(default = "PoolConfig::Average")]
    pub pool: PoolConfig,
}

/// Pooling, a linear layer, batch normalisation, `ReLU`, and a classifier with bias.
///
/// ```text
/// v = pool(x)                 [batch, channels]
/// z = Wᵣ v + bᵣ               a 1 x 1 convolution of the pooled feature map in the papers
/// f = relu(BN(z))             the embedding; metric losses see it too      [batch, dimensions]
/// y = W f + b                 [batch, classes]
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Head, HeadConfig, Init, head::LinearBnReluHeadConfig};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let config = LinearBnReluHeadConfig::new().with_dimensions(8);
/// let head = config.init(FeatureShape::new(16, 4, 2), 10, &init);
/// assert_eq!(head.forward(Tensor::ones([2, 16, 4, 2], &device)).embedding.dims(), [2, 8]);
/// ```
#[derive(Module, Debug)]
pub struct LinearBnReluHead {
    /// Pooling.
    pub pool: Pool,
    /// The layer that reduces the number of dimensions, with the initial weights of He et al.
    pub reduction: Linear,
    /// The batch normalisation of its output. The weight is drawn from N(1, 0.02²), as in the authors' code.
    pub norm: BatchNorm,
    /// The identity classifier.
    pub classifier: Linear,
}

impl HeadConfig for LinearBnReluHeadConfig {
    type Head = LinearBnReluHead;

    fn init(&self, input: FeatureShape, classes: usize, init: &Init<'_>) -> LinearBnReluHead {
        Problems::refuse("LinearBnReluHead", |problems| {
            self.validate(input, problems);
        });
        assert!(
            classes > 0,
            "a head needs at least 1 class, found {classes}"
        );
        let dimensions = self.dimensions;
        let linear = |from, to| {
            let initializer = Initializer::KaimingNormal {
                gain: std::f64::consts::SQRT_2,
                fan_out_only: true,
            };
            let config = LinearConfig::new(from, to).with_initializer(initializer);
            let mut linear = init.linear(&config);
            linear.bias = Some(Param::from_tensor(Tensor::zeros([to], init.device())));
            linear
        };
        let mut norm = BatchNormConfig::new(dimensions).init(init.device());
        let normal = Initializer::Normal {
            mean: 1.0,
            std: 0.02,
        };
        norm.weight = init.tensor([dimensions], &normal, [1, 1]);
        LinearBnReluHead {
            pool: self.pool.init(init.device()),
            reduction: linear(input.channels, dimensions),
            norm,
            classifier: linear(dimensions, classes),
        }
    }

    fn output(&self, _input: FeatureShape, classes: usize) -> OutputShape {
        OutputShape::single(self.dimensions, classes)
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        validate_dimensions("dimensions", self.dimensions, input.channels, problems);
        problems.nested("pool", &self.pool);
    }
}

/// The intermediate values of a forward pass.
#[derive(Clone, Debug)]
struct Pass {
    /// The output of the linear layer, `[batch, dimensions]`.
    hidden: Tensor<2>,
    /// The embedding, `[batch, dimensions]`.
    features: Tensor<2>,
    /// The class scores, `[batch, classes]`.
    logits: Tensor<2>,
}

impl Pass {
    fn output(&self) -> ReidOutput {
        ReidOutput::single(self.features.clone(), self.logits.clone())
    }
}

impl LinearBnReluHead {
    fn pass(&self, features: Tensor<4>) -> Pass {
        let hidden = linear::apply(&self.reduction, self.pool.forward(features));
        let features = relu(self.norm.forward(hidden.clone()));
        let logits = linear::apply(&self.classifier, features.clone());
        Pass {
            hidden,
            features,
            logits,
        }
    }

    /// Computes the Grad-CAM of the forward pass `pass` on `features` in closed form,
    /// `[batch, height, width]`.
    ///
    /// It uses the batch norm statistics that the pass used, so it equals the result of a second forward and
    /// backward pass up to rounding. `classes` and the result are on a plain device.
    fn pass_cam(&self, features: &Tensor<4>, pass: &Pass, classes: Tensor<1, Int>) -> Tensor<3> {
        let by_batch = self.norm.uses_batch_statistics();
        let features = widened(features.clone().without_autodiff());
        let weights = self
            .valid()
            .backward(features.clone(), pass, classes, by_batch);
        weighted_sum(features, weights)
    }

    /// Computes the mean over positions of the gradient of each image's class score with respect to its
    /// features, `[batch, channels]`.
    fn backward(
        &self,
        features: Tensor<4>,
        pass: &Pass,
        classes: Tensor<1, Int>,
        by_batch: bool,
    ) -> Tensor<2> {
        let hidden = pass.hidden.clone().without_autodiff();
        let output = pass.features.clone().without_autodiff();
        let scores = self.classifier.weight.val().select(1, classes).transpose();
        let above = scores.mask_fill(output.lower_equal_elem(0.0), 0.0);
        let reduced = self.norm.backward(hidden, above, by_batch);
        let pooled = reduced.matmul(self.reduction.weight.val().transpose());
        pooled.cast(features.dtype()) * self.pool.mean_gradient(features)
    }
}

impl Head for LinearBnReluHead {
    fn forward(&self, features: Tensor<4>) -> ReidOutput {
        self.pass(features).output()
    }

    fn forward_with_cam(
        &self,
        features: Tensor<4>,
        _step: TrainingStep<'_>,
    ) -> (ReidOutput, Option<PassCam<'_>>) {
        let pass = self.pass(features.clone());
        let output = pass.output();
        let cam = PassCam::new(move |labels| self.pass_cam(&features, &pass, labels));
        (output, Some(cam))
    }

    fn embedding_terms(&self, features: Tensor<4>) -> Option<EmbeddingTerms> {
        let bias = self.reduction.bias.as_ref().map(Param::val);
        let hidden =
            EmbeddingTerms::pooled(&self.pool, features).linear(self.reduction.weight.val(), bias);
        Some(hidden.batch_norm(&self.norm).relu())
    }
}

impl ClosedForm for LinearBnReluHead {
    fn weights(&self, features: Tensor<4>, classes: Tensor<1, Int>) -> Tensor<2> {
        let pass = self.pass(features.clone());
        self.backward(features, &pass, classes, false)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{
        fixtures,
        grad_cam::{GradCam, Target},
    };

    #[test]
    fn the_cam_of_a_training_pass_equals_that_of_autodiff_for_every_pooling() {
        let device = Device::default().autodiff();
        let input = FeatureShape::new(6, 4, 3);
        for pool in [PoolConfig::Average, PoolConfig::Max, PoolConfig::GEM] {
            let config = LinearBnReluHeadConfig::new()
                .with_dimensions(5)
                .with_pool(pool);
            let head = fixtures::weights(config.init(input, 4, &fixtures::init(&device)));
            let features = fixtures::tensor([6, 6, 4, 3], -1.3..2.1, &device);
            let classes = Tensor::from_data([0, 3, 1, 2, 3, 0], &Device::default());
            let pass = head.pass(features.clone());
            let closed = head.pass_cam(&features, &pass, classes.clone());
            let cam = GradCam::new().by_batch_statistics();
            let general = cam.maps(&head, features, Target::Labels(&classes));
            let largest = general.clone().max().into_scalar::<f32>();
            assert!(largest > 0.0, "the Grad-CAM of autodiff is 0 everywhere");
            let difference = (general - closed).abs().max().into_scalar::<f32>();
            assert!(
                difference <= 1e-5 * largest,
                "the maximum is {largest}, the difference {difference}, with {pool:?}"
            );
        }
    }

    #[test]
    #[should_panic(expected = "LinearBnReluHead: dimensions: expected 1 to 65536, found 0")]
    fn zero_dimensions_are_refused() {
        let config = LinearBnReluHeadConfig::new().with_dimensions(0);
        let _ = config.init(
            FeatureShape::new(2, 1, 2),
            3,
            &fixtures::init(&Device::default()),
        );
    }
}
