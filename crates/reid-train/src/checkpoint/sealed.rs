//! JSON that contains its own hash, so that every changed bit is detected.

use std::{fmt::Write, path::Path};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::error::Error;

/// A value with the SHA-256 of its compact JSON.
#[derive(Serialize, Deserialize)]
struct Sealed<T> {
    #[serde(flatten)]
    content: T,
    sha256: String,
}

/// Computes SHA-256 in hexadecimal digits, as `sha256sum` prints it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Writes a value and its hash as compact JSON.
pub(crate) fn seal<T: Serialize>(path: &Path, content: T) -> Result<Vec<u8>, Error> {
    let sha256 = hash(path, &content)?;
    to_json(path, &Sealed { content, sha256 })
}

/// Reads what [`seal`] wrote.
///
/// # Errors
/// [`Error::Json`] if the JSON cannot be parsed, [`Error::Damaged`] if the hash differs.
pub(crate) fn unseal<T: Serialize + DeserializeOwned>(
    path: &Path,
    bytes: &[u8],
) -> Result<T, Error> {
    let Sealed { content, sha256 } =
        serde_json::from_slice::<Sealed<T>>(bytes).map_err(|source| Error::Json {
            path: path.to_owned(),
            source,
        })?;
    // The content is serialized again: it must give the same hash and the same bytes.
    if hash(path, &content)? != sha256 || seal(path, &content)? != bytes {
        return Err(Error::Damaged {
            path: path.to_owned(),
        });
    }
    Ok(content)
}

fn hash<T: Serialize>(path: &Path, content: &T) -> Result<String, Error> {
    Ok(sha256(&to_json(path, content)?))
}

pub(crate) fn to_json<T: Serialize>(path: &Path, value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|source| Error::Json {
        path: path.to_owned(),
        source,
    })
}
