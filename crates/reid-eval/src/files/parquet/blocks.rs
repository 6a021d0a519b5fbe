//! The embeddings of a Parquet table, one row group at a time.

use std::{fs::File, ops::Range, path::Path, sync::Arc};

use ::parquet::{
    basic::Encoding,
    column::page::{Page, PageReader},
    file::{
        metadata::ParquetMetaData,
        reader::{FileReader, SerializedFileReader, SerializedPageReader},
    },
};

use super::{
    FEATURES,
    read::{Table, without_panic},
};
use crate::{Labels, gallery::GalleryStorage};

/// A table that [`Table`](super::write::Table) wrote: lists of the same length without nulls, whose values are
/// stored one after another in each page. The values are read without their levels.
///
/// The file is opened for each row group, so that a thousand tables do not need a thousand open files.
pub(in crate::files) struct Blocks {
    metadata: ParquetMetaData,
    /// The index of the column of embeddings.
    column: usize,
    storage: GalleryStorage,
    /// The rows of each row group.
    rows: Vec<Range<usize>>,
}

impl Blocks {
    /// Reads the end of a table, which describes its row groups. Checks that there are `dimensions` values for each
    /// row.
    pub(in crate::files) fn open(path: &Path, dimensions: usize) -> Result<Self, String> {
        without_panic(|| {
            let table = table(path)?;
            let column = table
                .index(FEATURES)
                .ok_or_else(|| table.missing(FEATURES))?;
            let storage = if table.is_half(column) {
                GalleryStorage::Half
            } else {
                GalleryStorage::Single
            };
            let metadata = table.file.metadata().clone();
            let mut end = 0;
            let mut rows = Vec::with_capacity(metadata.num_row_groups());
            for group in metadata.row_groups() {
                let count = |rows: i64| usize::try_from(rows).map_err(|error| error.to_string());
                let (images, values) = (
                    count(group.num_rows())?,
                    count(group.column(column).num_values())?,
                );
                if images.checked_mul(dimensions) != Some(values) {
                    return Err(format!(
                        "`{FEATURES}`: expected {dimensions} values in each of {images} rows, found {values} \
                         in all of them"
                    ));
                }
                rows.push(end..end + images);
                end += images;
            }
            Ok(Self {
                metadata,
                column,
                storage,
                rows,
            })
        })
    }

    /// The rows of each block.
    pub(in crate::files) fn rows(&self) -> &[Range<usize>] {
        &self.rows
    }

    /// The precision of the values.
    pub(in crate::files) fn storage(&self) -> GalleryStorage {
        self.storage
    }

    /// Reads the little-endian bytes of the values of a block.
    pub(in crate::files) fn read(&self, path: &Path, block: usize) -> Result<Vec<u8>, String> {
        without_panic(|| {
            let file = File::open(path).map_err(|error| error.to_string())?;
            let group = self.metadata.row_group(block);
            let (column, rows) = (group.column(self.column), self.rows[block].len());
            let say = |error: ::parquet::errors::ParquetError| error.to_string();
            let pages = SerializedPageReader::new(Arc::new(file), column, rows, None);
            let mut pages = pages.map_err(say)?;
            let mut bytes = Vec::new();
            while let Some(page) = pages.get_next_page().map_err(say)? {
                bytes.extend_from_slice(values(&page)?);
            }
            Ok(bytes)
        })
    }
}

/// Reads the labels of a table of `rows` rows, see [`Table::labels`].
pub(in crate::files) fn labels(
    path: &Path,
    rows: usize,
    accepts: impl Fn(&str) -> bool,
) -> Result<Labels, String> {
    without_panic(|| table(path)?.labels(rows, accepts))
}

fn table(path: &Path) -> Result<Table<File>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let file = SerializedFileReader::new(file)
        .map_err(|error| format!("expected a complete Parquet file: {error}"))?;
    Ok(Table { file })
}

/// The values of a page without their levels.
fn values(page: &Page) -> Result<&[u8], String> {
    let other = || format!("`{FEATURES}`: expected pages that this library wrote, found others");
    let Page::DataPage {
        buf,
        encoding: Encoding::PLAIN,
        def_level_encoding: Encoding::RLE,
        rep_level_encoding: Encoding::RLE,
        ..
    } = page
    else {
        return Err(other());
    };
    // The repetition levels and the definition levels, each after its length.
    let mut rest: &[u8] = buf;
    for _ in 0..2 {
        let (length, after) = rest.split_first_chunk().ok_or_else(other)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| other())?;
        rest = after.get(length..).ok_or_else(other)?;
    }
    Ok(rest)
}
