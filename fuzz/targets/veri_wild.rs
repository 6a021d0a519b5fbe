//! Any four texts are read as the lists of VERI-Wild or rejected. Accepted lists are unchanged after writing
//! and reading, and identities are those of the paths.
#![no_main]

use std::{collections::BTreeSet, fmt::Write, sync::LazyLock};

use reid_core::Sample;
use reid_data::dataset::{TestSize, veri_wild};
use reid_fuzz::{Folder, parts};

const LISTS: [&str; 4] = [
    "train_test_split/vehicle_info.txt",
    "train_test_split/train_list.txt",
    "train_test_split/test_3000_query.txt",
    "train_test_split/test_3000.txt",
];

static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let images = ["1/1", "1/2", "2/3", "3/4", "3/5", "04/06"];
    Folder::with(images.map(|image| format!("images/{image}.jpg")))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let load = || veri_wild::load(FOLDER.path(), TestSize::Small);
    let write = |lists: [&[u8]; 4]| {
        for (name, list) in LISTS.into_iter().zip(lists) {
            FOLDER.write(name, list);
        }
    };
    write(parts(bytes));
    let Some(splits) = FOLDER.check(load()) else { return };
    let mut info = BTreeSet::new();
    let mut list = |samples: &[Sample]| {
        let mut text = String::new();
        for sample in samples {
            let mut components = sample.path.components().rev();
            let mut component = || components.next().expect("three components").as_os_str().to_str().expect("ASCII");
            let (name, vehicle) = (component(), component());
            assert_eq!(vehicle.parse(), Ok(sample.identity.label()));
            let image = name.strip_suffix(".jpg").expect("the extension");
            let camera = sample.camera.expect("a camera").number();
            info.insert(format!("{vehicle}/{image};{camera};\n"));
            writeln!(text, "{vehicle}/{image}").expect("in memory");
        }
        text
    };
    let lists = [list(&splits.train), list(&splits.query), list(&splits.gallery)];
    let [train, query, gallery] = lists.each_ref().map(String::as_bytes);
    let info = String::from("id/image;Camera ID\n") + &info.into_iter().collect::<String>();
    write([info.as_bytes(), train, query, gallery]);
    let splits = splits.with_notices(Vec::new());
    assert_eq!(load().expect("valid lists"), splits);
});
