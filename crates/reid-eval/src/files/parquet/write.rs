//! Writes embeddings to a Parquet table.

use std::{io::Write, sync::Arc};

use ::parquet::{
    basic::{LogicalType, Repetition, Type as PhysicalType},
    data_type::{
        ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, FloatType,
        Int64Type,
    },
    errors::{ParquetError, Result as ParquetResult},
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties},
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::types::{Type, TypePtr},
};
use bytes::Bytes;

use super::{FEATURES, NAMES};
use crate::{
    Embeddings, Labels,
    files::{
        arrays::{signed, texts_of},
        tensors::half_bytes,
    },
    gallery::GalleryStorage,
};

/// The number of rows in a row group.
const GROUP: usize = 1 << 14;
type Columns<'a> = Vec<(&'a str, Values<'a>)>;

/// A column to write, with one value per row.
enum Values<'a> {
    Integers(Vec<i64>),
    Texts(Vec<&'a str>),
    /// An empty text is written as null.
    OptionalTexts(Vec<&'a str>),
}

/// Encodes embeddings with their labels as the bytes of a Parquet file.
pub(in crate::files) fn write(embeddings: &Embeddings) -> Result<Vec<u8>, String> {
    if embeddings.is_empty() {
        return Err("a `.parquet` file needs at least 1 image, found none".to_owned());
    }
    let dimensions = embeddings.dimensions();
    let shape = (dimensions, GalleryStorage::Single);
    let mut table = Table::new(Vec::new(), embeddings.labels(), shape, &[])?;
    for values in embeddings.values().chunks(GROUP * dimensions) {
        table.push(values)?;
    }
    table.finish()
}

/// A Parquet table that is written one row group at a time, so that the embeddings need not be in memory.
pub(in crate::files) struct Table<'a, W: Write + Send> {
    writer: SerializedFileWriter<W>,
    columns: Columns<'a>,
    dimensions: usize,
    storage: GalleryStorage,
    /// The number of rows so far.
    rows: usize,
}

impl<'a, W: Write + Send> Table<'a, W> {
    /// Begins a table with the labels of all its rows. `metadata` are texts by name.
    pub(in crate::files) fn new(
        output: W,
        labels: &'a Labels,
        (dimensions, storage): (usize, GalleryStorage),
        metadata: &[(&str, String)],
    ) -> Result<Self, String> {
        let columns = columns(labels)?;
        let metadata = metadata.iter();
        let metadata = metadata.map(|(key, text)| KeyValue::new((*key).to_owned(), text.clone()));
        let metadata: Vec<KeyValue> = metadata.collect();
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_key_value_metadata((!metadata.is_empty()).then_some(metadata))
            .build();
        let writer = schema(&columns, storage)
            .and_then(|schema| SerializedFileWriter::new(output, schema, Arc::new(properties)));
        Ok(Self {
            writer: writer.map_err(|error| error.to_string())?,
            columns,
            dimensions,
            storage,
            rows: 0,
        })
    }

    /// Writes the embeddings of the next rows as one row group.
    pub(in crate::files) fn push(&mut self, values: &[f32]) -> Result<(), String> {
        self.push_group(values).map_err(|error| error.to_string())
    }

    fn push_group(&mut self, values: &[f32]) -> ParquetResult<()> {
        let rows = self.rows..self.rows + values.len() / self.dimensions;
        self.rows = rows.end;
        let mut group = self.writer.next_row_group()?;
        // Repetition level 0 begins the list of a row, level 1 continues it.
        let repetition: Vec<i16> = (0..values.len())
            .map(|at| i16::from(at % self.dimensions != 0))
            .collect();
        let definition = vec![1; values.len()];
        let levels = Some((&definition[..], Some(&repetition[..])));
        match self.storage {
            GalleryStorage::Single => write_column::<FloatType, W>(&mut group, values, levels)?,
            GalleryStorage::Half => {
                let values = halves(values);
                write_column::<FixedLenByteArrayType, W>(&mut group, &values, levels)?;
            }
        }
        for (_, column) in &self.columns {
            match column {
                Values::Integers(values) => {
                    write_column::<Int64Type, W>(&mut group, &values[rows.clone()], None)?;
                }
                Values::Texts(texts) => {
                    let texts = byte_arrays(&texts[rows.clone()]);
                    write_column::<ByteArrayType, W>(&mut group, &texts, None)?;
                }
                Values::OptionalTexts(texts) => {
                    let texts = &texts[rows.clone()];
                    let known: Vec<i16> = texts
                        .iter()
                        .map(|text| i16::from(!text.is_empty()))
                        .collect();
                    let texts = texts.iter().copied().filter(|text| !text.is_empty());
                    let texts = byte_arrays(&texts.collect::<Vec<_>>());
                    write_column::<ByteArrayType, W>(&mut group, &texts, Some((&known, None)))?;
                }
            }
        }
        group.close()?;
        Ok(())
    }

    /// Writes the end of the table, and returns the output.
    pub(in crate::files) fn finish(self) -> Result<W, String> {
        self.writer.into_inner().map_err(|error| error.to_string())
    }
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
                "the attribute `{name}` has the name of a label column, expected another name"
            ));
        }
        let values = labels.attribute(name).unwrap_or_default().iter();
        let values = values.map(|value| value.as_deref().unwrap_or(""));
        columns.push((name, Values::OptionalTexts(values.collect())));
    }
    Ok(columns)
}

/// Values in half precision, as slices of one buffer.
fn halves(values: &[f32]) -> Vec<FixedLenByteArray> {
    let bytes = Bytes::from(half_bytes(values));
    let halves = (0..bytes.len()).step_by(2);
    halves
        .map(|at| ByteArray::from(bytes.slice(at..at + 2)).into())
        .collect()
}

fn byte_arrays(texts: &[&str]) -> Vec<ByteArray> {
    texts.iter().map(|text| ByteArray::from(*text)).collect()
}

/// Definition levels and, for a list, repetition levels.
type Levels<'a> = Option<(&'a [i16], Option<&'a [i16]>)>;

fn write_column<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[T::T],
    levels: Levels<'_>,
) -> ParquetResult<()> {
    let Some(mut column) = group.next_column()? else {
        let message = "there are more columns than in the schema";
        return Err(ParquetError::General(message.to_owned()));
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

fn schema(columns: &Columns<'_>, storage: GalleryStorage) -> ParquetResult<TypePtr> {
    let element = match storage {
        GalleryStorage::Single => Type::primitive_type_builder("element", PhysicalType::FLOAT),
        GalleryStorage::Half => {
            Type::primitive_type_builder("element", PhysicalType::FIXED_LEN_BYTE_ARRAY)
                .with_length(2)
                .with_logical_type(Some(LogicalType::Float16))
        }
    };
    let element = element.with_repetition(Repetition::REQUIRED).build()?;
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
