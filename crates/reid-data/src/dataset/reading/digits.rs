//! Digits: numbers as names and lists write them.

use std::str::FromStr;

use reid_core::Camera;

/// A number of digits only: `str::parse` would take a sign as well.
pub(crate) fn number<N: FromStr>(digits: &str) -> Option<N> {
    let digits_only = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits_only.then(|| digits.parse().ok()).flatten()
}

/// A camera of the form `c3` or `c003`.
pub(crate) fn camera(text: &str) -> Option<Camera> {
    number(text.strip_prefix('c')?).map(Camera::new)
}
