//! Places of feature maps that are filled from other images of the batch.

use burn::tensor::{Bool, Int, Tensor};

/// Features whose cut places are those of other images (Yun et al., ICCV 2019, arXiv:1905.04899, on
/// features; Zhang et al., Grad-CAM guided progressive feature `CutMix`, eq. 3).
///
/// ```text
/// y = m ⊙ x + (1 - m) ⊙ x[donor]        m = 0 where `cut`, in all channels
/// ```
///
/// Gradients reach the image itself and, `to_donors`, its donor.
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
/// - `partners`: one place in the batch per image
///
/// # Panics
/// If the shapes do not fit, a donor is not in the batch, or the features are empty.
#[must_use]
pub fn cut_mix(
    features: Tensor<4>,
    cut: Tensor<3, Bool>,
    partners: &[usize],
    to_donors: bool,
) -> Tensor<4> {
    let shape @ [batch, _, height, width] = features.dims();
    crate::expect_numbers("mixing", &shape);
    assert_eq!(
        cut.dims(),
        [batch, height, width],
        "a cut of features {shape:?} has their batch, height and width"
    );
    assert!(
        partners.len() == batch && partners.iter().all(|&donor| donor < batch),
        "{batch} images need as many donors below {batch}, found {partners:?}"
    );
    #[cfg(native_flex)]
    if crate::is_native(&features.device(), &[features.dtype()]) {
        use burn::backend::Dispatch;

        use crate::extension::ReidOps;
        let cut = cut.into_data().iter::<bool>().collect();
        let partners = partners.to_vec();
        let mixing = reid_kernels::Mixing { cut, partners };
        let mixed = Dispatch::mix(features.into_dispatch(), mixing, to_donors);
        return Tensor::from_dispatch(mixed);
    }
    let device = features.device();
    let index = |&donor: &usize| i32::try_from(donor).expect("a place in a batch");
    let partners: Vec<i32> = partners.iter().map(index).collect();
    let partners = Tensor::<1, Int>::from_data(partners.as_slice(), &device);
    let giving = if to_donors {
        features.clone()
    } else {
        features.clone().detach()
    };
    let cut = cut.to_device(&device).unsqueeze_dim::<4>(1).expand(shape);
    features.mask_where(cut, giving.select(0, partners))
}
