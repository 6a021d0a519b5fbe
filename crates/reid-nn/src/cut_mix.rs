//! Feature CutMix: patches of a feature map are replaced by those of another image of the batch, its
//! partner or donor (Zhang et al., Grad-CAM guided progressive feature CutMix).
//!
//! The function [`cut_mix`] works on any feature map with any mask. [`CutMix`] also selects the patches and
//! the partners.

use burn::{
    config::Config,
    tensor::{Bool, Tensor},
};
use reid_core::{FeatureShape, Problems};
use serde::{Deserialize, Serialize};

mod partner;
mod patches;

pub use partner::MixPartner;
pub use patches::Patches;

use crate::head::TrainingStep;

/// Whether gradients flow into the partner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartnerGradient {
    /// Gradients flow into the partner, as in the authors' code.
    #[default]
    Flows,
    /// Gradients do not flow into the partner.
    Stopped,
}

/// What is done to an image whose Grad-CAM is 0 everywhere, so that all patches have the same score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnEmptyCam {
    /// The first patches are cut, row by row. The authors' code orders them column by column.
    #[default]
    Cut,
    /// No patch is cut.
    Keep,
}

/// Replaces the features at the cut positions by those of a partner image (§3.3, eq. 3).
///
/// ```text
/// y = m ⊙ x + (1 - m) ⊙ x[partner]      m = 0 where `cut`, in all channels
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_nn::cut_mix::{PartnerGradient, cut_mix};
///
/// let device = Device::default();
/// let features = Tensor::<4>::from_data([[[[1.0, 2.0]]], [[[3.0, 4.0]]]], &device);
/// let cut = Tensor::from_data([[[false, true]], [[false, false]]], &device);
/// let mixed = cut_mix(features, cut, &[1, 0], PartnerGradient::Flows);
/// assert_eq!(mixed.into_data().try_to_vec::<f32>()?, [1.0, 4.0, 3.0, 4.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Shapes
/// - `features` and result: `[batch, channels, height, width]`
/// - `cut`: `[batch, height, width]`
/// - `partners`: for each image, the index of its partner in the batch
///
/// # Panics
/// If the shapes do not match, or a partner is not in the batch.
#[must_use]
pub fn cut_mix(
    features: Tensor<4>,
    cut: Tensor<3, Bool>,
    partners: &[usize],
    gradient: PartnerGradient,
) -> Tensor<4> {
    reid_ops::cut_mix(features, cut, partners, gradient == PartnerGradient::Flows)
}

/// Configuration of feature CutMix: the patches that are cut, and the partners that replace them.
/// [`apply`](Self::apply) has an example.
#[derive(Config, Debug, PartialEq)]
pub struct CutMix {
    /// The size of a patch; 3 x 2 in the paper, for feature maps of 24 x 8.
    #[config(default = "Patches { height: 3, width: 2 }")]
    pub patches: Patches,
    /// The number k of patches that are cut, from 0 to all of them; 6 in the paper, and 8 for CUHK03.
    #[config(default = 6)]
    pub cut: usize,
    /// The images that can be partners; negatives in the paper.
    #[config(default = "MixPartner::Negative")]
    pub partner: MixPartner,
    /// Whether gradients flow into the partners; they do in the authors' code.
    #[config(default = "PartnerGradient::Flows")]
    pub partner_gradient: PartnerGradient,
    /// What is done to images whose Grad-CAM is 0 everywhere.
    #[config(default = "OnEmptyCam::Cut")]
    pub on_empty_cam: OnEmptyCam,
}

/// The result of feature CutMix on a batch.
#[derive(Clone, Debug)]
pub struct Mixed {
    /// The mixed features, `[batch, channels, height, width]`.
    pub features: Tensor<4>,
    /// True at the positions whose features are the partner's, `[batch, height, width]`.
    pub cut: Tensor<3, Bool>,
    /// The index of each image's partner in the batch; an image without a partner has its own index.
    pub partners: Vec<usize>,
    /// True for images whose Grad-CAM is 0 everywhere, `[batch]`.
    pub empty_cam: Tensor<1, Bool>,
}

impl CutMix {
    /// Adds the problems of the hyper-parameters for feature maps of shape `input`.
    pub(crate) fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        self.patches
            .validate([input.height, input.width], self.cut, problems);
    }

    /// Cuts the patches with the highest scores in `maps` and replaces them by those of partners in the
    /// batch. No gradient flows through the maps.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use reid_core::Seed;
    /// use reid_nn::{cut_mix::{Patches, CutMix}, head::TrainingStep};
    ///
    /// let device = Device::default();
    /// let mix = CutMix::new().with_patches(Patches { height: 1, width: 1 }).with_cut(1);
    /// let features = Tensor::<4>::from_data([[[[1.0, 2.0]]], [[[3.0, 4.0]]]], &device);
    /// let maps = Tensor::<3>::from_data([[[0.0, 0.3]], [[0.0, 0.0]]], &device);
    /// let step = TrainingStep::new(&[0, 1], Seed::new(1));
    ///
    /// let mixed = mix.apply(features, maps, step);
    /// assert_eq!(mixed.partners, [1, 0]); // each is the other's only negative
    /// assert_eq!(mixed.features.into_data().try_to_vec::<f32>()?, [1.0, 4.0, 1.0, 4.0]);
    /// assert_eq!(mixed.empty_cam.into_data().try_to_vec::<bool>()?, [false, true]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`
    /// - `maps`: `[batch, height, width]`, at least 0
    ///
    /// # Panics
    /// If the shapes do not match, the patches do not tile the maps, or there are fewer patches than are cut.
    #[must_use]
    pub fn apply(&self, features: Tensor<4>, maps: Tensor<3>, step: TrainingStep<'_>) -> Mixed {
        let [batch, height, width] = maps.dims();
        let maps = maps.detach();
        let largest = maps.clone().reshape([batch, height * width]).max_dim(1);
        let empty_cam = largest.lower_equal_elem(0.0);
        let cut = self.patches.top_k(maps, self.cut);
        let cut = match self.on_empty_cam {
            OnEmptyCam::Cut => cut,
            OnEmptyCam::Keep => {
                let keep = empty_cam.clone().reshape([batch, 1, 1]);
                let keep = keep.expand([batch, height, width]);
                cut.bool_and(keep.bool_not())
            }
        };
        let mut stream = step.seed.named("donors").stream();
        let partners = self.partner.draw(step.labels, &mut stream);
        Mixed {
            features: cut_mix(features, cut.clone(), &partners, self.partner_gradient),
            cut,
            partners,
            empty_cam: empty_cam.squeeze_dim(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution, s};
    use reid_core::Seed;

    use super::*;

    fn mix() -> CutMix {
        CutMix::new().with_patches(Patches {
            height: 1,
            width: 1,
        })
    }

    fn step(seed: u64) -> TrainingStep<'static> {
        TrainingStep::new(&[0, 0, 1, 1], Seed::new(seed))
    }

    fn random(device: &Device) -> (Tensor<4>, Tensor<3>) {
        (
            Tensor::random([4, 3, 2, 2], Distribution::Default, device),
            Tensor::random([4, 2, 2], Distribution::Default, device),
        )
    }

    #[test]
    fn cutting_no_patch_changes_nothing_and_cutting_all_gives_the_partner() {
        let (features, maps) = random(&Device::default());
        let none = mix()
            .with_cut(0)
            .apply(features.clone(), maps.clone(), step(1));
        assert_eq!(none.features.to_data(), features.to_data());

        let all = mix().with_cut(4).apply(features.clone(), maps, step(1));
        for (image, &partner) in all.partners.iter().enumerate() {
            let read = |features: &Tensor<4>, image: usize| {
                let image = features.clone().slice(s![image..=image]);
                image.into_data()
            };
            assert_eq!(read(&all.features, image), read(&features, partner));
        }
    }

    #[test]
    fn an_empty_cam_is_reported_and_its_image_cut_or_kept() {
        let (features, maps) = random(&Device::default());
        let maps = maps.slice_fill(s![1..=1], 0.0);
        for on_empty_cam in [OnEmptyCam::Cut, OnEmptyCam::Keep] {
            let config = mix().with_cut(2).with_on_empty_cam(on_empty_cam);
            let mixed = config.apply(features.clone(), maps.clone(), step(1));
            let found = mixed
                .empty_cam
                .into_data()
                .try_to_vec::<bool>()
                .expect("bool");
            assert_eq!(found, [false, true, false, false]);
            let cut = mixed.cut.float().sum_dim(2).sum_dim(1).into_data();
            let of_empty = match on_empty_cam {
                OnEmptyCam::Cut => 2.0,
                OnEmptyCam::Keep => 0.0,
            };
            let expected: [f32; 4] = [2.0, of_empty, 2.0, 2.0];
            assert_eq!(cut.try_to_vec::<f32>().expect("f32"), expected);
        }
    }

    #[test]
    fn partners_depend_only_on_the_seed() {
        let (features, maps) = random(&Device::default());
        let partners = |seed| {
            let mixed = mix()
                .with_cut(1)
                .apply(features.clone(), maps.clone(), step(seed));
            mixed.partners
        };
        assert_eq!(partners(5), partners(5));
        assert!((0..20).any(|seed| partners(seed) != partners(5)));
    }

    #[test]
    fn gradients_flow_into_partners_unless_stopped_and_never_into_the_maps() {
        let device = Device::default().autodiff();
        for (gradient, at_source) in [
            (PartnerGradient::Flows, 2.0),
            (PartnerGradient::Stopped, 1.0),
        ] {
            let features = Tensor::<4>::ones([2, 1, 1, 2], &device).require_grad();
            let maps = Tensor::<3>::from_data([[[1.0, 0.0]], [[0.0, 1.0]]], &device).require_grad();
            let config = mix().with_cut(1).with_partner_gradient(gradient);
            let step = TrainingStep::new(&[0, 1], Seed::new(1));
            let mixed = config.apply(features.clone(), maps.clone() * 2.0, step);
            let gradients = mixed.features.sum().backward();
            assert!(
                maps.grad(&gradients).is_none(),
                "a gradient flows into the maps"
            );
            let found = features.grad(&gradients).expect("a gradient").into_data();
            let found = found.try_to_vec::<f32>().expect("f32");
            // Position 0 of image 0 comes from image 1, and position 1 of image 1 comes from image 0.
            assert_eq!(found, [0.0, at_source, at_source, 0.0]);
        }
    }

    #[test]
    #[should_panic(expected = "2 images need 2 mix partners, each an index below 2, found [0, 2]")]
    fn a_partner_outside_the_batch_panics() {
        let device = Device::default();
        let cut = Tensor::<3>::zeros([2, 1, 1], &device).bool();
        let features = Tensor::zeros([2, 1, 1, 1], &device);
        let _ = cut_mix(features, cut, &[0, 2], PartnerGradient::Flows);
    }
}
