//! Parses integers and cameras in file names and lists.

use std::str::FromStr;

use reid_core::Camera;

/// Parses an integer of digits only; `str::parse` would also accept a sign.
pub(crate) fn number<N: FromStr>(digits: &str) -> Option<N> {
    let digits_only = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits_only.then(|| digits.parse().ok()).flatten()
}

/// Parses a camera of the form `c3` or `c003`.
pub(crate) fn camera(text: &str) -> Option<Camera> {
    number(text.strip_prefix('c')?).map(Camera::new)
}
