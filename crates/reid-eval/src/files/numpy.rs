//! Arrays of `NumPy`: an `.npz` archive, or a folder of `.npy` files.

use std::{
    cell::RefCell,
    fs,
    io::{Cursor, Read, Write},
    path::Path,
};

use npyz::{AutoSerialize, DType, NpyFile, Order, TypeChar, WriterBuilder};
use zip::{ZipArchive, ZipWriter, write::SimpleFileOptions};

use super::arrays::{self, Values};
use super::tensors::{Shaped, Tensors, narrow};

/// Arrays in an archive.
pub(super) struct Archive<'a>(RefCell<ZipArchive<Cursor<&'a [u8]>>>);

impl<'a> Archive<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, String> {
        let archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| {
            let found = bytes.len();
            format!("expected a whole NumPy archive, found {found} bytes: {error}")
        })?;
        Ok(Self(RefCell::new(archive)))
    }

    /// The bytes of one array's file.
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

/// Arrays in a folder, one file each.
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

/// Names of files of arrays, without the extension.
fn array_names(files: impl Iterator<Item = impl AsRef<str>>) -> Vec<String> {
    let mut names: Vec<String> = files
        .filter_map(|name| name.as_ref().strip_suffix(".npy").map(str::to_owned))
        .collect();
    names.sort_unstable();
    names
}

fn floats(key: &str, bytes: &[u8]) -> Result<Shaped<f32>, String> {
    let array = Array::new(key, bytes)?;
    match array.kind {
        (TypeChar::Float, 4) => array.read(|value: f32| value),
        (TypeChar::Float, 8) => array.read(narrow),
        _ => Err(array.other("floats of 4 or 8 bytes")),
    }
}

fn integers(key: &str, bytes: &[u8]) -> Result<Shaped<i64>, String> {
    let array = Array::new(key, bytes)?;
    match array.kind {
        (TypeChar::Int, 4) => array.read(|value: i32| i64::from(value)),
        (TypeChar::Int, 8) => array.read(|value: i64| value),
        _ => Err(array.other("signed integers of 4 or 8 bytes")),
    }
}

fn bytes(key: &str, file: &[u8]) -> Result<Shaped<u8>, String> {
    let array = Array::new(key, file)?;
    match array.kind {
        (TypeChar::Uint, 1) => array.read(|value: u8| value),
        _ => Err(array.other("unsigned integers of 1 byte")),
    }
}

/// The bytes of an archive of these arrays, not compressed, as `numpy.savez` writes it.
pub(super) fn archive(arrays: &[arrays::Array<'_>]) -> Result<Vec<u8>, String> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .large_file(true);
    for arrays::Array { key, shape, values } in arrays {
        let say = |error: &dyn std::fmt::Display| format!("`{key}`: {error}");
        let shape: Vec<u64> = shape.iter().map(|side| *side as u64).collect();
        let bytes = match values {
            Values::Floats(values) => npy(&shape, values),
            Values::Integers(values) => npy(&shape, values),
            Values::Bytes(values) => npy(&shape, values),
        };
        let bytes = bytes.map_err(|error| say(&error))?;
        archive
            .start_file(format!("{key}.npy"), options)
            .map_err(|error| say(&error))?;
        archive.write_all(&bytes).map_err(|error| say(&error))?;
    }
    let archive = archive.finish().map_err(|error| error.to_string())?;
    Ok(archive.into_inner())
}

/// The bytes of one array's file.
fn npy<T: AutoSerialize + Copy>(shape: &[u64], values: &[T]) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut writer = npyz::WriteOptions::new()
        .default_dtype()
        .shape(shape)
        .writer(&mut bytes)
        .begin_nd()?;
    writer.extend(values.iter().copied())?;
    writer.finish()?;
    Ok(bytes)
}

/// The bytes up to the end of the header, as the first of them claim.
fn header_length(bytes: &[u8]) -> Option<usize> {
    let (start, length) = match *bytes {
        [_, _, _, _, _, _, 1, _, a, b, ..] => (10, u32::from(u16::from_le_bytes([a, b]))),
        [_, _, _, _, _, _, 2..=u8::MAX, _, a, b, c, d, ..] => {
            (12, u32::from_le_bytes([a, b, c, d]))
        }
        _ => return None,
    };
    usize::try_from(length).ok()?.checked_add(start)
}

/// The shape in a header, if it is of more values than can be counted: the reader multiplies its sides
/// unchecked.
fn uncountable(header: &[u8]) -> Option<String> {
    let header = String::from_utf8_lossy(header);
    let (_, shape) = header.split_once("shape")?;
    let (_, shape) = shape.split_once('(')?;
    let (shape, _) = shape.split_once(')')?;
    let mut sides = shape.split(',').filter_map(|side| side.trim().parse().ok());
    let count = sides.try_fold(1, u64::checked_mul);
    count.is_none().then(|| shape.to_owned())
}

/// Whether brackets stand in each other no deeper than in any array's header. The time that the reader takes
/// doubles with each bracket in another: a hundred bytes take days.
fn is_shallow(header: &[u8]) -> bool {
    const DEEPEST: usize = 4;
    let mut depth = 0_usize;
    header.iter().all(|byte| {
        match byte {
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth <= DEEPEST
    })
}

/// An array whose header was read.
struct Array<'a> {
    key: &'a str,
    file: NpyFile<&'a [u8]>,
    shape: Vec<usize>,
    /// Of what, in how many bytes.
    kind: (TypeChar, u64),
}

impl<'a> Array<'a> {
    fn new(key: &'a str, bytes: &'a [u8]) -> Result<Self, String> {
        let refused = |reason: String| format!("`{key}`: expected a NumPy array, {reason}");
        let found = bytes.len();
        // The reader takes the memory that a header of its own length asks for.
        if let Some(claimed) = header_length(bytes) {
            if claimed > found {
                return Err(refused(format!(
                    "whose header claims {claimed} bytes, found {found}"
                )));
            }
            if !is_shallow(&bytes[..claimed]) {
                return Err(refused("found a header of brackets in brackets".to_owned()));
            }
            let values = found - claimed;
            if let Some(shape) = uncountable(&bytes[..claimed]) {
                return Err(refused(format!(
                    "whose header claims the shape ({shape}), found {values} bytes of values"
                )));
            }
        }
        let mut rest = bytes;
        let header = npyz::NpyHeader::from_reader(&mut rest)
            .map_err(|error| refused(format!("found {found} bytes: {error}")))?;
        let DType::Plain(of) = header.dtype() else {
            return Err(refused(format!("found {}", header.dtype().descr())));
        };
        let kind = (of.type_char(), of.size_field());
        let sides = header
            .shape()
            .iter()
            .map(|side| usize::try_from(*side).ok());
        let shape: Option<Vec<usize>> = sides.collect();
        // A header may claim more than there is; that must not be reserved.
        let claimed = shape.as_ref().and_then(|shape| {
            let count = shape
                .iter()
                .try_fold(1_usize, |all, side| all.checked_mul(*side))?;
            count.checked_mul(usize::try_from(kind.1).ok()?)
        });
        match (shape, claimed) {
            (Some(shape), Some(claimed)) if claimed <= rest.len() => Ok(Self {
                key,
                file: NpyFile::with_header(header, rest),
                shape,
                kind,
            }),
            _ => Err(refused(format!(
                "whose header claims the shape {:?} of {}, found {} bytes of values",
                header.shape(),
                header.dtype().descr(),
                rest.len()
            ))),
        }
    }

    fn other(&self, expected: &str) -> String {
        let found = self.file.dtype().descr();
        format!("`{}`: expected {expected}, found {found}", self.key)
    }

    /// The numbers, row by row whatever the order in the file.
    fn read<T: npyz::Deserialize, U: Copy>(self, of: impl Fn(T) -> U) -> Result<Shaped<U>, String> {
        let by_columns = self.file.order() == Order::Fortran;
        let values = self
            .file
            .into_vec()
            .map_err(|error| format!("`{}`: {error}", self.key))?;
        let values: Vec<U> = values.into_iter().map(of).collect();
        let &[rows, columns] = self.shape.as_slice() else {
            return Ok((self.shape, values));
        };
        if !by_columns {
            return Ok((self.shape, values));
        }
        let transposed =
            (0..rows).flat_map(|row| (0..columns).map(move |column| column * rows + row));
        Ok((self.shape, transposed.map(|at| values[at]).collect()))
    }
}
