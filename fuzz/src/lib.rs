//! Code shared by the fuzz targets: a dataset folder in memory, and checks of everything that is accepted.

#[cfg(feature = "networks")]
pub mod networks;
pub mod pytorch;

use std::{
    collections::{HashMap, HashSet},
    fmt::Display,
    fs,
    io::{Cursor, Write},
    path::{Path, PathBuf},
    sync::LazyLock,
};

use image::ImageFormat;
use libfuzzer_sys::Corpus;
use npyz::{AutoSerialize, WriteOptions, WriterBuilder};
use reid_core::{Identity, Sample, Splits};
use reid_data::{MAX_PIXELS, dimensions, image_from_bytes};
use reid_eval::{Embeddings, files::QueryAndGallery};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// A dataset folder, created once per target. `TMPDIR` should be in memory.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Creates a folder with these files, all empty.
    pub fn with<I: IntoIterator>(files: I) -> Self
    where
        I::Item: AsRef<Path>,
    {
        let root = tempfile::tempdir().expect("a folder to write to").keep();
        let folder = Self(root);
        for file in files {
            folder.write(file, b"");
        }
        folder
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file and creates missing parent folders.
    pub fn write(&self, file: impl AsRef<Path>, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(file);
        if fs::write(&path, bytes).is_err() {
            fs::create_dir_all(path.parent().expect("a parent folder")).expect("a folder to write to");
            fs::write(&path, bytes).expect("a file to write to");
        }
        path
    }

    /// Checks the invariants of an accepted dataset, or the error message of a rejected one.
    pub fn check<E: Display>(&self, splits: Result<Splits, E>) -> Option<Splits> {
        let splits = self.names(splits)?;
        let [train, query, gallery] = [&splits.train, &splits.query, &splits.gallery];
        for samples in [train, query, gallery] {
            assert!(!samples.is_empty(), "a split is empty");
            self.check_samples(samples);
        }
        let identities: HashSet<Identity> = train.iter().map(|sample| sample.identity).collect();
        assert!(identities.len() > 1, "the train split has fewer than two identities");
        let by_path = |samples: &[Sample]| -> HashMap<PathBuf, Sample> {
            samples.iter().map(|sample| (sample.path.clone(), sample.clone())).collect()
        };
        let (queries, gallery) = (by_path(query), by_path(gallery));
        for Sample { path, .. } in train {
            assert!(!queries.contains_key(path) && !gallery.contains_key(path), "{path:?} is in two splits");
        }
        for (path, query) in &queries {
            let same = gallery.get(path).is_none_or(|image| {
                (image.identity, image.camera) == (query.identity, query.camera)
            });
            assert!(same, "{path:?} has different labels as query and in the gallery");
        }
        Some(splits)
    }

    /// Checks the invariants of a list of samples.
    pub fn check_samples(&self, samples: &[Sample]) {
        for sample in samples {
            assert!(sample.identity.label() >= 0, "junk was not skipped: {sample:?}");
            assert!(sample.path.is_file(), "the file does not exist: {sample:?}");
            assert!(sample.path.starts_with(&self.0), "the file is outside the folder: {sample:?}");
        }
        let paths: HashSet<&Path> = samples.iter().map(|sample| &*sample.path).collect();
        assert_eq!(paths.len(), samples.len(), "duplicate images in {samples:?}");
    }

    /// Returns the value, or checks that the error message names a file of this folder.
    pub fn names<T, E: Display>(&self, read: Result<T, E>) -> Option<T> {
        let message = match read {
            Ok(value) => return Some(value),
            Err(error) => error.to_string(),
        };
        let root = self.0.display().to_string();
        assert!(message.contains(&root), "the message names no file: {message}");
        None
    }
}

/// Splits an input for several files at its zero bytes. Missing parts are empty.
pub fn parts<const N: usize>(bytes: &[u8]) -> [&[u8]; N] {
    let mut parts = bytes.splitn(N, |byte| *byte == 0);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// Checks accepted embeddings: finite values, and as many labels as vectors.
pub fn check_embeddings(read: Result<QueryAndGallery, impl Display>) {
    let Ok(QueryAndGallery { query, gallery }) = read else { return };
    check_set(&query);
    check_set(&gallery);
}

/// Checks one set of embeddings: finite, and as many labels as vectors.
pub fn check_set(set: &Embeddings) {
    assert!(set.values().iter().all(|value| value.is_finite()));
    assert_eq!(set.values().len(), set.len() * set.dimensions());
    assert_eq!(set.identities().len(), set.len());
    assert!(set.cameras().is_none_or(|cameras| cameras.len() == set.len()));
    assert!(set.images().is_none_or(|images| images.len() == set.len()));
}

/// Images with more pixels than this are decoded only occasionally.
const MANY: u64 = 1 << 14;

/// Checks an image file that begins with one of these signatures. Other inputs are skipped.
pub fn check_picture(bytes: &[u8], starts: &[&[u8]]) -> Corpus {
    static FOLDER: LazyLock<Folder> = LazyLock::new(|| Folder::with([] as [&str; 0]));
    if !starts.iter().any(|start| bytes.starts_with(start)) {
        return Corpus::Reject;
    }
    let path = FOLDER.write("picture", bytes);
    let declared = FOLDER.names(dimensions(&path));
    let (width, height) = declared.unwrap_or((1, 1));
    let pixels = u64::from(width) * u64::from(height);
    assert!((1..=MAX_PIXELS).contains(&pixels), "{width} x {height}");
    let pixels = pixels.max(frame_of_gif(bytes));
    // A few bytes can encode an image of a hundred million pixels, and decoding it takes seconds.
    if pixels > MANY && !bytes.len().is_multiple_of(509) {
        return Corpus::Reject;
    }
    let Some(picture) = FOLDER.names(image_from_bytes(bytes, &path)) else { return Corpus::Keep };
    assert_eq!(declared, Some(picture.dimensions()));
    if pixels > MANY {
        return Corpus::Reject;
    }
    assert_eq!(image_from_bytes(bytes, &path).expect("decoded before"), picture);
    let mut again = Cursor::new(Vec::new());
    picture.write_to(&mut again, ImageFormat::Bmp).expect("in memory");
    assert_eq!(image_from_bytes(&again.into_inner(), &path).expect("a valid file"), picture);
    Corpus::Keep
}

/// The number of pixels of the first frame of a GIF, which may be larger than the image; 0 for other formats.
fn frame_of_gif(bytes: &[u8]) -> u64 {
    let Ok(mut decoder) = gif::DecodeOptions::new().read_info(bytes) else { return 0 };
    match decoder.next_frame_info() {
        Ok(Some(frame)) => u64::from(frame.width) * u64::from(frame.height),
        _ => 0,
    }
}

/// The arrays of a folder of embeddings, as (name, content): two query images, then two gallery images.
pub fn arrays() -> Vec<(String, Vec<u8>)> {
    let side = |side: &str| {
        let array = |name: &str, bytes| (format!("{side}.{name}.npy"), bytes);
        [
            array("features", npy([2, 2], [1.0_f32, 2.0, 3.0, 4.0])),
            array("ids", npy([2], [1_i64, 2])),
            array("cameras", npy([2], [1_i32, 2])),
            array("images", npy([2], [7_i64, 8])),
        ]
    };
    ["query", "gallery"].into_iter().flat_map(side).collect()
}

/// Encodes an array in NumPy's format.
pub fn npy<T: AutoSerialize, const D: usize>(shape: [u64; D], values: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = WriteOptions::new()
        .default_dtype()
        .shape(&shape)
        .writer(&mut bytes)
        .begin_nd()
        .expect("in memory");
    writer.extend(values).expect("in memory");
    writer.finish().expect("in memory");
    bytes
}

/// Packs files into a ZIP archive, deflated or stored.
pub fn archive<N: AsRef<str>>(files: &[(N, Vec<u8>)], deflated: bool) -> Vec<u8> {
    let method = if deflated { CompressionMethod::Deflated } else { CompressionMethod::Stored };
    let options = SimpleFileOptions::default().compression_method(method);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        archive.start_file(name.as_ref(), options).expect("in memory");
        archive.write_all(bytes).expect("in memory");
    }
    archive.finish().expect("in memory").into_inner()
}
