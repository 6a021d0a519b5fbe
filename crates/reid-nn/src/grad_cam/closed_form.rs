//! Grad-CAM in closed form, without a backward pass, for heads whose gradient has a formula.

use burn::tensor::{Int, Tensor};

use super::{Target, weighted_sum};
use crate::{
    head::{BnNeck, Head, PooledHead},
    precision::widened,
};

/// A head with global pooling for which the gradient of the first branch's scores with respect to the pooled
/// features has a closed form.
///
/// ```text
/// v = pool(T)      y = h(v)
/// wₖ = mean_hw(∂y_c / ∂Tₖ) = ∂y_c/∂vₖ · mean_hw(∂vₖ/∂Tₖ)
/// ```
///
/// The second factor is `1/(H·W)` for average and max pooling, and has a formula for the generalised mean.
/// The map of [`GradCam`](super::GradCam) therefore costs only a product of small matrices.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{HeadConfig, Init, grad_cam::{ClosedForm, GradCam, Target}, head::LinearBnReluHeadConfig};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let config = LinearBnReluHeadConfig::new().with_dimensions(8);
/// let head = config.init(FeatureShape::new(16, 4, 2), 10, &init);
/// let random = burn::tensor::Distribution::Default;
/// let features = Tensor::<4>::random([3, 16, 4, 2], random, &device);
///
/// let closed = head.grad_cam(features.clone(), Target::Highest);
/// let general = GradCam::new().maps(&head, features, Target::Highest);
/// assert!((closed - general).abs().max().into_scalar::<f32>() < 1e-5);
/// ```
pub trait ClosedForm: Head {
    /// Computes the gradient of each image's score with respect to its features, averaged over positions,
    /// with running statistics.
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`, in at least single precision, on a plain device like
    ///   the head
    /// - `classes`: `[batch]`
    /// - result: `[batch, channels]`
    fn weights(&self, features: Tensor<4>, classes: Tensor<1, Int>) -> Tensor<2>;

    /// Computes the maps of a batch that [`GradCam::maps`](super::GradCam::maps) computes for the first
    /// branch.
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`
    /// - result: `[batch, height, width]`
    ///
    /// # Panics
    /// If there is not one label per image, or a label is not below the number of classes.
    #[must_use]
    fn grad_cam(&self, features: Tensor<4>, target: Target<'_>) -> Tensor<3> {
        let head = self.valid();
        let features = widened(features.without_autodiff());
        let scores = head.forward(features.clone()).logits.swap_remove(0);
        let classes = target.classes(scores);
        let weights = head.weights(features.clone(), classes.to_device(&features.device()));
        weighted_sum(features, weights)
    }
}

impl ClosedForm for PooledHead {
    fn weights(&self, features: Tensor<4>, classes: Tensor<1, Int>) -> Tensor<2> {
        let pooled = self.classifier.weight.val().select(1, classes).transpose();
        pooled.cast(features.dtype()) * self.pool.mean_gradient(features)
    }
}

impl ClosedForm for BnNeck {
    fn weights(&self, features: Tensor<4>, classes: Tensor<1, Int>) -> Tensor<2> {
        let (scale, _) = self.bottleneck.affine();
        let after = self.classifier.weight.val().select(1, classes).transpose();
        let after = after * scale.unsqueeze();
        after.cast(features.dtype()) * self.pool.mean_gradient(features)
    }
}

#[cfg(test)]
mod tests {
    use burn::{module::Param, tensor::Device};
    use reid_core::FeatureShape;

    use super::*;
    use crate::{
        HeadConfig, fixtures,
        grad_cam::GradCam,
        head::{BnNeckConfig, LinearBnReluHeadConfig, PooledHeadConfig},
        norm::BatchNorm,
        pool::PoolConfig,
    };

    const INPUT: FeatureShape = FeatureShape {
        channels: 6,
        height: 4,
        width: 3,
    };
    const POOLS: [PoolConfig; 3] = [PoolConfig::Average, PoolConfig::Max, PoolConfig::GEM];

    /// Sets statistics and weights that differ from those of a new layer.
    fn randomise(norm: &mut BatchNorm, device: &Device) {
        let channels = norm.weight.shape().dims::<1>();
        let random = |range| fixtures::tensor(channels, range, device);
        norm.weight = Param::from_tensor(random(-1.0..2.0));
        norm.running_mean.set(random(-0.5..0.5));
        norm.running_var.set(random(0.5..2.0));
    }

    fn features(device: &Device) -> Tensor<4> {
        fixtures::tensor([5, 6, 4, 3], -1.3..2.1, device)
    }

    fn check_against_autodiff<H: ClosedForm>(head: &H, device: &Device) {
        let features = features(device);
        let labels = Tensor::from_data([0, 3, 1, 2, 3], device);
        for target in [Target::Highest, Target::Labels(&labels)] {
            let general = GradCam::new().maps(head, features.clone(), target);
            let closed = head.grad_cam(features.clone(), target);
            let largest = general.clone().max().into_scalar::<f32>();
            assert!(largest > 0.0, "all maps are 0");
            let difference = (general - closed).abs().max().into_scalar::<f32>();
            assert!(difference <= 1e-5 * largest, "{difference} of {largest}");
        }
    }

    #[test]
    fn maps_match_autodiff_for_every_pooling() {
        for device in [Device::default(), Device::default().autodiff()] {
            for pool in POOLS {
                let pooled = PooledHeadConfig::new().with_pool(pool);
                let pooled = pooled.init(INPUT, 4, &fixtures::init(&device));
                check_against_autodiff(&fixtures::weights(pooled), &device);

                let neck = BnNeckConfig::new().with_pool(pool);
                let mut neck = fixtures::weights(neck.init(INPUT, 4, &fixtures::init(&device)));
                randomise(&mut neck.bottleneck, &device);
                check_against_autodiff(&neck, &device);

                let reduced = LinearBnReluHeadConfig::new()
                    .with_dimensions(5)
                    .with_pool(pool);
                let mut reduced =
                    fixtures::weights(reduced.init(INPUT, 4, &fixtures::init(&device)));
                randomise(&mut reduced.norm, &device);
                check_against_autodiff(&reduced, &device);
            }
        }
    }

    #[test]
    fn a_channel_of_zeros_matches_autodiff() {
        let device = Device::default();
        let pool = PoolConfig::GeneralisedMean { exponent: 9.0 };
        let config = PooledHeadConfig::new().with_pool(pool);
        let head = fixtures::weights(config.init(INPUT, 4, &fixtures::init(&device)));
        let features = features(&device).slice_fill([0..5, 2..3], 0.0);
        let general = GradCam::new().maps(&head, features.clone(), Target::Highest);
        let closed = head.grad_cam(features, Target::Highest);
        let largest = general.clone().max().into_scalar::<f32>();
        let difference = (general - closed).abs().max().into_scalar::<f32>();
        assert!(difference <= 1e-5 * largest, "{difference} of {largest}");
    }

    #[test]
    fn running_statistics_are_not_updated() {
        let device = Device::default().autodiff();
        let head = LinearBnReluHeadConfig::new().with_dimensions(5).init(
            INPUT,
            4,
            &fixtures::init(&device),
        );
        let before = head.norm.running_mean.value().to_data();
        let _ = head.grad_cam(features(&device), Target::Highest);
        assert_eq!(head.norm.running_mean.value().to_data(), before);
    }
}
