//! Feature maps multiplied by a gate.
//!
//! Burn multiplies by a broadcast gate on one thread, and computes a product of whole feature maps for each
//! of the two gradients. Here the product is one pass, and both gradients come from one reading of the
//! features.

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

/// Multiplies features by a gate, the last step of an attention block.
///
/// ```text
/// y = x ⊙ g        ∂g = Σ ∂y ⊙ x over the broadcast dimensions        ∂x = ∂y ⊙ g
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::default();
/// let features = Tensor::<4>::from_data([[[[1.0, 2.0]], [[3.0, 4.0]]]], &device);
/// let positions = Tensor::<4>::from_data([[[[0.0, 1.0]]]], &device);
/// let gated = reid_ops::mul_gate(features, positions);
/// assert_eq!(gated.into_data().try_to_vec::<f32>()?, [0.0, 2.0, 0.0, 4.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Shapes
/// - `features` and result: `[batch, channels, height, width]`
/// - `gate`: the same, or a size of 1 for each dimension over which it is broadcast
///
/// # Panics
/// If the shapes do not match, or the features are empty.
#[must_use]
pub fn mul_gate(features: Tensor<4>, gate: Tensor<4>) -> Tensor<4> {
    mul_gate_epilogue(features, gate, Epilogue::None)
}

/// Multiplies features by a gate and applies an [epilogue](Epilogue) to the product.
///
/// # Shapes
/// As in [`mul_gate`]; a shortcut of the epilogue has that of the features.
///
/// # Panics
/// As [`mul_gate`], and if a shortcut differs in shape from the features.
#[must_use]
pub fn mul_gate_epilogue(features: Tensor<4>, gate: Tensor<4>, epilogue: Epilogue<4>) -> Tensor<4> {
    crate::expect_not_empty("gate", &features.dims());
    #[cfg(any(native_flex, native_cube))]
    if let Some(broadcast) = broadcast(&features, &gate, &epilogue) {
        use burn::backend::Dispatch;

        let (maps, factors) = (features.into_dispatch(), gate.into_dispatch());
        #[cfg(native_flex)]
        if let Epilogue::AddRelu(shortcut) = epilogue {
            use crate::extension::ReidOps;
            let shortcut = shortcut.into_dispatch();
            let output = Dispatch::multiply_add_relu(maps, factors, shortcut, broadcast);
            return Tensor::from_dispatch(output);
        }
        let product = Dispatch::multiply(maps, factors, broadcast);
        return epilogue.apply(Tensor::from_dispatch(product));
    }
    epilogue.apply(features * gate)
}

/// The dimension over which a value of the gate is broadcast.
#[cfg(any(native_flex, native_cube))]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Broadcast {
    /// All positions of a channel share a value.
    Positions,
    /// All channels of a position share a value.
    Channels,
}

/// The broadcast dimension of a gate that is multiplied by a kernel of this crate; `None` if it is left to
/// Burn.
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
    // On GPUs, Burn fuses a product, a sum and a ReLU into one kernel. A product without an epilogue is not
    // fused.
    #[cfg(native_cube)]
    if matches!(epilogue, Epilogue::None) && crate::is_cube(&device, &[dtype]) {
        return Some(broadcast);
    }
    #[cfg(native_flex)]
    if crate::is_native(&device, &[dtype]) {
        let fits = match epilogue {
            Epilogue::AddRelu(shortcut) => crate::are_alike(shortcut, features),
            _ => true,
        };
        return fits.then_some(broadcast);
    }
    None
}
