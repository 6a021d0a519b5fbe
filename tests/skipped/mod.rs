//! Reports on standard error what a test skips because the device does not support it.

use std::io::{self, Write};

use burn::tensor::Device;

/// Prints that a part of a test is skipped, because the device does not support what it needs.
///
/// It writes to standard error directly, because `cargo test` hides the captured output of tests that pass.
///
/// # Panics
/// If the device is Flex, the default backend. It supports everything, so no test may be skipped there.
pub(crate) fn skipped(test: &str, needs: &str, device: &Device) {
    let name = format!("{device:?}");
    assert!(
        !name.contains("Flex"),
        "{test}: nothing may be skipped on {name}: it supports {needs}"
    );
    let line = format!("skipped: {test}: {name} does not support {needs}\n");
    // If standard error is closed, there is no other way to report.
    let _ = io::stderr().write_all(line.as_bytes());
}
