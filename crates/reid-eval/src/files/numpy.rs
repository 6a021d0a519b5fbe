//! `NumPy` arrays in an `.npz` archive or in a folder of `.npy` files.

use std::{
    cell::RefCell,
    fs,
    io::{Cursor, Read, Write},
    path::Path,
};

use zip::{ZipArchive, ZipWriter, write::SimpleFileOptions};

use super::{
    arrays::{self, Values},
    npy::{self, Array},
    tensors::{Shaped, Tensors, narrow},
};

/// The arrays of an `.npz` archive.
pub(super) struct Archive<'a>(RefCell<ZipArchive<Cursor<&'a [u8]>>>);

impl<'a> Archive<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, String> {
        let archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| {
            let found = bytes.len();
            format!("expected a complete NumPy archive, found {found} bytes: {error}")
        })?;
        Ok(Self(RefCell::new(archive)))
    }

    /// Reads the bytes of the `.npy` file of one array.
    fn file(&self, key: &str) -> Result<Vec<u8>, String> {
        if !self.keys().iter().any(|name| name == key) {
            return Err(self.missing(key));
        }
        let mut archive = self.0.borrow_mut();
        let mut bytes = Vec::new();
        let file = archive.by_name(&format!("{key}.npy"));
        let read = file
            .map_err(|error| error.to_string())
            .and_then(|mut file| {
                file.read_to_end(&mut bytes)
                    .map_err(|error| error.to_string())
            });
        read.map_err(|error| format!("`{key}`: {error}"))?;
        Ok(bytes)
    }
}

impl Tensors for Archive<'_> {
    fn keys(&self) -> Vec<String> {
        let archive = self.0.borrow();
        array_names(archive.file_names().flatten())
    }

    fn floats(&self, key: &str) -> Result<Shaped<f32>, String> {
        floats(key, &self.file(key)?)
    }

    fn integers(&self, key: &str) -> Result<Shaped<i64>, String> {
        integers(key, &self.file(key)?)
    }

    fn bytes(&self, key: &str) -> Result<Shaped<u8>, String> {
        bytes(key, &self.file(key)?)
    }
}

/// The arrays of a folder with one `.npy` file per array.
pub(super) struct Folder<'a>(pub(super) &'a Path);

impl Folder<'_> {
    fn file(&self, key: &str) -> Result<Vec<u8>, String> {
        if !self.keys().iter().any(|name| name == key) {
            return Err(self.missing(key));
        }
        let path = self.0.join(format!("{key}.npy"));
        fs::read(&path).map_err(|error| format!("`{key}`: {error}"))
    }
}

impl Tensors for Folder<'_> {
    fn keys(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0).into_iter().flatten().flatten();
        array_names(entries.filter_map(|entry| entry.file_name().into_string().ok()))
    }

    fn floats(&self, key: &str) -> Result<Shaped<f32>, String> {
        floats(key, &self.file(key)?)
    }

    fn integers(&self, key: &str) -> Result<Shaped<i64>, String> {
        integers(key, &self.file(key)?)
    }

    fn bytes(&self, key: &str) -> Result<Shaped<u8>, String> {
        bytes(key, &self.file(key)?)
    }
}

/// The names of the `.npy` files without the extension, sorted.
fn array_names(files: impl Iterator<Item = impl AsRef<str>>) -> Vec<String> {
    let mut names: Vec<String> = files
        .filter_map(|name| name.as_ref().strip_suffix(".npy").map(str::to_owned))
        .collect();
    names.sort_unstable();
    names
}

fn floats(key: &str, file: &[u8]) -> Result<Shaped<f32>, String> {
    let array = array(key, file)?;
    match array.kind() {
        ('f', 4) => Ok(array.read(f32::from_le_bytes)),
        ('f', 8) => Ok(array.read(|bytes| narrow(f64::from_le_bytes(bytes)))),
        _ => Err(other(key, &array, "floats of 4 or 8 bytes")),
    }
}

fn integers(key: &str, file: &[u8]) -> Result<Shaped<i64>, String> {
    let array = array(key, file)?;
    match array.kind() {
        ('i', 4) => Ok(array.read(|bytes| i64::from(i32::from_le_bytes(bytes)))),
        ('i', 8) => Ok(array.read(i64::from_le_bytes)),
        _ => Err(other(key, &array, "signed integers of 4 or 8 bytes")),
    }
}

fn bytes(key: &str, file: &[u8]) -> Result<Shaped<u8>, String> {
    let array = array(key, file)?;
    match array.kind() {
        ('u', 1) => Ok(array.read(|[byte]| byte)),
        _ => Err(other(key, &array, "unsigned integers of 1 byte")),
    }
}

fn array<'a>(key: &str, file: &'a [u8]) -> Result<Array<'a>, String> {
    Array::new(file).map_err(|reason| format!("`{key}`: expected a NumPy array, {reason}"))
}

fn other(key: &str, array: &Array<'_>, expected: &str) -> String {
    format!("`{key}`: expected {expected}, found {}", array.dtype())
}

/// Encodes arrays as the bytes of an uncompressed `.npz` archive, like `numpy.savez`.
pub(super) fn archive(arrays: &[arrays::Array<'_>]) -> Result<Vec<u8>, String> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .large_file(true);
    for arrays::Array { key, shape, values } in arrays {
        let say = |error: &dyn std::fmt::Display| format!("`{key}`: {error}");
        let bytes = match values {
            Values::Floats(values) => {
                npy::file("<f4", shape, values.iter().map(|value| value.to_le_bytes()))
            }
            Values::Integers(values) => {
                npy::file("<i8", shape, values.iter().map(|value| value.to_le_bytes()))
            }
            Values::Bytes(values) => npy::file("|u1", shape, values.iter().map(|byte| [*byte])),
        };
        archive
            .start_file(format!("{key}.npy"), options)
            .map_err(|error| say(&error))?;
        archive.write_all(&bytes).map_err(|error| say(&error))?;
    }
    let archive = archive.finish().map_err(|error| error.to_string())?;
    Ok(archive.into_inner())
}
