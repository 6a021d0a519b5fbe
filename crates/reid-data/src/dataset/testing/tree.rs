//! Small datasets on disk, for tests.

use std::{fs, path::Path};

use reid_core::{Camera, Sample, Track};
use tempfile::TempDir;

/// Creates a temporary folder with these empty files.
pub(crate) fn with_files(files: &[&str]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for file in files {
        write(root.path(), file, "");
    }
    root
}

/// Writes one file and creates its parent folders.
pub(crate) fn write(root: &Path, file: &str, text: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The identity and the camera of each sample; camera 0 stands for `None`.
pub(crate) fn labels(samples: &[Sample]) -> Vec<(i64, u32)> {
    let label = |s: &Sample| (s.identity.label(), s.camera.map_or(0, Camera::number));
    samples.iter().map(label).collect()
}

/// The track number of each sample; 0 stands for `None`.
pub(crate) fn tracks(samples: &[Sample]) -> Vec<u64> {
    let number = |s: &Sample| s.track.map_or(0, Track::number);
    samples.iter().map(number).collect()
}
