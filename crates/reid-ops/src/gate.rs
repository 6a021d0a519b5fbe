//! Maps multiplied by a gate.

use burn::tensor::Tensor;

use crate::epilogue::Epilogue;

#[cfg(native_cube)]
mod cube;
#[cfg(any(native_flex, native_cube))]
mod extension;
#[cfg(native_flex)]
mod flex;

#[cfg(any(native_flex, native_cube))]
pub(crate) use extension::Gates;
#[cfg(native_flex)]
pub(crate) use flex::sizes;

/// The product of features and a gate, as attention ends.
///
/// ```text
/// y = x ⊙ g        ∂g = Σ ∂y ⊙ x over what shares a number        ∂x = ∂y ⊙ g
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::default();
/// let features = Tensor::<4>::from_data([[[[1.0, 2.0]], [[3.0, 4.0]]]], &device);
/// let positions = Tensor::<4>::from_data([[[[0.0, 1.0]]]], &device);
/// let mul_gate = reid_ops::mul_gate(features, positions);
/// assert_eq!(mul_gate.into_data().try_to_vec::<f32>()?, [0.0, 2.0, 0.0, 4.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Shapes
/// - `features` and result: `[batch, channels, height, width]`
/// - `gate`: the same, or 1 where all channels or all places share a number
///
/// # Panics
/// If the shapes do not fit, or the features are empty.
#[must_use]
pub fn mul_gate(features: Tensor<4>, gate: Tensor<4>) -> Tensor<4> {
    mul_gate_epilogue(features, gate, Epilogue::None)
}

/// The product of features and a gate, with an [epilogue](Epilogue) applied to it.
///
/// # Panics
/// As [`mul_gate`], and if a shortcut is of another shape than the features.
#[must_use]
pub fn mul_gate_epilogue(features: Tensor<4>, gate: Tensor<4>, epilogue: Epilogue<4>) -> Tensor<4> {
    crate::expect_numbers("gate", &features.dims());
    #[cfg(any(native_flex, native_cube))]
    if let Some(broadcast) = broadcast(&features, &gate, &epilogue) {
        use burn::backend::Dispatch;

        let (maps, factors) = (features.into_dispatch(), gate.into_dispatch());
        #[cfg(native_flex)]
        if let Epilogue::AddRelu(shortcut) = epilogue {
            use crate::extension::ReidOps;
            let shortcut = shortcut.into_dispatch();
            let joined = Dispatch::multiply_add_relu(maps, factors, shortcut, broadcast);
            return Tensor::from_dispatch(joined);
        }
        let product = Dispatch::multiply(maps, factors, broadcast);
        return epilogue.apply(Tensor::from_dispatch(product));
    }
    epilogue.apply(features * gate)
}

/// What shares a number of a gate.
#[cfg(any(native_flex, native_cube))]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Broadcast {
    /// All places of a channel.
    Positions,
    /// All channels of a place.
    Channels,
}

/// What shares a number of a gate that is multiplied by here.
#[cfg(any(native_flex, native_cube))]
fn broadcast(features: &Tensor<4>, gate: &Tensor<4>, epilogue: &Epilogue<4>) -> Option<Broadcast> {
    let [batch, channels, height, width] = features.dims();
    let broadcast = match gate.dims() {
        dims if dims == [batch, channels, 1, 1] => Broadcast::Positions,
        dims if dims == [batch, 1, height, width] => Broadcast::Channels,
        _ => return None,
    };
    let (device, dtype) = (features.device(), features.dtype());
    if gate.device() != device || gate.dtype() != dtype {
        return None;
    }
    // On GPUs a product, a sum and a rectifier are one kernel of Burn's, a product alone is not.
    #[cfg(native_cube)]
    if matches!(epilogue, Epilogue::None) && crate::is_cube(&device, &[dtype]) {
        return Some(broadcast);
    }
    #[cfg(native_flex)]
    if crate::is_native(&device, &[dtype]) {
        let joins = match epilogue {
            Epilogue::AddRelu(shortcut) => crate::are_alike(shortcut, features),
            _ => true,
        };
        return joins.then_some(broadcast);
    }
    None
}
