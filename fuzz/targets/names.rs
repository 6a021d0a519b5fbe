//! Any image names are read in the layout of Market-1501, DukeMTMC-reID, CUHK03 or VeRi-776, or rejected.
//! Identity and camera are those of the name.
#![no_main]

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use reid_core::{Camera, Sample};
use reid_data::dataset::{cuhk03, dukemtmc, market1501, veri776};
use reid_fuzz::Folder;

const MARKET: [&str; 3] = ["bounding_box_train", "query", "bounding_box_test"];
const VERI: [&str; 3] = ["image_train", "image_query", "image_test"];

static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let folder = Folder::with([] as [&str; 0]);
    let detected = MARKET.map(|folder| format!("detected/{folder}"));
    for name in MARKET.into_iter().chain(VERI).chain(detected.iter().map(String::as_str)) {
        fs::create_dir_all(folder.path().join(name)).expect("a folder to write to");
    }
    folder
});

// The first byte selects the layout. Each line is an image name; its first byte selects the split.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&layout, names)) = bytes.split_first() else { return };
    let root = FOLDER.path();
    let (parent, folders) = match layout % 4 {
        0 | 1 => (root.to_owned(), MARKET),
        2 => (root.join("detected"), MARKET),
        _ => (root.to_owned(), VERI),
    };
    let written: Vec<PathBuf> =
        names.split(|byte| *byte == b'\n').take(8).filter_map(|name| write(&parent, folders, name)).collect();
    let splits = match layout % 4 {
        0 => market1501::load(root),
        1 => dukemtmc::load(root),
        2 => cuhk03::load(root, cuhk03::Boxes::Detected),
        _ => veri776::load(root),
    };
    if let Some(splits) = FOLDER.check(splits) {
        splits.train.iter().chain(&splits.query).chain(&splits.gallery).for_each(check);
    }
    for path in written {
        // The same name may be listed twice.
        let _ = fs::remove_file(path);
    }
});

/// Creates an empty file with this name; `None` if the name is not possible.
fn write(parent: &Path, folders: [&str; 3], name: &[u8]) -> Option<PathBuf> {
    let (&split, name) = name.split_first()?;
    let folder = parent.join(folders[usize::from(split) % 3]);
    if name.contains(&b'/') {
        return None;
    }
    let path = folder.join(OsStr::from_bytes(name));
    fs::write(&path, "").ok().map(|()| path)
}

/// Checks that identity and camera are the numbers at the beginning of the first two fields of the name.
fn check(sample: &Sample) {
    let name = sample.path.file_name().expect("a file name").to_str().expect("UTF-8");
    let (identity, rest) = name.split_once("_c").expect("both fields");
    assert_eq!(identity.parse(), Ok(sample.identity.label()), "{name}");
    let camera = rest.split(|digit: char| !digit.is_ascii_digit()).next().expect("a first part");
    assert_eq!(camera.parse().ok().map(Camera::new), sample.camera, "{name}");
}
