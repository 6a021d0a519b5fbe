//! Strict deserialization: an unknown field of a configuration is an error.

use serde::{Deserialize, Deserializer, de::Error};

/// Deserializes a value and rejects unknown fields at any depth.
///
/// Configurations derived with Burn's `Config` ignore unknown fields. Use this function as the
/// `deserialize_with` of a field that holds such a configuration:
///
/// ```
/// use serde::Deserialize;
///
/// #[derive(Debug, Deserialize)]
/// struct Head {
///     pool: String,
/// }
///
/// #[derive(Debug, Deserialize)]
/// struct Network {
///     #[serde(deserialize_with = "reid_core::strict")]
///     head: Head,
/// }
///
/// let text = r#"{ "head": { "pool": "max", "colour": 3 } }"#;
/// let error = serde_json::from_str::<Network>(text).expect_err("a head has no field `colour`");
/// assert!(error.to_string().starts_with("unknown field `colour`"));
/// assert_eq!(serde_json::from_str::<Network>(&text.replace(r#", "colour": 3"#, ""))?.head.pool, "max");
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// # Errors
/// If the value cannot be deserialized, or if it has unknown fields; the message lists their paths.
pub fn strict<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let mut unknown: Vec<String> = Vec::new();
    let value = serde_ignored::deserialize(deserializer, |path| unknown.push(path.to_string()))?;
    // `serde_ignored` writes an `Option` in a path as `?`.
    let names = unknown
        .iter()
        .map(|path| format!("`{}`", path.replace("?.", "")));
    let names: Vec<String> = names.collect();
    match names.len() {
        0 => Ok(value),
        1 => Err(D::Error::custom(format_args!("unknown field {}", names[0]))),
        _ => Err(D::Error::custom(format_args!(
            "unknown fields {}",
            names.join(", ")
        ))),
    }
}
