//! Selection of a device whose hardware is present.
//!
//! Burn's `Device::default()` returns the first backend that was compiled in, even if its hardware is
//! missing. With the feature `cuda` and no NVIDIA GPU, the first operation then panics. [`pick`] checks for
//! hardware first.

use std::fmt;

use burn::tensor::{Device, DeviceType};

/// The error when no device can be selected.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoDevice {
    /// The requested backend is not compiled in.
    NotCompiled {
        /// The requested name: the value of `BURN_DEVICE` or the argument of [`pick_named`].
        asked: String,
    },
    /// The requested backend finds no hardware.
    NotPresent {
        /// The requested name: the value of `BURN_DEVICE` or the argument of [`pick_named`].
        asked: String,
    },
    /// None of the compiled backends finds hardware.
    None,
}

impl fmt::Display for NoDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = backends().iter().map(|(name, _)| *name).collect();
        let compiled = names.join(", ");
        match self {
            Self::NotCompiled { asked } => write!(
                f,
                "the requested backend `{asked}` is not compiled in, expected one of: {compiled} \
                 (BURN_DEVICE selects one; Cargo features add others)"
            ),
            Self::NotPresent { asked } => {
                write!(
                    f,
                    "the requested backend `{asked}` finds no hardware; compiled in: {compiled} \
                     (BURN_DEVICE selects one)"
                )
            }
            Self::None => write!(
                f,
                "no compiled backend finds hardware; compiled in: {compiled}"
            ),
        }
    }
}

impl fmt::Debug for NoDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        reid_core::debug_error(self, f)
    }
}

impl std::error::Error for NoDevice {}

/// The number of images for which inference is fastest and needs little memory: 8 with the CPU kernels of this
/// library, because the feature maps of few images stay in the caches, and otherwise 64.
#[must_use]
pub fn batch_size(device: &Device) -> usize {
    if reid_ops::uses_workers(device) {
        8
    } else {
        64
    }
}

/// The compiled backends in order of preference.
fn backends() -> Vec<(&'static str, DeviceType)> {
    let compiled: &[(&str, DeviceType)] = &[
        #[cfg(feature = "cuda")]
        ("cuda", DeviceType::Cuda),
        #[cfg(feature = "rocm")]
        ("rocm", DeviceType::Rocm),
        #[cfg(feature = "metal")]
        ("metal", DeviceType::Metal),
        #[cfg(feature = "vulkan")]
        ("vulkan", DeviceType::Vulkan),
        #[cfg(feature = "wgpu")]
        ("wgpu", DeviceType::Wgpu),
        #[cfg(feature = "flex")]
        ("flex", DeviceType::Flex),
        #[cfg(feature = "ndarray")]
        ("ndarray", DeviceType::NdArray),
    ];
    compiled.to_vec()
}

/// Selects the first device of the backend that the environment variable `BURN_DEVICE` names. If it is not
/// set, selects the first device of the first compiled backend that finds hardware, in this order: CUDA,
/// ROCm, Metal, Vulkan, WGPU, Flex, NdArray.
///
/// # Errors
/// If `BURN_DEVICE` names a backend that is not compiled in or finds no hardware, or if no compiled backend
/// finds hardware.
///
/// ```
/// let device = reid_nn::device::pick()?;
/// println!("running on {device:?}");
/// # Ok::<(), reid_nn::device::NoDevice>(())
/// ```
pub fn pick() -> Result<Device, NoDevice> {
    match std::env::var("BURN_DEVICE") {
        Ok(asked) if !asked.is_empty() => pick_named(&asked),
        _ => {
            let mut present = backends().into_iter().filter_map(first);
            present.next().ok_or(NoDevice::None)
        }
    }
}

/// Selects the first device of the named backend, ignoring case.
///
/// # Errors
/// If the backend is not compiled in or finds no hardware.
pub fn pick_named(backend: &str) -> Result<Device, NoDevice> {
    let asked = backend.to_owned();
    let found = backends()
        .into_iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(backend));
    match found {
        Some(found) => first(found).ok_or(NoDevice::NotPresent { asked }),
        None => Err(NoDevice::NotCompiled { asked }),
    }
}

fn first((_, kind): (&'static str, DeviceType)) -> Option<Device> {
    Device::enumerate(kind).into_vec().into_iter().next()
}

/// Returns the name of a device's backend, as in Cargo features and `BURN_DEVICE`; `unknown` for a backend
/// that [`pick`] does not select.
///
/// ```
/// use reid_nn::device;
///
/// let device = device::pick()?;
/// println!("running on {}", device::backend(&device));
/// # Ok::<(), reid_nn::device::NoDevice>(())
/// ```
#[must_use]
pub fn backend(device: &Device) -> &'static str {
    let plain = device.clone().without_autodiff();
    let mut backends = backends().into_iter();
    let exists = |kind: &DeviceType| Device::enumerate(kind.clone()).into_vec().contains(&plain);
    let found = backends.find(|(_, kind)| exists(kind));
    found.map_or("unknown", |(name, _)| name)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn flex_is_always_present() {
        let device = pick_named("Flex").expect("compiled in");
        assert_eq!(backend(&device), "flex");
        assert_eq!(backend(&device.autodiff()), "flex");
    }

    #[test]
    fn an_unknown_backend_is_an_error_that_lists_the_known_ones() {
        let error = pick_named("abacus")
            .expect_err("no such backend")
            .to_string();
        assert!(
            error.contains("`abacus`") && error.contains("flex"),
            "{error}"
        );
    }

    #[test]
    fn debug_output_is_the_message() {
        let error = NoDevice::None;
        assert_eq!(format!("{error:?}"), error.to_string());
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn a_gpu_backend_without_a_gpu_is_an_error() {
        // With a GPU this succeeds; without one it must return an error instead of panicking.
        if let Err(error) = pick_named("cuda") {
            assert!(error.to_string().contains("no hardware"), "{error}");
        }
    }
}
