//! The file of a gallery: safetensors with the settings in the header and a hash of everything.

use std::{collections::HashMap, fmt::Write, fs, path::Path};

use half::f16;
use reid_core::{Camera, Identity, Track, write_atomic};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    arrays::{Array, Columns, Values, texts_to_arrays, unsigned},
    at, content,
    tensors::{Encoded, Safetensors, Tensors, encode, serialize},
};
use crate::{
    Embeddings, Labels, Threshold,
    distance::Side,
    gallery::{
        Gallery, GalleryConfig, GalleryEntry, GalleryError, GalleryStorage, ModelFingerprint,
    },
};

/// The key of the header in the metadata of the safetensors file.
const KEY: &str = "gallery";
/// The version of the format.
const VERSION: u32 = 1;

/// The metadata of a gallery file, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    /// [`Settings`] as JSON.
    settings: String,
    /// The SHA-256 of the settings and all tensors.
    sha256: String,
}

/// Everything but the tensors.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    version: u32,
    model: ModelFingerprint,
    config: GalleryConfig,
    threshold: Option<Threshold>,
}

impl Gallery {
    /// Writes the gallery to a file, with its model, its settings and its threshold.
    ///
    /// The data is written to a temporary file in the same folder, which is then renamed. So an existing file
    /// is either replaced by a complete one or, after an error or a kill, left unchanged.
    ///
    /// The file is a safetensors file with these keys, and a JSON text in its metadata:
    ///
    /// ```text
    /// features [n, d]  the embeddings                  F32, or F16 for half precision
    /// ids      [n]     identities                      I64
    /// cameras, tracks, times [n]                       I64; -1 means unknown
    /// paths.utf8 [bytes], paths.ends [n]               U8 and I64; an empty text means unknown
    /// ```
    ///
    /// # Errors
    /// [`GalleryError::File`] if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), GalleryError> {
        let path = path.as_ref();
        let bytes = self.to_bytes().map_err(content(path))?;
        Ok(write_atomic(path, bytes).map_err(at(path))?)
    }

    /// Reads a gallery of a model from a file. The whole file is read into memory.
    ///
    /// # Errors
    /// [`GalleryError::FileModel`] if the gallery was made by another model, and [`GalleryError::File`] if
    /// the file cannot be read, is truncated, was changed, or is not a gallery.
    pub fn open(path: impl AsRef<Path>, model: &ModelFingerprint) -> Result<Self, GalleryError> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(at(path))?;
        let gallery = Self::from_bytes(&bytes).map_err(content(path))?;
        if gallery.model != *model {
            return Err(GalleryError::FileModel {
                path: path.to_owned(),
                expected: model.clone(),
                found: gallery.model,
            });
        }
        Ok(gallery)
    }

    /// Parses a gallery from the bytes of a file, whatever its model.
    ///
    /// # Errors
    /// What is wrong with the content, without the name of the file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let tensors = Safetensors::new(bytes)?;
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
        let header = metadata.metadata().as_ref().and_then(|all| all.get(KEY));
        let header = header.ok_or_else(|| {
            format!("expected a gallery: a safetensors file with the metadata `{KEY}`")
        })?;
        let json = |error| format!("the metadata `{KEY}`: {error}");
        let header: Header = serde_json::from_str(header).map_err(json)?;
        let stored = tensors.keys().into_iter().map(|key| {
            let view = tensors.0.tensor(&key).map_err(|error| error.to_string())?;
            Ok((key, view.dtype(), view.shape().to_vec(), view.data()))
        });
        let stored: Vec<_> = stored.collect::<Result<_, String>>()?;
        if digest(&header.settings, &stored) != header.sha256 {
            return Err("the content is not what was written: the gallery is damaged".to_owned());
        }
        let settings: Settings = serde_json::from_str(&header.settings).map_err(json)?;
        if settings.version != VERSION {
            let found = settings.version;
            return Err(format!(
                "expected version {VERSION} of a gallery, found {found}"
            ));
        }
        parse(&tensors, settings)
    }

    fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let mut tensors: Vec<Encoded> = vec![self.features()];
        tensors.extend(self.columns()?.into_iter().map(encode));
        tensors.sort_by(|one, other| one.0.cmp(&other.0));
        let to_text = |error: serde_json::Error| error.to_string();
        let settings = Settings {
            version: VERSION,
            model: self.model.clone(),
            config: self.config,
            threshold: self.threshold,
        };
        let settings = serde_json::to_string(&settings).map_err(to_text)?;
        let sha256 = digest(&settings, &tensors);
        let header = serde_json::to_string(&Header { settings, sha256 }).map_err(to_text)?;
        serialize(&tensors, Some(HashMap::from([(KEY.to_owned(), header)])))
    }

    fn features(&self) -> Encoded {
        let values = self.side.as_ref().map_or(&[][..], Side::values);
        let shape = vec![self.entries.len(), self.dimensions().unwrap_or(0)];
        let (dtype, bytes) = match self.config.storage {
            GalleryStorage::Single => {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes());
                (Dtype::F32, bytes.collect())
            }
            GalleryStorage::Half => {
                let halves = values.iter().map(|value| f16::from_f32(*value));
                (Dtype::F16, halves.flat_map(f16::to_le_bytes).collect())
            }
        };
        ("features".to_owned(), dtype, shape, bytes)
    }

    fn columns(&self) -> Result<Vec<Array<'static>>, String> {
        let column = |key: &str, value: &dyn Fn(&GalleryEntry) -> Option<u64>| {
            // Larger numbers are rejected when they are enrolled.
            let number = |entry| value(entry).map_or(Some(-1), |value| i64::try_from(value).ok());
            let numbers: Option<Vec<i64>> = self.entries.iter().map(number).collect();
            Ok::<_, String>(Array {
                key: key.to_owned(),
                shape: vec![self.entries.len()],
                values: Values::Integers(
                    numbers.ok_or_else(|| format!("`{key}`: expected numbers below 2^63"))?,
                ),
            })
        };
        let identities = self.entries.iter().map(|entry| entry.identity.label());
        let path = |entry: &'_ GalleryEntry| {
            let path = entry.path.as_deref().unwrap_or(Path::new(""));
            let text = path.to_str().map(str::to_owned);
            text.ok_or_else(|| format!("`paths`: expected Unicode, found {}", path.display()))
        };
        let paths: Vec<String> = self.entries.iter().map(path).collect::<Result<_, _>>()?;
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let mut columns = vec![
            Array {
                key: "ids".to_owned(),
                shape: vec![self.entries.len()],
                values: Values::Integers(identities.collect()),
            },
            column("cameras", &|entry| Some(entry.camera?.number().into()))?,
            column("tracks", &|entry| Some(entry.track?.number()))?,
            column("times", &|entry| entry.time)?,
        ];
        columns.extend(texts_to_arrays("paths", &paths)?);
        Ok(columns)
    }
}

/// Converts the tensors of a file whose hash is right.
fn parse(tensors: &Safetensors<'_>, settings: Settings) -> Result<Gallery, String> {
    let (shape, values) = tensors.floats("features")?;
    let &[rows, dimensions] = shape.as_slice() else {
        return Err(format!(
            "`features`: expected the shape [entries, dimensions], found {shape:?}"
        ));
    };
    let side = if (rows, dimensions) == (0, 0) {
        None
    } else {
        let embeddings = Embeddings::from_parts(values, dimensions, Labels::unknown(rows));
        let embeddings = embeddings.map_err(|error| format!("`features`: {error}"))?;
        Some(Side::new(&embeddings, settings.config.metric).owned())
    };
    let columns = Columns {
        tensors,
        keys: tensors.keys(),
        prefix: "",
        rows,
    };
    Ok(Gallery {
        model: settings.model,
        config: settings.config,
        threshold: settings.threshold,
        entries: entries(&columns)?,
        side,
    })
}

fn entries(columns: &Columns<'_, Safetensors<'_>>) -> Result<Vec<GalleryEntry>, String> {
    let numbers = |key: &str| {
        let found = columns.integers(key)?;
        found.ok_or_else(|| columns.tensors.missing(key))
    };
    let paths = columns.texts("paths")?;
    let paths = paths.ok_or_else(|| columns.tensors.missing("paths.ends"))?;
    let mut entries: Vec<GalleryEntry> = Vec::with_capacity(columns.rows);
    for (identity, path) in numbers("ids")?.into_iter().zip(paths) {
        let mut entry = GalleryEntry::new(Identity::new(identity));
        entry.path = (!path.is_empty()).then(|| path.into());
        entries.push(entry);
    }
    let cameras = optional::<u32>("cameras", numbers("cameras")?)?;
    let tracks = optional::<u64>("tracks", numbers("tracks")?)?;
    let times = optional::<u64>("times", numbers("times")?)?;
    for (row, entry) in entries.iter_mut().enumerate() {
        entry.camera = cameras[row].map(Camera::new);
        entry.track = tracks[row].map(Track::new);
        entry.time = times[row];
        entry.check(row).map_err(|error| error.to_string())?;
    }
    Ok(entries)
}

/// Converts integers to unsigned ones; -1 means unknown.
fn optional<T: TryFrom<i64>>(key: &str, numbers: Vec<i64>) -> Result<Vec<Option<T>>, String> {
    let known: Vec<bool> = numbers.iter().map(|number| *number != -1).collect();
    let positive = numbers
        .into_iter()
        .map(|number| if number == -1 { 0 } else { number });
    let positive: Vec<T> = unsigned(key, positive.collect())?;
    let pairs = positive.into_iter().zip(known);
    Ok(pairs
        .map(|(number, known)| known.then_some(number))
        .collect())
}

/// The SHA-256 of the settings and of all tensors, which are sorted by key, in hexadecimal digits.
fn digest<B: AsRef<[u8]>>(settings: &str, tensors: &[(String, Dtype, Vec<usize>, B)]) -> String {
    let mut hash = Sha256::new();
    // Each part follows its length, so that two different contents cannot have the same bytes.
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(settings.as_bytes());
    for (key, dtype, shape, bytes) in tensors {
        add(format!("{key} {dtype} {shape:?}").as_bytes());
        add(bytes.as_ref());
    }
    let mut text = String::new();
    for byte in hash.finalize() {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
