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
/// If the value cannot be deserialized, or if it has unknown fields; the message lists their paths. Both are
/// reported together, because a misspelled field is missing and unknown.
pub fn strict<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let mut unknown: Vec<String> = Vec::new();
    let value = serde_ignored::deserialize(deserializer, |path| unknown.push(path.to_string()));
    // `serde_ignored` writes an `Option` in a path as `?`.
    let names = unknown
        .iter()
        .map(|path| format!("`{}`", path.replace("?.", "")));
    let names: Vec<String> = names.collect();
    let unknown = match names.len() {
        0 => return value,
        1 => format!("unknown field {}", names[0]),
        _ => format!("unknown fields {}", names.join(", ")),
    };
    Err(D::Error::custom(match value {
        Ok(_) => unknown,
        // A misspelled field is both unknown and missing.
        Err(error) => format!("{error}; {unknown}"),
    }))
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
