//! Feature `CutMix`: cells of a feature map give way to those of another image (Zhang et al., Grad-CAM
//! guided progressive feature `CutMix`).
//!
//! [`cut_mix`] alone works on any feature map with any mask; [`CutMix`] also finds the cells and the
//! donors.

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

/// Whether gradients flow back into a donor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartnerGradient {
    /// Gradients flow into the donor, as in the authors' code.
    #[default]
    Flows,
    /// They stop at the cut.
    Stopped,
}

/// What is done to an image whose map is zero everywhere: no cell stands out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnEmptyCam {
    /// All cells are tied, so the first ones are cut: row by row, column by column in the authors'
    /// code.
    #[default]
    Cut,
    /// Nothing is cut.
    Keep,
}

/// Puts the features of donors in the place of what is cut (§3.3, eq. 3).
///
/// ```text
/// y = m ⊙ x + (1 - m) ⊙ x[donor]        m = 0 where `cut`, in all channels
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
/// - `partners`: one place in the batch per image
///
/// # Panics
/// If the shapes do not fit, or a donor is not in the batch.
#[must_use]
pub fn cut_mix(
    features: Tensor<4>,
    cut: Tensor<3, Bool>,
    partners: &[usize],
    gradient: PartnerGradient,
) -> Tensor<4> {
    reid_ops::cut_mix(features, cut, partners, gradient == PartnerGradient::Flows)
}

/// Configuration of feature `CutMix`: which cells are cut, and who fills them.
#[derive(Config, Debug, PartialEq)]
pub struct CutMix {
    /// The size of a cell; 3 x 2 in the paper, for maps of 24 x 8.
    #[config(default = "Patches { height: 3, width: 2 }")]
    pub patches: Patches,
    /// Cells that are cut (k); 6 in the paper, and 8 for CUHK03.
    #[config(default = 6)]
    pub cut: usize,
    /// Who fills them; negatives in the paper.
    #[config(default = "MixPartner::Negative")]
    pub partner: MixPartner,
    /// Whether donors learn from it; they do in the authors' code.
    #[config(default = "PartnerGradient::Flows")]
    pub partner_gradient: PartnerGradient,
    /// What is done where no cell stands out.
    #[config(default = "OnEmptyCam::Cut")]
    pub on_empty_cam: OnEmptyCam,
}

/// What feature `CutMix` did to a batch.
#[derive(Clone, Debug)]
pub struct Mixed {
    /// The mixed features, `[batch, channels, height, width]`.
    pub features: Tensor<4>,
    /// Where they are the donor's, `[batch, height, width]`.
    pub cut: Tensor<3, Bool>,
    /// The place of each image's donor in the batch; its own if it has no donor.
    pub partners: Vec<usize>,
    /// Which maps were zero everywhere, `[batch]`.
    pub empty_cam: Tensor<1, Bool>,
}

impl CutMix {
    /// Adds what is wrong with the numbers on feature maps of shape `input`.
    pub(crate) fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        self.patches
            .validate([input.height, input.width], self.cut, problems);
    }

    /// Cuts the cells that stand out in `maps` and fills them from donors of the batch.
    ///
    /// No gradient flows through the maps.
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
    /// - `maps`: `[batch, height, width]`, none below 0
    ///
    /// # Panics
    /// If the shapes do not fit, the cells do not divide the maps, or there are too few of them.
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
    fn no_cell_is_no_change_and_all_cells_are_the_donor() {
        let (features, maps) = random(&Device::default());
        let none = mix()
            .with_cut(0)
            .apply(features.clone(), maps.clone(), step(1));
        assert_eq!(none.features.to_data(), features.to_data());

        let all = mix().with_cut(4).apply(features.clone(), maps, step(1));
        for (image, &donor) in all.partners.iter().enumerate() {
            let of = |features: &Tensor<4>, image: usize| {
                let image = features.clone().slice(s![image..=image]);
                image.into_data()
            };
            assert_eq!(of(&all.features, image), of(&features, donor));
        }
    }

    #[test]
    fn a_silent_map_is_reported_and_kept_if_asked() {
        let (features, maps) = random(&Device::default());
        let maps = maps.slice_fill(s![1..=1], 0.0);
        for silent in [OnEmptyCam::Cut, OnEmptyCam::Keep] {
            let config = mix().with_cut(2).with_on_empty_cam(silent);
            let mixed = config.apply(features.clone(), maps.clone(), step(1));
            let found = mixed
                .empty_cam
                .into_data()
                .try_to_vec::<bool>()
                .expect("bool");
            assert_eq!(found, [false, true, false, false]);
            let cut = mixed.cut.float().sum_dim(2).sum_dim(1).into_data();
            let of_silent = if silent == OnEmptyCam::Cut { 2.0 } else { 0.0 };
            let expected: [f32; 4] = [2.0, of_silent, 2.0, 2.0];
            assert_eq!(cut.try_to_vec::<f32>().expect("f32"), expected);
        }
    }

    #[test]
    fn donors_depend_on_the_seed_alone() {
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

    /// The sum of what the batch gives at the cut: gradients go where features came from.
    #[test]
    fn gradients_reach_the_donor_unless_stopped_and_never_the_map() {
        let device = Device::default().autodiff();
        for (gradient, of_donor) in [
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
                "a gradient flows through the map"
            );
            let found = features.grad(&gradients).expect("a gradient").into_data();
            let found = found.try_to_vec::<f32>().expect("f32");
            // Place 0 of image 0 is image 1's, and place 1 of image 1 is image 0's.
            assert_eq!(found, [0.0, of_donor, of_donor, 0.0]);
        }
    }

    #[test]
    #[should_panic(expected = "2 images need as many donors below 2, found [0, 2]")]
    fn a_donor_that_is_not_there_is_refused() {
        let device = Device::default();
        let cut = Tensor::<3>::zeros([2, 1, 1], &device).bool();
        let features = Tensor::zeros([2, 1, 1, 1], &device);
        let _ = cut_mix(features, cut, &[0, 2], PartnerGradient::Flows);
    }
}
