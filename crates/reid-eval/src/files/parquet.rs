//! Parquet: a set of embeddings as a table, one row per image.
//!
//! Columns have the names of the arrays in other files: `features` is a list of floats, `ids`, `cameras`, `images`
//! and `tracks` are integers, `paths` is text. Every further column of text is an attribute.

use std::{fs, panic, path::Path, sync::Arc};

use bytes::Bytes;
use parquet::{
    basic::{LogicalType, Repetition, Type as PhysicalType},
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int64Type},
    file::{
        properties::{EnabledStatistics, WriterProperties},
        reader::{FileReader, SerializedFileReader},
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::types::{ColumnDescriptor, Type, TypePtr},
};
use reid_core::{Camera, Identity, Track};

use super::{
    FileError,
    arrays::{signed, texts_of, unsigned},
    at, content,
    tensors::narrow,
};
use crate::{Embeddings, Labels};

/// Rows that are written together.
const GROUP: usize = 1 << 14;
/// Rows that are asked for at once.
const READ: usize = 1 << 10;

const FEATURES: &str = "features";
/// Columns that are no attributes.
const NAMES: [&str; 6] = [FEATURES, "ids", "cameras", "images", "tracks", "paths"];

type Columns<'a> = Vec<(&'a str, Values<'a>)>;

/// A column of single values, to be written.
enum Values<'a> {
    Integers(Vec<i64>),
    Texts(Vec<&'a str>),
    /// An empty text is not known.
    OptionalTexts(Vec<&'a str>),
}

/// The bytes of a Parquet file.
pub(super) fn write(embeddings: &Embeddings) -> Result<Vec<u8>, String> {
    if embeddings.is_empty() {
        return Err("a `.parquet` file needs at least 1 image, found none".to_owned());
    }
    let columns = columns(embeddings.labels())?;
    write_columns(embeddings, &columns).map_err(|error| error.to_string())
}

fn columns(labels: &Labels) -> Result<Columns<'_>, String> {
    let identities = labels.identities().iter();
    let identities = identities.map(|identity| identity.label()).collect();
    let mut columns = vec![("ids", Values::Integers(identities))];
    if let Some(cameras) = labels.cameras() {
        let cameras = cameras.iter().map(|camera| i64::from(camera.number()));
        columns.push(("cameras", Values::Integers(cameras.collect())));
    }
    if let Some(images) = labels.images() {
        let images = signed("images", images.iter().copied())?;
        columns.push(("images", Values::Integers(images)));
    }
    if let Some(tracks) = labels.tracks() {
        let tracks = signed("tracks", tracks.iter().map(|track| track.number()))?;
        columns.push(("tracks", Values::Integers(tracks)));
    }
    if let Some(paths) = labels.paths() {
        columns.push(("paths", Values::Texts(texts_of(paths)?)));
    }
    for name in labels.attribute_names() {
        if NAMES.contains(&name) {
            return Err(format!(
                "expected an attribute that is not called as a column is, found `{name}`"
            ));
        }
        let values = labels.attribute(name).unwrap_or_default().iter();
        let values = values.map(|value| value.as_deref().unwrap_or(""));
        columns.push((name, Values::OptionalTexts(values.collect())));
    }
    Ok(columns)
}

fn write_columns(
    embeddings: &Embeddings,
    columns: &Columns<'_>,
) -> parquet::errors::Result<Vec<u8>> {
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .build();
    let schema = schema(columns)?;
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    let (count, dimensions) = (embeddings.len(), embeddings.dimensions());
    for start in (0..count).step_by(GROUP) {
        let rows = start..(start + GROUP).min(count);
        let mut group = writer.next_row_group()?;
        let values = &embeddings.values()[rows.start * dimensions..rows.end * dimensions];
        // A value that is not the first of its row continues a list.
        let repetition: Vec<i16> = (0..values.len())
            .map(|at| i16::from(at % dimensions != 0))
            .collect();
        let definition = vec![1; values.len()];
        let levels = Some((&definition[..], Some(&repetition[..])));
        write_column::<FloatType>(&mut group, values, levels)?;
        for (_, column) in columns {
            match column {
                Values::Integers(values) => {
                    write_column::<Int64Type>(&mut group, &values[rows.clone()], None)?;
                }
                Values::Texts(texts) => {
                    let texts = byte_arrays(&texts[rows.clone()]);
                    write_column::<ByteArrayType>(&mut group, &texts, None)?;
                }
                Values::OptionalTexts(texts) => {
                    let texts = &texts[rows.clone()];
                    let known: Vec<i16> = texts
                        .iter()
                        .map(|text| i16::from(!text.is_empty()))
                        .collect();
                    let texts = texts.iter().copied().filter(|text| !text.is_empty());
                    let texts = byte_arrays(&texts.collect::<Vec<_>>());
                    write_column::<ByteArrayType>(&mut group, &texts, Some((&known, None)))?;
                }
            }
        }
        group.close()?;
    }
    writer.into_inner()
}

fn byte_arrays(texts: &[&str]) -> Vec<ByteArray> {
    texts.iter().map(|text| ByteArray::from(*text)).collect()
}

/// Definition levels and, for a list, repetition levels.
type Levels<'a> = Option<(&'a [i16], Option<&'a [i16]>)>;

fn write_column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: &[T::T],
    levels: Levels<'_>,
) -> parquet::errors::Result<()> {
    let Some(mut column) = group.next_column()? else {
        let message = "a column that the schema does not have";
        return Err(parquet::errors::ParquetError::General(message.to_owned()));
    };
    let (definition, repetition) = match levels {
        Some((definition, repetition)) => (Some(definition), repetition),
        None => (None, None),
    };
    column
        .typed::<T>()
        .write_batch(values, definition, repetition)?;
    column.close()
}

fn schema(columns: &Columns<'_>) -> parquet::errors::Result<TypePtr> {
    let element = Type::primitive_type_builder("element", PhysicalType::FLOAT)
        .with_repetition(Repetition::REQUIRED)
        .build()?;
    let list = Type::group_type_builder("list")
        .with_repetition(Repetition::REPEATED)
        .with_fields(vec![Arc::new(element)])
        .build()?;
    let features = Type::group_type_builder(FEATURES)
        .with_repetition(Repetition::REQUIRED)
        .with_logical_type(Some(LogicalType::List))
        .with_fields(vec![Arc::new(list)])
        .build()?;
    let mut fields = vec![Arc::new(features)];
    for (name, values) in columns {
        let field = match values {
            Values::Integers(_) => Type::primitive_type_builder(name, PhysicalType::INT64)
                .with_repetition(Repetition::REQUIRED),
            Values::Texts(_) => Type::primitive_type_builder(name, PhysicalType::BYTE_ARRAY)
                .with_logical_type(Some(LogicalType::String))
                .with_repetition(Repetition::REQUIRED),
            Values::OptionalTexts(_) => {
                Type::primitive_type_builder(name, PhysicalType::BYTE_ARRAY)
                    .with_logical_type(Some(LogicalType::String))
                    .with_repetition(Repetition::OPTIONAL)
            }
        };
        fields.push(Arc::new(field.build()?));
    }
    let schema = Type::group_type_builder("embeddings").with_fields(fields);
    Ok(Arc::new(schema.build()?))
}

pub(super) fn read(path: &Path) -> Result<Embeddings, FileError> {
    let bytes = fs::read(path).map_err(at(path))?;
    // Version 60 of the reader panics at some damaged metadata and pages, found by changing single bytes.
    let read = panic::catch_unwind(|| parse(bytes));
    let damaged = "expected a whole Parquet file, found a damaged one at which its reader panics";
    read.unwrap_or_else(|_| Err(damaged.to_owned()))
        .map_err(content(path))
}

fn parse(bytes: Vec<u8>) -> Result<Embeddings, String> {
    let found = bytes.len();
    let file = SerializedFileReader::new(Bytes::from(bytes))
        .map_err(|error| format!("expected a whole Parquet file, found {found} bytes: {error}"))?;
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
            "`{FEATURES}`: expected {dimensions} values in each of {rows} rows, as the first has, found \
             another number in row {row}"
        ));
    }
    let labels = table.labels(rows)?;
    Embeddings::from_parts(values, dimensions, labels)
        .map_err(|error| format!("`{FEATURES}`: {error}"))
}

/// A column of lists of values: where each row begins.
struct Column<T> {
    values: Vec<T>,
    starts: Vec<usize>,
}

struct Table {
    file: SerializedFileReader<Bytes>,
}

impl Table {
    fn labels(&self, rows: usize) -> Result<Labels, String> {
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
            if !(is_text && is_flat) || (NAMES.contains(&name) && name != "paths") {
                continue;
            }
            let texts = self.texts(index, name, rows)?;
            labels = if name == "paths" {
                let missing = |row| format!("`paths`: expected a path at row {row}, found none");
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

    /// The column of this name, or the values of the list of this name.
    fn index(&self, name: &str) -> Option<usize> {
        let columns = self.columns().iter();
        let mut named = columns.map(|column| column.path().parts().first());
        named.position(|first| first.is_some_and(|first| first == name))
    }

    fn missing(&self, name: &str) -> String {
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
            other => Err(other_type("lists of floats or doubles", &other)),
        })?;
        Ok(column)
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
                "`{name}`: expected a number at row {row}, found none"
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

    /// Reads a column, one row group after the other.
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

/// Some values of a column with their levels.
struct Batch<T> {
    values: Vec<T>,
    definition: Vec<i16>,
    repetition: Vec<i16>,
}

/// The next values of a column, or `None` at its end.
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

/// Adds the values of a column of lists, none of which is absent.
fn read_lists<T: DataType, V>(
    mut reader: ColumnReaderImpl<T>,
    convert: impl Fn(T::T) -> V,
    column: &mut Column<V>,
) -> Result<(), String> {
    while let Some(batch) = next(&mut reader)? {
        let (values, levels) = (batch.values.len(), batch.repetition.len());
        if levels != values {
            return Err(format!(
                "expected lists without absent values, found {values} values where {levels} should be"
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

/// Adds the values of a column of single values, some of which may be absent.
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
