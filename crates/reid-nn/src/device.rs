//! A device that is really there.
//!
//! Burn's `Device::default()` answers with the first backend that was compiled in, whether or not its
//! hardware is present: with the feature `cuda` and no NVIDIA GPU the first operation panics.
//! [`pick`] asks each backend first.

use std::fmt;

use burn::tensor::{Device, DeviceType};

/// No device can be had.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoDevice {
    /// `BURN_DEVICE` names a backend that is not compiled in.
    NotCompiled {
        /// What `BURN_DEVICE` says.
        asked: String,
    },
    /// The backend that `BURN_DEVICE` names finds no hardware.
    NotPresent {
        /// What `BURN_DEVICE` says.
        asked: String,
    },
    /// No compiled backend finds hardware.
    None,
}

impl fmt::Display for NoDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = backends().iter().map(|(name, _)| *name).collect();
        let compiled = names.join(", ");
        match self {
            Self::NotCompiled { asked } => write!(
                f,
                "BURN_DEVICE is `{asked}`, expected a backend that is compiled in ({compiled}); \
                 Cargo features add others"
            ),
            Self::NotPresent { asked } => {
                write!(
                    f,
                    "BURN_DEVICE is `{asked}`, which finds no hardware; compiled in: {compiled}"
                )
            }
            Self::None => write!(f, "no device found; compiled in: {compiled}"),
        }
    }
}

impl fmt::Debug for NoDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        reid_core::debug_error(self, f)
    }
}

impl std::error::Error for NoDevice {}

/// The compiled backends, best first.
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

/// The device that `BURN_DEVICE` names, or else the first that is really there: CUDA, ROCm, Metal,
/// Vulkan, WGPU, Flex, NdArray.
///
/// # Errors
/// If `BURN_DEVICE` names a backend that is not compiled in or finds no hardware, or if there is no
/// device at all.
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

/// The first device of the named backend.
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

/// The name of a device's backend, as in Cargo features and `BURN_DEVICE`; `unknown` if it is none of
/// those that [`pick`] looks for.
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
    let is_there = |kind: &DeviceType| Device::enumerate(kind.clone()).into_vec().contains(&plain);
    let found = backends.find(|(_, kind)| is_there(kind));
    found.map_or("unknown", |(name, _)| name)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn the_default_backend_is_always_there() {
        let device = pick_named("Flex").expect("compiled in");
        assert_eq!(backend(&device), "flex");
        assert_eq!(backend(&device.autodiff()), "flex");
    }

    #[test]
    fn an_unknown_backend_is_refused_with_the_known_ones() {
        let error = pick_named("abacus")
            .expect_err("no such backend")
            .to_string();
        assert!(
            error.contains("`abacus`") && error.contains("flex"),
            "{error}"
        );
    }

    #[test]
    fn a_program_that_ends_with_an_error_prints_its_message() {
        let error = NoDevice::None;
        assert_eq!(format!("{error:?}"), error.to_string());
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn a_gpu_backend_without_a_gpu_is_no_device() {
        // On a machine with a GPU this picks it; on one without it must not panic.
        if let Err(error) = pick_named("cuda") {
            assert!(error.to_string().contains("no hardware"), "{error}");
        }
    }
}
