//! Any four texts are read as the lists of MSMT17 or rejected. Accepted lists are unchanged after writing and
//! reading.
#![no_main]

use std::{fmt::Write, sync::LazyLock};

use reid_core::Sample;
use reid_data::dataset::msmt17::{self, Training};
use reid_fuzz::{Folder, parts};

const LISTS: [&str; 4] = ["list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt"];

static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let names = ["0/0_0_1_m.jpg", "0/0_1_2_m.jpg", "1/1_0_1_m.jpg", "1/1_1_15_m.jpg"];
    Folder::with(names.iter().flat_map(|name| [format!("train/{name}"), format!("test/{name}")]))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let load = || msmt17::load(FOLDER.path(), Training::WithValidation);
    let write = |lists: [&[u8]; 4]| {
        for (name, list) in LISTS.into_iter().zip(lists) {
            FOLDER.write(name, list);
        }
    };
    write(parts(bytes));
    let Some(splits) = FOLDER.check(load()) else { return };
    let list = |samples: &[Sample], first: i64| {
        let mut text = String::new();
        for sample in samples {
            let mut components = sample.path.components().rev();
            let mut component = || components.next().expect("three components").as_os_str().to_str().expect("ASCII");
            let (name, folder) = (component(), component());
            let camera = name.split('_').nth(2).expect("a camera field").parse().ok();
            assert_eq!(sample.camera.map(reid_core::Camera::number), camera);
            let person = sample.identity.label() - first;
            writeln!(text, "{folder}/{name} {person}").expect("in memory");
        }
        text
    };
    let labels = splits.train.iter().map(|sample| sample.identity.label());
    let first = 1 + labels.max().expect("a train split");
    let lists = [list(&splits.train, 1), list(&splits.query, first), list(&splits.gallery, first)];
    let [train, query, gallery] = lists.each_ref().map(String::as_bytes);
    write([train, b"", query, gallery]);
    let splits = splits.with_notices(Vec::new());
    assert_eq!(load().expect("valid lists"), splits);
});
