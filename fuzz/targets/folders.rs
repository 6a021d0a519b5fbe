//! Any folder names are read as identities or rejected. The same name is the same identity in every split,
//! and different plain names are different identities.
#![no_main]

use std::{
    collections::HashMap, ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::PathBuf, sync::LazyLock,
};

use reid_data::dataset::folder;
use reid_fuzz::Folder;

const SPLITS: [&str; 3] = ["train", "query", "gallery"];

static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let folder = Folder::with([] as [&str; 0]);
    for split in SPLITS {
        fs::create_dir(folder.path().join(split)).expect("a folder to write to");
    }
    folder
});

// Each line is a folder with one image. The first byte of a line selects the split.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let written: Vec<PathBuf> =
        bytes.split(|byte| *byte == b'\n').take(8).filter_map(write).collect();
    if let Some(splits) = FOLDER.check(folder::load(FOLDER.path())) {
        let (mut identities, mut names) = (HashMap::new(), HashMap::new());
        for sample in splits.train.iter().chain(&splits.query).chain(&splits.gallery) {
            let name = sample.path.parent().and_then(|parent| parent.file_name()).expect("a folder name");
            let known = *identities.entry(name).or_insert(sample.identity);
            assert_eq!(known, sample.identity, "{name:?}");
            let plain = name.as_bytes().iter().all(u8::is_ascii_alphanumeric);
            if plain {
                assert_eq!(*names.entry(sample.identity).or_insert(name), name);
            }
        }
    }
    for path in written {
        // The same folder may be listed twice.
        let _ = fs::remove_dir_all(path);
    }
});

/// Creates a folder with this name and an image in it; `None` if the name is not possible.
fn write(name: &[u8]) -> Option<PathBuf> {
    let (&split, name) = name.split_first()?;
    if name.contains(&b'/') || name.is_empty() || name.iter().all(|byte| *byte == b'.') {
        return None;
    }
    let path = FOLDER.path().join(SPLITS[usize::from(split) % 3]).join(OsStr::from_bytes(name));
    fs::create_dir(&path).ok()?;
    fs::write(path.join("1.jpg"), "").ok()?;
    Some(path)
}
