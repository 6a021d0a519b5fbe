//! Strict deserialization: an unknown field of a configuration is an error.

use serde::{Deserialize, Deserializer, de::Error};
use serde_ignored::Path;

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
/// If the value cannot be deserialized, or if it has unknown fields; the message lists their paths. Both are
/// reported together, because a misspelled field is missing and unknown.
pub fn strict<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let mut names = Vec::new();
    let mut erased = <dyn erased_serde::Deserializer<'_>>::erase(deserializer);
    let value = collecting(&mut erased, &mut names);
    let unknown = match names.len() {
        0 => return value.map_err(D::Error::custom),
        1 => format!("unknown field {}", names[0]),
        _ => format!("unknown fields {}", names.join(", ")),
    };
    Err(D::Error::custom(match value {
        Ok(_) => unknown,
        // A misspelled field is both unknown and missing.
        Err(error) => format!("{error}; {unknown}"),
    }))
}

/// Deserializes a value and collects the paths of unknown fields.
///
/// The type of the deserializer is erased. Otherwise, `serde_ignored` would wrap the deserializer of every field
/// that is strict, inside another strict one, in one more layer, and the networks would be compiled once per layer.
fn collecting<'de, T: Deserialize<'de>>(
    deserializer: &mut dyn erased_serde::Deserializer<'de>,
    names: &mut Vec<String>,
) -> Result<T, erased_serde::Error> {
    serde_ignored::deserialize(deserializer, collector(names))
}

/// Returns a closure whose type does not depend on the deserialized type.
fn collector(names: &mut Vec<String>) -> impl FnMut(Path<'_>) {
    // `serde_ignored` writes an `Option` in a path as `?`.
    |path| names.push(format!("`{}`", path.to_string().replace("?.", "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Head {
        #[expect(dead_code, reason = "only its presence is tested")]
        dimensions: usize,
    }

    #[derive(Debug, Deserialize)]
    struct Network {
        #[serde(deserialize_with = "strict")]
        #[expect(dead_code, reason = "only its presence is tested")]
        head: Head,
    }

    #[test]
    fn a_misspelled_field_is_named_as_missing_and_as_unknown() {
        let error = serde_json::from_str::<Network>(r#"{"head": {"dimension": 3}}"#);
        let error = error.expect_err("a misspelled field").to_string();
        assert!(error.starts_with("missing field `dimensions`"), "{error}");
        assert!(error.contains("; unknown field `dimension`"), "{error}");
    }
}
