//! Reads a Parquet table of embeddings.

use std::{fs, panic, path::Path, sync::Arc};

use ::parquet::{
    basic::{LogicalType, Type as PhysicalType},
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::{ByteArray, DataType, FixedLenByteArray},
    file::reader::{ChunkReader, FileReader, SerializedFileReader},
    schema::types::ColumnDescriptor,
};
use bytes::Bytes;
use half::f16;
use reid_core::{Camera, Identity, Track};

use super::{FEATURES, NAMES};
use crate::{
    Embeddings, Labels,
    files::{FileError, arrays::unsigned, at, content, tensors::narrow},
};

/// The number of rows read at once.
const READ: usize = 1 << 10;

pub(in crate::files) fn read(path: &Path) -> Result<Embeddings, FileError> {
    let bytes = fs::read(path).map_err(at(path))?;
    without_panic(|| parse(bytes)).map_err(content(path))
}

/// Calls a reader of Parquet. Version 60 of the `parquet` crate panics on some damaged metadata and pages (found
/// by changing single bytes).
pub(super) fn without_panic<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let read = panic::catch_unwind(panic::AssertUnwindSafe(read));
    let damaged =
        "expected an intact Parquet file, found a damaged one that makes the reader panic";
    read.unwrap_or_else(|_| Err(damaged.to_owned()))
}

fn parse(bytes: Vec<u8>) -> Result<Embeddings, String> {
    let found = bytes.len();
    let file = SerializedFileReader::new(Bytes::from(bytes)).map_err(|error| {
        format!("expected a complete Parquet file, found {found} bytes: {error}")
    })?;
    let table = Table { file };
    let Column { values, starts } = table.floats(FEATURES)?;
    let rows = starts.len();
    let dimensions = starts.get(1).copied().unwrap_or(values.len());
    let ends = starts.iter().skip(1).copied().chain([values.len()]);
    if let Some(row) = starts
        .iter()
        .zip(ends)
        .position(|(start, end)| end - start != dimensions)
    {
        return Err(format!(
            "`{FEATURES}`: expected {dimensions} values in each of {rows} rows, as in the first row, found \
             another count in row {row}"
        ));
    }
    let labels = table.labels(rows, |_| true)?;
    Embeddings::from_parts(values, dimensions, labels)
        .map_err(|error| format!("`{FEATURES}`: {error}"))
}

/// A column of lists: all values, and the index of the first value of each row.
struct Column<T> {
    values: Vec<T>,
    starts: Vec<usize>,
}

/// A table in memory or in a file.
pub(super) struct Table<R: ChunkReader> {
    pub(super) file: SerializedFileReader<R>,
}

impl<R: ChunkReader + 'static> Table<R> {
    /// Reads all labels of `rows` images whose columns have an accepted name. Identities are always read.
    pub(super) fn labels(
        &self,
        rows: usize,
        accepts: impl Fn(&str) -> bool,
    ) -> Result<Labels, String> {
        let say = |error: crate::Error| error.to_string();
        let identities = self
            .integers("ids", rows)?
            .ok_or_else(|| self.missing("ids"))?;
        let mut labels = Labels::new(identities.into_iter().map(Identity::new).collect());
        if let Some(cameras) = self.integers("cameras", rows)? {
            let cameras = unsigned("cameras", cameras)?.into_iter().map(Camera::new);
            labels = labels.with_cameras(cameras.collect()).map_err(say)?;
        }
        if let Some(images) = self.integers("images", rows)? {
            labels = labels
                .with_images(unsigned("images", images)?)
                .map_err(say)?;
        }
        if let Some(tracks) = self.integers("tracks", rows)? {
            let tracks = unsigned("tracks", tracks)?.into_iter().map(Track::new);
            labels = labels.with_tracks(tracks.collect()).map_err(say)?;
        }
        for (index, column) in self.columns().iter().enumerate() {
            let name = column.name();
            let is_text = column.physical_type() == PhysicalType::BYTE_ARRAY;
            let is_flat = column.path().parts().len() == 1;
            let is_label = NAMES.contains(&name) && name != "paths";
            if !(is_text && is_flat) || is_label || !accepts(name) {
                continue;
            }
            let texts = self.texts(index, name, rows)?;
            labels = if name == "paths" {
                let missing = |row| format!("`paths`: expected a path at row {row}, found null");
                let paths = texts.into_iter().enumerate();
                let paths =
                    paths.map(|(row, path)| path.map(Into::into).ok_or_else(|| missing(row)));
                labels.with_paths(paths.collect::<Result<_, String>>()?)
            } else {
                labels.with_attribute(name, texts)
            }
            .map_err(say)?;
        }
        Ok(labels)
    }

    fn columns(&self) -> &[Arc<ColumnDescriptor>] {
        self.file
            .metadata()
            .file_metadata()
            .schema_descr()
            .columns()
    }

    /// The index of the leaf column with this name, or of the values of the list with this name.
    pub(super) fn index(&self, name: &str) -> Option<usize> {
        let columns = self.columns().iter();
        let mut named = columns.map(|column| column.path().parts().first());
        named.position(|first| first.is_some_and(|first| first == name))
    }

    pub(super) fn missing(&self, name: &str) -> String {
        let columns = self.columns().iter();
        let names = columns.filter_map(|column| column.path().parts().first());
        let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
        format!("expected the column `{name}`, found {}", names.join(", "))
    }

    fn floats(&self, name: &str) -> Result<Column<f32>, String> {
        let index = self.index(name).ok_or_else(|| self.missing(name))?;
        let mut column = Column {
            values: Vec::new(),
            starts: Vec::new(),
        };
        self.each_group(name, index, |reader| match reader {
            ColumnReader::FloatColumnReader(reader) => {
                read_lists(reader, |value| value, &mut column)
            }
            ColumnReader::DoubleColumnReader(reader) => read_lists(reader, narrow, &mut column),
            ColumnReader::FixedLenByteArrayColumnReader(reader) if self.is_half(index) => {
                read_lists(reader, |value| half(&value), &mut column)
            }
            other => Err(other_type("lists of floats, doubles or halves", &other)),
        })?;
        Ok(column)
    }

    /// Whether a column has values in half precision.
    pub(super) fn is_half(&self, index: usize) -> bool {
        let column = &self.columns()[index];
        column.type_length() == 2 && column.logical_type_ref() == Some(&LogicalType::Float16)
    }

    fn integers(&self, name: &str, rows: usize) -> Result<Option<Vec<i64>>, String> {
        let Some(index) = self.index(name) else {
            return Ok(None);
        };
        let mut column = Vec::new();
        self.each_group(name, index, |reader| match reader {
            ColumnReader::Int64ColumnReader(reader) => {
                read_each(reader, |value| value, &mut column)
            }
            ColumnReader::Int32ColumnReader(reader) => read_each(reader, i64::from, &mut column),
            other => Err(other_type("integers of 32 or 64 bits", &other)),
        })?;
        let all: Option<Vec<i64>> = column.iter().copied().collect();
        let Some(all) = all else {
            let row = column.iter().position(Option::is_none).unwrap_or(0);
            return Err(format!(
                "`{name}`: expected an integer at row {row}, found null"
            ));
        };
        expect_rows(name, rows, all.len())?;
        Ok(Some(all))
    }

    fn texts(&self, index: usize, name: &str, rows: usize) -> Result<Vec<Option<String>>, String> {
        let mut column = Vec::new();
        self.each_group(name, index, |reader| match reader {
            ColumnReader::ByteArrayColumnReader(reader) => {
                read_each(reader, |value| value, &mut column)
            }
            other => Err(other_type("text", &other)),
        })?;
        expect_rows(name, rows, column.len())?;
        let text = |(row, value): (usize, Option<ByteArray>)| {
            let Some(value) = value else { return Ok(None) };
            let text = value.as_utf8();
            let text = text.map_err(|_| format!("`{name}`: expected UTF-8 at row {row}"))?;
            Ok(Some(text.to_owned()))
        };
        column.into_iter().enumerate().map(text).collect()
    }

    /// Reads a column, one row group at a time.
    fn each_group(
        &self,
        name: &str,
        index: usize,
        mut read: impl FnMut(ColumnReader) -> Result<(), String>,
    ) -> Result<(), String> {
        for group in 0..self.file.num_row_groups() {
            let reader = self.file.get_row_group(group);
            let reader = reader.and_then(|group| group.get_column_reader(index));
            reader
                .map_err(|error| error.to_string())
                .and_then(&mut read)
                .map_err(|reason| format!("`{name}`: {reason}"))?;
        }
        Ok(())
    }
}

/// Converts a value in half precision, which has two bytes.
fn half(value: &FixedLenByteArray) -> f32 {
    let bytes = value.data().first_chunk();
    bytes.map_or(f32::NAN, |bytes| f16::from_le_bytes(*bytes).to_f32())
}

fn expect_rows(name: &str, expected: usize, found: usize) -> Result<(), String> {
    if expected == found {
        Ok(())
    } else {
        Err(format!(
            "`{name}`: expected {expected} values, one per row of features, found {found}"
        ))
    }
}

fn other_type(expected: &str, found: &ColumnReader) -> String {
    let found = match found {
        ColumnReader::BoolColumnReader(_) => "booleans",
        ColumnReader::Int32ColumnReader(_) => "integers of 32 bits",
        ColumnReader::Int64ColumnReader(_) => "integers of 64 bits",
        ColumnReader::Int96ColumnReader(_) => "integers of 96 bits",
        ColumnReader::FloatColumnReader(_) => "floats",
        ColumnReader::DoubleColumnReader(_) => "doubles",
        ColumnReader::ByteArrayColumnReader(_) => "text or bytes",
        ColumnReader::FixedLenByteArrayColumnReader(_) => "bytes of a fixed length",
    };
    format!("expected {expected}, found {found}")
}

/// Consecutive values of a column with their definition and repetition levels.
struct Batch<T> {
    values: Vec<T>,
    definition: Vec<i16>,
    repetition: Vec<i16>,
}

/// Reads the next batch of a column; `None` at its end.
fn next<T: DataType>(reader: &mut ColumnReaderImpl<T>) -> Result<Option<Batch<T::T>>, String> {
    let mut batch = Batch {
        values: Vec::new(),
        definition: Vec::new(),
        repetition: Vec::new(),
    };
    let (rows, ..) = reader
        .read_records(
            READ,
            Some(&mut batch.definition),
            Some(&mut batch.repetition),
            &mut batch.values,
        )
        .map_err(|error| error.to_string())?;
    Ok((rows > 0).then_some(batch))
}

/// Appends the values of a column of lists; a null is an error.
fn read_lists<T: DataType, V>(
    mut reader: ColumnReaderImpl<T>,
    convert: impl Fn(T::T) -> V,
    column: &mut Column<V>,
) -> Result<(), String> {
    while let Some(batch) = next(&mut reader)? {
        let (values, levels) = (batch.values.len(), batch.repetition.len());
        if levels != values {
            return Err(format!(
                "expected lists without nulls, found {values} values for {levels} entries"
            ));
        }
        let before = column.values.len();
        let firsts = (before..).zip(&batch.repetition);
        let firsts = firsts.filter(|(_, level)| **level == 0);
        column.starts.extend(firsts.map(|(at, _)| at));
        column.values.extend(batch.values.into_iter().map(&convert));
    }
    Ok(())
}

/// Appends the values of a column with one value per row; a null becomes `None`.
fn read_each<T: DataType, V>(
    mut reader: ColumnReaderImpl<T>,
    convert: impl Fn(T::T) -> V,
    column: &mut Vec<Option<V>>,
) -> Result<(), String> {
    while let Some(batch) = next(&mut reader)? {
        if !batch.repetition.is_empty() {
            return Err("expected one value in each row, found lists".to_owned());
        }
        let mut values = batch.values.into_iter().map(&convert);
        if batch.definition.is_empty() {
            column.extend(values.map(Some));
            continue;
        }
        for level in batch.definition {
            column.push(if level > 0 { values.next() } else { None });
        }
    }
    Ok(())
}
