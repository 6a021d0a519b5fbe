//! Tree: small data sets on disk, for tests.

use std::{fs, path::Path};

use reid_core::{Camera, Sample, Track};
use tempfile::TempDir;

/// A folder with these empty files.
pub(crate) fn of(files: &[&str]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for file in files {
        write(root.path(), file, "");
    }
    root
}

/// Writes one file, and the folders it lies in.
pub(crate) fn write(root: &Path, file: &str, text: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Identity and camera of each sample; 0 for none.
pub(crate) fn labels(samples: &[Sample]) -> Vec<(i64, u32)> {
    let label = |s: &Sample| (s.identity.label(), s.camera.map_or(0, Camera::number));
    samples.iter().map(label).collect()
}

/// Number of the track of each sample; 0 for none.
pub(crate) fn tracks(samples: &[Sample]) -> Vec<u64> {
    let number = |s: &Sample| s.track.map_or(0, Track::number);
    samples.iter().map(number).collect()
}
