//! Writes embeddings to a Parquet table.

use std::sync::Arc;

use ::parquet::{
    basic::{LogicalType, Repetition, Type as PhysicalType},
    data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int64Type},
    file::{
        properties::{EnabledStatistics, WriterProperties},
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::types::{Type, TypePtr},
};

use super::{FEATURES, NAMES};
use crate::{
    Embeddings, Labels,
    files::arrays::{signed, texts_of},
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
                "the attribute `{name}` has the name of a label column, expected another name"
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
) -> ::parquet::errors::Result<Vec<u8>> {
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
        // Repetition level 0 begins the list of a row, level 1 continues it.
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
) -> ::parquet::errors::Result<()> {
    let Some(mut column) = group.next_column()? else {
        let message = "there are more columns than in the schema";
        return Err(::parquet::errors::ParquetError::General(message.to_owned()));
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

fn schema(columns: &Columns<'_>) -> ::parquet::errors::Result<TypePtr> {
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
