//! Hash of the model of a checkpoint, to detect that embeddings come from another model.

use std::{fs, path::Path};

use serde_json::Value;

use super::{
    Checkpoints,
    parts::{AVERAGE, MODEL},
    sealed::sha256,
};
use crate::error::Error;

impl Checkpoints {
    /// Computes a hash of everything that the embeddings of a checkpoint's model depend on: its weights, its
    /// network, its input size and its normalisation. The result is a SHA-256 in hexadecimal digits.
    ///
    /// The precision and the device are not included, because embeddings depend on them only up to rounding.
    /// If the recipe averages weights, the averaged weights count.
    ///
    /// # Errors
    /// If the checkpoint cannot be read or is damaged.
    pub fn model_hash(checkpoint: &Path) -> Result<String, Error> {
        let recipe = Self::read_state(checkpoint)?.recipe;
        let average = checkpoint.join(AVERAGE);
        let path = if average.exists() {
            average
        } else {
            checkpoint.join(MODEL)
        };
        let weights = fs::read(&path).map_err(|source| Error::Io { path, source })?;
        let mut text = sha256(&weights);
        for setting in [
            &recipe["network"],
            &recipe["input"],
            &recipe["augmentation"]["normalise"],
        ] {
            text.push('\n');
            write_sorted(setting, &mut text);
        }
        Ok(sha256(text.as_bytes()))
    }
}

/// Appends a value as compact JSON with sorted fields. The order of the fields in memory depends on a Cargo
/// feature of `serde_json`.
fn write_sorted(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|field| field.0);
            text.push('{');
            for (name, value) in fields {
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write_sorted(value, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(values) => {
            text.push('[');
            for value in values {
                write_sorted(value, text);
                text.push(',');
            }
            text.push(']');
        }
        value => text.push_str(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_sorted_and_values_keep_their_order() {
        let mut text = String::new();
        write_sorted(
            &json!({ "b": [2, 1, { "d": null, "c": "x\"" }], "a": 0.5 }),
            &mut text,
        );
        assert_eq!(text, r#"{"a":0.5,"b":[2,1,{"c":"x\"","d":null,},],}"#);
    }
}
