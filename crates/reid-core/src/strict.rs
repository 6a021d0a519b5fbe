//! Strictness: an unknown field of a configuration is an error, whoever derived how it is read.

use serde::{Deserialize, Deserializer, de::Error};

/// Reads a value whose JSON has no field that is left over.
///
/// Configurations that Burn derives ignore what they do not know. As the `deserialize_with` of the
/// field that holds one, this refuses it:
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
/// let error = serde_json::from_str::<Network>(text).expect_err("heads have no colour");
/// assert!(error.to_string().starts_with("unknown field `colour`"));
/// assert_eq!(serde_json::from_str::<Network>(&text.replace(r#", "colour": 3"#, ""))?.head.pool, "max");
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// # Errors
/// Those of the value, and one that names the path of each unknown field.
pub fn strict<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let mut unknown: Vec<String> = Vec::new();
    let value = serde_ignored::deserialize(deserializer, |path| unknown.push(path.to_string()))?;
    // A part that may be absent is a place of its own on the way, written `?`.
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
