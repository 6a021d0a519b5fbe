//! Feature `CutMix`: positions of feature maps that are filled from other images of the batch.
//!
//! On Flex, the backward pass keeps only the cut positions and the mix partners, and no feature maps. On
//! other backends this is a composition of Burn's operations.

use burn::tensor::{Bool, Int, Tensor};

/// Replaces the cut positions of each image by those of its mix partner (`CutMix` on features: Yun et al.,
/// ICCV 2019, arXiv:1905.04899; Zhang et al., Grad-CAM guided progressive feature `CutMix`, eq. 3).
///
/// ```text
/// y = m ⊙ x + (1 - m) ⊙ x[partner]        m = 0 where `cut`, in all channels
/// ```
///
/// Gradients flow to the image itself and, if `to_partners` is true, to its mix partner.
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::default();
/// let features = Tensor::<4>::from_data([[[[1.0, 2.0]]], [[[3.0, 4.0]]]], &device);
/// let cut = Tensor::from_data([[[false, true]], [[false, false]]], &device);
/// let mixed = reid_ops::cut_mix(features, cut, &[1, 0], true);
/// assert_eq!(mixed.into_data().try_to_vec::<f32>()?, [1.0, 4.0, 3.0, 4.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Shapes
/// - `features` and result: `[batch, channels, height, width]`
/// - `cut`: `[batch, height, width]`
/// - `partners`: `[batch]`, the index in the batch of the mix partner of each image
///
/// # Panics
/// If the shapes do not match, an index in `partners` is not below `batch`, or the features are empty.
#[must_use]
pub fn cut_mix(
    features: Tensor<4>,
    cut: Tensor<3, Bool>,
    partners: &[usize],
    to_partners: bool,
) -> Tensor<4> {
    let shape @ [batch, _, height, width] = features.dims();
    crate::expect_not_empty("mixing", &shape);
    assert_eq!(
        cut.dims(),
        [batch, height, width],
        "shape of `cut` for features of shape {shape:?}: expected [batch, height, width]"
    );
    assert!(
        partners.len() == batch && partners.iter().all(|&partner| partner < batch),
        "{batch} images need {batch} mix partners, each an index below {batch}, found {partners:?}"
    );
    #[cfg(native_flex)]
    if crate::is_native(&features.device(), &[features.dtype()]) {
        use burn::backend::Dispatch;

        use crate::extension::ReidOps;
        let cut = cut.into_data().iter::<bool>().collect();
        let partners = partners.to_vec();
        let mixing = reid_kernels::Mixing { cut, partners };
        let mixed = Dispatch::mix(features.into_dispatch(), mixing, to_partners);
        return Tensor::from_dispatch(mixed);
    }
    let device = features.device();
    let index = |&partner: &usize| i32::try_from(partner).expect("an index in the batch");
    let partners: Vec<i32> = partners.iter().map(index).collect();
    let partners = Tensor::<1, Int>::from_data(partners.as_slice(), &device);
    let source = if to_partners {
        features.clone()
    } else {
        features.clone().detach()
    };
    let cut = cut.to_device(&device).unsqueeze_dim::<4>(1).expand(shape);
    features.mask_where(cut, source.select(0, partners))
}
