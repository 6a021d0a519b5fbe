//! Converts between a set of embeddings and named arrays, independently of the file format.

use std::path::PathBuf;

use reid_core::{Camera, Identity, Track};

use super::tensors::Tensors;
use crate::{Embeddings, Labels};

/// A named array.
pub(super) struct Array<'a> {
    pub(super) key: String,
    pub(super) shape: Vec<usize>,
    pub(super) values: Values<'a>,
}

/// The values of an array, row by row.
pub(super) enum Values<'a> {
    Floats(&'a [f32]),
    Integers(Vec<i64>),
    Bytes(Vec<u8>),
}

/// Converts a set of embeddings to arrays whose keys start with `prefix`.
pub(super) fn from_embeddings<'a>(
    embeddings: &'a Embeddings,
    prefix: &str,
) -> Result<Vec<Array<'a>>, String> {
    let features = Array {
        key: format!("{prefix}features"),
        shape: vec![embeddings.len(), embeddings.dimensions()],
        values: Values::Floats(embeddings.values()),
    };
    let mut arrays = vec![features];
    arrays.extend(from_labels(embeddings.labels(), prefix)?);
    Ok(arrays)
}

/// Converts the labels of a set of embeddings to arrays whose keys start with `prefix`.
pub(super) fn from_labels(labels: &Labels, prefix: &str) -> Result<Vec<Array<'static>>, String> {
    let column = |part: &str, values: Vec<i64>| Array {
        key: format!("{prefix}{part}"),
        shape: vec![labels.len()],
        values: Values::Integers(values),
    };
    let identities = labels.identities().iter();
    let identities = identities.map(|identity| identity.label()).collect();
    let mut arrays = vec![column("ids", identities)];
    if let Some(cameras) = labels.cameras() {
        let cameras = cameras.iter().map(|camera| i64::from(camera.number()));
        arrays.push(column("cameras", cameras.collect()));
    }
    if let Some(images) = labels.images() {
        arrays.push(column("images", signed("images", images.iter().copied())?));
    }
    if let Some(tracks) = labels.tracks() {
        let numbers = tracks.iter().map(|track| track.number());
        arrays.push(column("tracks", signed("tracks", numbers)?));
    }
    if let Some(paths) = labels.paths() {
        let texts: Vec<&str> = texts_of(paths)?;
        arrays.extend(texts_to_arrays(&format!("{prefix}paths"), &texts)?);
    }
    for name in labels.attribute_names() {
        let values = labels.attribute(name).unwrap_or_default().iter();
        let texts: Vec<&str> = values.map(|value| value.as_deref().unwrap_or("")).collect();
        let key = format!("{prefix}attributes.{name}");
        arrays.extend(texts_to_arrays(&key, &texts)?);
    }
    Ok(arrays)
}

/// Converts paths to Unicode text.
pub(super) fn texts_of(paths: &[PathBuf]) -> Result<Vec<&str>, String> {
    let text = |(row, path): (usize, &'_ PathBuf)| {
        let found = path.display();
        format!("`paths`: expected a Unicode path at row {row}, found {found}")
    };
    let paths = paths.iter().enumerate();
    paths
        .map(|(row, path)| path.to_str().ok_or_else(|| text((row, path))))
        .collect()
}

/// Converts unsigned to signed integers.
pub(super) fn signed(key: &str, numbers: impl Iterator<Item = u64>) -> Result<Vec<i64>, String> {
    let convert = |(row, number): (usize, u64)| {
        i64::try_from(number).map_err(|_| {
            format!("`{key}`: expected an integer below 2^63 at row {row}, found {number}")
        })
    };
    numbers.enumerate().map(convert).collect()
}

pub(super) fn texts_to_arrays(key: &str, texts: &[&str]) -> Result<[Array<'static>; 2], String> {
    let mut end = 0;
    let ends = texts.iter().map(|text| {
        end += text.len() as u64;
        end
    });
    let ends = signed(&format!("{key}.ends"), ends)?;
    let utf8 = texts.concat().into_bytes();
    Ok([
        Array {
            key: format!("{key}.utf8"),
            shape: vec![utf8.len()],
            values: Values::Bytes(utf8),
        },
        Array {
            key: format!("{key}.ends"),
            shape: vec![texts.len()],
            values: Values::Integers(ends),
        },
    ])
}

/// Reads the set of embeddings whose keys start with `prefix`.
pub(super) fn to_embeddings(tensors: &impl Tensors, prefix: &str) -> Result<Embeddings, String> {
    let features = format!("{prefix}features");
    let keys = tensors.keys();
    if !keys.contains(&features) {
        return Err(other_sets(&keys).unwrap_or_else(|| tensors.missing(&features)));
    }
    let (shape, values) = tensors.floats(&features)?;
    let &[rows, dimensions] = shape.as_slice() else {
        return Err(format!(
            "`{features}`: expected the shape [images, dimensions], found {shape:?}"
        ));
    };
    let columns = Columns {
        tensors,
        keys,
        prefix,
        rows,
    };
    let labels = columns.labels()?;
    Embeddings::from_parts(values, dimensions, labels)
        .map_err(|error| format!("`{features}`: {error}"))
}

/// The error message for a file with one set where two are expected, or two where one is expected.
fn other_sets(keys: &[String]) -> Option<String> {
    let has = |key: &str| keys.iter().any(|found| found == key);
    if has("features") {
        let help = "the file holds one set of embeddings: read it with `Embeddings::load`";
        Some(help.to_owned())
    } else if has("query.features") && has("gallery.features") {
        let help = "the file holds a query and a gallery: read it with `QueryAndGallery::load`";
        Some(help.to_owned())
    } else {
        None
    }
}

/// The labels of one set among the arrays of a file.
pub(super) struct Columns<'a, T> {
    pub(super) tensors: &'a T,
    pub(super) keys: Vec<String>,
    pub(super) prefix: &'a str,
    pub(super) rows: usize,
}

impl<T: Tensors> Columns<'_, T> {
    pub(super) fn labels(&self) -> Result<Labels, String> {
        let say = |error: crate::Error| error.to_string();
        let Some(identities) = self.integers("ids")? else {
            return Err(self.tensors.missing(&self.key("ids")));
        };
        let mut labels = Labels::new(identities.into_iter().map(Identity::new).collect());
        if let Some(cameras) = self.integers("cameras")? {
            let cameras = unsigned(&self.key("cameras"), cameras)?;
            let cameras = cameras.into_iter().map(Camera::new).collect();
            labels = labels.with_cameras(cameras).map_err(say)?;
        }
        if let Some(images) = self.integers("images")? {
            let images = unsigned(&self.key("images"), images)?;
            labels = labels.with_images(images).map_err(say)?;
        }
        if let Some(tracks) = self.integers("tracks")? {
            let tracks = unsigned(&self.key("tracks"), tracks)?;
            let tracks = tracks.into_iter().map(Track::new).collect();
            labels = labels.with_tracks(tracks).map_err(say)?;
        }
        if let Some(paths) = self.texts("paths")? {
            let paths = paths.into_iter().map(PathBuf::from).collect();
            labels = labels.with_paths(paths).map_err(say)?;
        }
        let before = self.key("attributes.");
        for key in &self.keys {
            let name = key
                .strip_prefix(&before)
                .and_then(|rest| rest.strip_suffix(".ends"));
            if let Some(name) = name
                && let Some(values) = self.texts(&format!("attributes.{name}"))?
            {
                let values = values.into_iter().map(Some).collect();
                labels = labels.with_attribute(name, values).map_err(say)?;
            }
        }
        Ok(labels)
    }

    fn key(&self, part: &str) -> String {
        format!("{}{part}", self.prefix)
    }

    pub(super) fn integers(&self, part: &str) -> Result<Option<Vec<i64>>, String> {
        let key = self.key(part);
        if !self.keys.contains(&key) {
            return Ok(None);
        }
        let (shape, labels) = self.tensors.integers(&key)?;
        let rows = self.rows;
        if shape != [rows] {
            return Err(format!(
                "`{key}`: expected the shape [{rows}], one per row of features, found {shape:?}"
            ));
        }
        Ok(Some(labels))
    }

    pub(super) fn texts(&self, part: &str) -> Result<Option<Vec<String>>, String> {
        let Some(ends) = self.integers(&format!("{part}.ends"))? else {
            return Ok(None);
        };
        let (key, ends_key) = (
            self.key(&format!("{part}.utf8")),
            self.key(&format!("{part}.ends")),
        );
        let (_, bytes) = self.tensors.bytes(&key)?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            format!("`{key}`: expected UTF-8, found an invalid sequence at byte {at}")
        })?;
        let mut start = 0;
        let mut texts = Vec::with_capacity(ends.len());
        for (row, end) in ends.into_iter().enumerate() {
            let next = usize::try_from(end).ok();
            let part = next.and_then(|end| Some((end, text.get(start..end)?)));
            let Some((end, part)) = part else {
                let length = text.len();
                return Err(format!(
                    "`{ends_key}`: expected an end offset from {start} to {length}, between two characters, \
                     at row {row}, found {end}"
                ));
            };
            texts.push(part.to_owned());
            start = end;
        }
        if start != text.len() {
            let (rows, length) = (self.rows, text.len());
            return Err(format!(
                "`{key}`: expected {start} bytes, the end of the last of {rows} texts, found {length}"
            ));
        }
        Ok(Some(texts))
    }
}

/// Converts signed to unsigned integers of type `T`.
pub(super) fn unsigned<T: TryFrom<i64>>(key: &str, labels: Vec<i64>) -> Result<Vec<T>, String> {
    let convert = |(row, label): (usize, i64)| {
        T::try_from(label).map_err(|_| {
            let bits = 8 * size_of::<T>();
            format!(
                "`{key}`: expected an unsigned integer of {bits} bits at row {row}, found {label}"
            )
        })
    };
    labels.into_iter().enumerate().map(convert).collect()
}
