//! Skipped: what a test could not look at on the device at hand, said where it is seen.

use std::io::{self, Write};

use burn::tensor::Device;

/// Says on standard error, past what `cargo test` captures of tests that pass, that a part of a test was
/// left out because the device at hand has not got what it needs.
///
/// # Panics
/// If the device is Flex, the default, which has everything: no test may pass there without looking.
pub(crate) fn skipped(test: &str, needs: &str, device: &Device) {
    let name = format!("{device:?}");
    assert!(!name.contains("Flex"), "{test}: {name} should have {needs}");
    let line = format!("skipped: {test}: {name} has no {needs}\n");
    // Where standard error is closed nobody can be told.
    let _ = io::stderr().write_all(line.as_bytes());
}
