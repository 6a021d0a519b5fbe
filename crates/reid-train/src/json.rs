//! Reads and writes JSON files. Errors name the file, the line and the path of the field.

use std::{fs, path::Path};

use reid_core::write_atomic;
use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Error, at};

/// The UTF-8 byte-order mark, which some editors write at the start of a file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads a JSON file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    parse(path, &fs::read(path).map_err(at(path))?)
}

/// Writes a JSON file.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let json = serde_json::to_string_pretty(value).map_err(|source| Error::Json {
        path: path.to_owned(),
        source,
    })?;
    write_atomic(path, json + "\n").map_err(at(path))
}

/// Parses the content of a JSON file. A byte-order mark at its start is skipped.
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, Error> {
    let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let failed = |field: String, source| Error::JsonField {
        path: path.to_owned(),
        field,
        source,
    };
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        failed(field, error.into_inner())
    })?;
    let rest = json.end();
    rest.map_err(|source| failed(".".to_owned(), source))?;
    Ok(value)
}

/// Deserializes a part of a JSON file that was already parsed.
pub(crate) fn from_value<T: DeserializeOwned>(
    path: &Path,
    value: serde_json::Value,
) -> Result<T, Error> {
    serde_path_to_error::deserialize(value).map_err(|error| Error::JsonField {
        path: path.to_owned(),
        field: error.path().to_string(),
        source: error.into_inner(),
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Pair {
        left: Vec<u8>,
    }

    fn read(text: &[u8]) -> Result<Pair, String> {
        parse(Path::new("pair.json"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        assert_eq!(
            read(b"\xef\xbb\xbf{\"left\":[1]}"),
            Ok(Pair { left: vec![1] })
        );
    }

    #[test]
    fn errors_name_file_line_and_field() {
        let error = read(b"{\n \"left\": [1, -1]\n}").expect_err("-1 is no byte");
        assert!(
            error.starts_with("pair.json, line 2, column 15, left[1]: invalid value"),
            "{error}"
        );
        let error = read(b"{\"left\":[1]} and more").expect_err("trailing text");
        assert!(
            error.starts_with("pair.json, line 1") && error.contains("trailing"),
            "{error}"
        );
        assert!(read(b"").expect_err("an empty file").contains("EOF"));
        assert!(read(b"\xff\xfe{\0").is_err());
        let deep = vec![b'['; 100_000];
        assert!(read(&deep).is_err());
    }

    #[test]
    fn errors_in_parsed_values_name_the_field_without_a_line() {
        let error =
            from_value::<Pair>(Path::new("pair.json"), serde_json::json!({ "left": [300] }));
        let error = error.expect_err("300 is no byte").to_string();
        assert!(error.starts_with("pair.json, left[0]: "), "{error}");
    }
}
