//! Grad-CAM: the positions of a feature map that raise the score of a class (Selvaraju et al., ICCV 2017,
//! arXiv:1610.02391).

use burn::tensor::{Int, Tensor, activation::relu};
use serde::{Deserialize, Serialize};

mod closed_form;

pub use closed_form::ClosedForm;

use crate::{head::Head, norm::freeze::freeze_but_statistics, precision::widened};

/// The class that is explained for each image.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// The class with this label, `[batch]`, from 0 and below the number of classes of the head.
    Labels(&'a Tensor<1, Int>),
    /// The class with the highest score.
    Highest,
}

impl Target<'_> {
    /// Returns the class of each image, given the logits `[batch, classes]`.
    fn classes(self, logits: Tensor<2>) -> Tensor<1, Int> {
        let [images, classes] = logits.dims();
        let Self::Labels(labels) = self else {
            return logits.argmax(1).squeeze_dim(1);
        };
        let [count] = labels.dims();
        assert_eq!(
            count, images,
            "Grad-CAM needs one label per image, found {count} labels for {images} images"
        );
        for (image, label) in labels.to_data().iter::<i64>().enumerate() {
            let exists = usize::try_from(label).is_ok_and(|label| label < classes);
            assert!(
                exists,
                "Grad-CAM: label {label} of image {image} is not among the {classes} classes of the head"
            );
        }
        labels.clone()
    }
}

/// The method that computes a map from the features `T` and their gradient `G = ∂y_c/∂T`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CamMethod {
    /// Grad-CAM: `relu(Σₖ mean_hw(Gₖ) Tₖ)`.
    #[default]
    GradCam,
    /// `HiResCAM`: `relu(Σₖ Gₖ ⊙ Tₖ)`, which shows only positions that the score depends on (Draelos and
    /// Carin, 2020, arXiv:2011.08891).
    HiResCam,
    /// `LayerCAM`: `relu(Σₖ relu(Gₖ) ⊙ Tₖ)`, for the larger feature maps of earlier stages (Jiang et al., TIP
    /// 2021).
    LayerCam,
}

impl CamMethod {
    fn maps(self, features: Tensor<4>, gradient: Tensor<4>) -> Tensor<3> {
        match self {
            Self::GradCam => {
                let [batch, channels, _, _] = features.dims();
                let weights = gradient.mean_dim(3).mean_dim(2);
                weighted_sum(features, weights.reshape([batch, channels]))
            }
            Self::HiResCam => relu((features * gradient).sum_dim(1)).squeeze_dim(1),
            Self::LayerCam => relu((features * relu(gradient)).sum_dim(1)).squeeze_dim(1),
        }
    }
}

/// Computes `relu(Σₖ wₖ Tₖ)`.
pub(crate) fn weighted_sum(features: Tensor<4>, weights: Tensor<2>) -> Tensor<3> {
    let [batch, channels, height, width] = features.dims();
    let positions = features.reshape([batch, channels, height * width]);
    let sums = weights.reshape([batch, 1, channels]).matmul(positions);
    relu(sums).reshape([batch, height, width])
}

/// Computes Grad-CAM of one branch of a head. No hooks are needed, since a head is a function of the feature
/// map.
///
/// ```text
/// wₖ = mean_hw(∂y_c / ∂Tₖ)        y_c: the score of the class before the softmax
/// g  = relu(Σₖ wₖ Tₖ)             [batch, height, width]
/// ```
///
/// The head is explained in evaluation mode, so the map of an image does not depend on the rest of the batch.
/// All training flags of Burn are off: normalisations use running statistics, and dropout is inactive.
/// [`by_batch_statistics`](Self::by_batch_statistics) keeps the training flags of batch normalisations. A
/// custom layer without a training flag, whose mode depends only on the device, stays in training mode.
///
/// The running statistics of the head are never updated. No gradient reaches the parameters of the head or
/// the network before the feature map, and an existing autodiff graph is not affected. [`ClosedForm`]
/// computes the same maps without a backward pass for the heads that implement it.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{HeadConfig, Init, grad_cam::{GradCam, Target}, head::BnNeckConfig};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let head = BnNeckConfig::new().init(FeatureShape::new(16, 4, 2), 10, &init);
/// let maps = GradCam::new().maps(&head, Tensor::ones([3, 16, 4, 2], &device), Target::Highest);
/// assert_eq!(maps.dims(), [3, 4, 2]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GradCam {
    branch: usize,
    method: CamMethod,
    by_batch: bool,
}

impl GradCam {
    /// Explains the first branch with [`CamMethod::GradCam`].
    #[must_use]
    pub const fn new() -> Self {
        Self {
            branch: 0,
            method: CamMethod::GradCam,
            by_batch: false,
        }
    }

    /// Sets the branch, by its index in the [logits](crate::ReidOutput::logits).
    #[must_use]
    pub const fn of_branch(self, branch: usize) -> Self {
        Self { branch, ..self }
    }

    /// Sets the method.
    #[must_use]
    pub const fn with_method(self, method: CamMethod) -> Self {
        Self { method, ..self }
    }

    /// Normalises by the statistics of the batch, as a head in training does. Frozen batch normalisations
    /// keep using their running statistics. Running statistics are not updated, and dropout stays inactive.
    /// The gradient is that of the sum of the scores of all images.
    #[must_use]
    pub const fn by_batch_statistics(self) -> Self {
        Self {
            by_batch: true,
            ..self
        }
    }

    /// Computes the maps of a batch: at least 0, not normalised, and without autodiff history.
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`
    /// - result: `[batch, height, width]`
    ///
    /// # Panics
    /// If the head has no such branch, if its scores do not depend on the features, if there is not one label
    /// per image, or if a label is not below the number of classes.
    #[must_use]
    pub fn maps<H: Head>(self, head: &H, features: Tensor<4>, target: Target<'_>) -> Tensor<3> {
        // A copy on an autodiff device, whose parameters and statistics are independent of the original.
        let copy = head.valid().train();
        let head = if self.by_batch {
            freeze_but_statistics(copy)
        } else {
            copy.freeze()
        };
        let features = widened(features.without_autodiff());
        let leaf = features.clone().autodiff().require_grad();
        let mut branches = head.forward(leaf.clone()).logits;
        assert!(
            self.branch < branches.len(),
            "Grad-CAM needs a branch below {}, the number of branches of the head, found branch {}",
            branches.len(),
            self.branch
        );
        let logits = branches.swap_remove(self.branch);
        let classes = target.classes(logits.clone().detach());
        let classes = classes.to_device(&logits.device()).unsqueeze_dim(1);
        let gradients = logits.gather(1, classes).sum().backward();
        let gradient = leaf
            .grad(&gradients)
            .expect("Grad-CAM needs scores that depend on the features");
        self.method.maps(features, gradient)
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        module::{Module, Param},
        tensor::Device,
    };
    use reid_core::FeatureShape;

    use super::*;
    use crate::{
        HeadConfig,
        head::{BnNeckConfig, PooledHead, PooledHeadConfig},
    };

    /// Two channels on a 1 x 2 map, average pooling, and the scores 3·f₀ - f₁ and -f₀.
    fn head(device: &Device) -> PooledHead {
        let mut head = PooledHeadConfig::new().init(
            FeatureShape::new(2, 1, 2),
            2,
            &crate::fixtures::init(device),
        );
        let weight = Tensor::from_data([[3.0, -1.0], [-1.0, 0.0]], device);
        head.classifier.weight = Param::from_tensor(weight);
        head
    }

    fn features(device: &Device) -> Tensor<4> {
        Tensor::from_data([[[[2.0, 0.0]], [[1.0, 4.0]]]], device)
    }

    fn read(maps: Tensor<3>) -> Vec<f32> {
        maps.into_data().try_to_vec().expect("f32 maps")
    }

    #[test]
    fn maps_match_hand_computed_ones() {
        let device = Device::default();
        let maps = |target: Target<'_>| {
            read(GradCam::new().maps(&head(&device), features(&device), target))
        };
        // The mean over two positions gives w = (3/2, -1/2), so 1.5·2 - 0.5·1 = 2.5 and 0 - 0.5·4 < 0.
        let first = Tensor::from_data([0], &device);
        assert_eq!(maps(Target::Labels(&first)), [2.5, 0.0]);
        // Scores 3·1 - 2.5 and -1: the first is the highest.
        assert_eq!(maps(Target::Highest), [2.5, 0.0]);
        // w = (-1/2, 0), so no position has a positive sum.
        let second = Tensor::from_data([1], &device);
        assert_eq!(maps(Target::Labels(&second)), [0.0, 0.0]);
    }

    /// A head with the score y = 2·x₀ - x₁ over two positions of one channel.
    #[derive(Module, Debug)]
    struct Positions {}

    impl Head for Positions {
        fn forward(&self, features: Tensor<4>) -> crate::ReidOutput {
            let [batch, ..] = features.dims();
            let weights = Tensor::<1>::from_data([2.0, -1.0], &features.device());
            let score = features.reshape([batch, 2]) * weights.unsqueeze();
            crate::ReidOutput::single(score.clone(), score.sum_dim(1))
        }
    }

    #[test]
    fn methods_match_hand_computed_maps() {
        let device = Device::default();
        let features = Tensor::<4>::from_data([[[[3.0, -4.0]]]], &device);
        let maps = |method| {
            let cam = GradCam::new().with_method(method);
            read(cam.maps(&Positions {}, features.clone(), Target::Highest))
        };
        // G = (2, -1) has mean 1/2. Its products with the features are 6 and 4, those of relu(G) are 6 and 0.
        assert_eq!(maps(CamMethod::GradCam), [1.5, 0.0]);
        assert_eq!(maps(CamMethod::HiResCam), [6.0, 4.0]);
        assert_eq!(maps(CamMethod::LayerCam), [6.0, 0.0]);
    }

    #[test]
    fn maps_are_the_same_on_autodiff_and_plain_devices() {
        let plain = Device::default();
        let training = plain.clone().autodiff();
        let expected = GradCam::new().maps(&head(&plain), features(&plain), Target::Highest);
        let found = GradCam::new().maps(&head(&training), features(&training), Target::Highest);
        assert!(!found.device().is_autodiff());
        assert_eq!(found.to_data(), expected.to_data());
    }

    #[test]
    fn statistics_and_the_outer_graph_are_unchanged() {
        let device = Device::default().autodiff();
        let head = BnNeckConfig::new().init(
            FeatureShape::new(2, 1, 2),
            3,
            &crate::fixtures::init(&device),
        );
        let before = head.bottleneck.running_mean.value().to_data();
        let leaf = features(&device).require_grad();
        let outer = leaf.clone() * 2.0;
        let _ = GradCam::new().maps(&head, outer.clone(), Target::Highest);
        assert_eq!(head.bottleneck.running_mean.value().to_data(), before);
        assert!(head.bottleneck.weight.val().is_require_grad());
        let gradient = leaf.grad(&outer.sum().backward()).expect("a gradient");
        assert!((gradient.sum().into_scalar::<f32>() - 8.0).abs() < 1e-6);
    }

    /// A head of Burn's layers, which are in training mode unless their training flag is off.
    #[derive(Module, Debug)]
    struct BurnHead {
        norm: burn::nn::BatchNorm,
        noise: burn::nn::GaussianNoise,
        dropout: burn::nn::Dropout,
        classifier: burn::nn::Linear,
    }

    impl BurnHead {
        /// A head whose running statistics differ from those of a new layer.
        fn trained(dropout: f64, noise: f64) -> Self {
            let device = Device::default().autodiff();
            let head = Self {
                norm: burn::nn::BatchNormConfig::new(6).init(&device),
                noise: burn::nn::GaussianNoiseConfig::new(noise).init(),
                dropout: burn::nn::DropoutConfig::new(dropout).init(),
                classifier: burn::nn::LinearConfig::new(6, 3).init(&device),
            };
            let head = crate::fixtures::weights(head);
            for _ in 0..3 {
                let _ = head.norm.forward(images(&device));
            }
            head
        }
    }

    impl Head for BurnHead {
        fn forward(&self, features: Tensor<4>) -> crate::ReidOutput {
            let normed = self.norm.forward(features);
            let pooled = crate::pool::max(normed);
            let noisy = self.dropout.forward(self.noise.forward(pooled));
            let logits = self.classifier.forward(noisy.clone());
            crate::ReidOutput::single(noisy, logits)
        }
    }

    fn images(device: &Device) -> Tensor<4> {
        crate::fixtures::tensor([5, 6, 4, 3], -1.3..2.1, device)
    }

    #[test]
    fn a_head_of_burns_layers_is_explained_in_evaluation_mode() {
        let head = BurnHead::trained(0.5, 0.3);
        let labels = Tensor::from_data([0, 2, 1, 2, 0], &Device::default());
        let maps = |head: &BurnHead, features: Tensor<4>, labels: &Tensor<1, Int>| {
            read(GradCam::new().maps(head, features, Target::Labels(labels)))
        };
        let features = images(&Device::default());
        let first = maps(&head, features.clone(), &labels);
        assert!(first.iter().any(|&value| value > 0.0));
        assert_eq!(maps(&head, features.clone(), &labels), first);
        // Each image by itself.
        let single = (0..5).flat_map(|image| {
            let of_image = image..image + 1;
            let label = labels.clone().slice([of_image.clone()]);
            maps(&head, features.clone().slice([of_image]), &label)
        });
        for (single, batch) in single.zip(&first) {
            assert!((single - batch).abs() < 1e-5, "{single} and {batch}");
        }
        // Neither dropout nor noise is active in evaluation.
        let without = BurnHead::trained(0.0, 0.0).load_record(head.into_record());
        assert_eq!(maps(&without, features, &labels), first);
    }

    #[test]
    fn by_batch_statistics_keeps_batch_norm_in_training_mode_without_dropout() {
        let head = BurnHead::trained(0.5, 0.3);
        let features = images(&Device::default());
        let cam = GradCam::new().by_batch_statistics();
        let maps = || read(cam.maps(&head, features.clone(), Target::Highest));
        let statistics = || head.norm.running_mean.value().into_data();
        // Burn's running statistics lag by one step and are up to date only after this call.
        let first = maps();
        let before = statistics();
        assert_eq!(maps(), first);
        assert_eq!(statistics(), before);
        let by_running_statistics =
            read(GradCam::new().maps(&head, features.clone(), Target::Highest));
        assert_ne!(by_running_statistics, first);
    }

    #[test]
    #[should_panic(
        expected = "Grad-CAM: label 2 of image 0 is not among the 2 classes of the head"
    )]
    fn a_label_beyond_the_classes_panics() {
        let device = Device::default();
        let label = Tensor::from_data([2], &device);
        let _ = GradCam::new().maps(&head(&device), features(&device), Target::Labels(&label));
    }

    #[test]
    #[should_panic(
        expected = "Grad-CAM needs a branch below 1, the number of branches of the head, found branch 1"
    )]
    fn a_missing_branch_panics() {
        let device = Device::default();
        let cam = GradCam::new().of_branch(1);
        let _ = cam.maps(&head(&device), features(&device), Target::Highest);
    }
}
