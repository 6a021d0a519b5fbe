//! Any bytes are a CSV list or are refused; what is accepted is the same when it is written again.
#![no_main]

use std::sync::LazyLock;

use reid_core::{Sample, Split, Splits};
use reid_data::dataset::csv;
use reid_fuzz::Folder;

static FOLDER: LazyLock<Folder> =
    LazyLock::new(|| Folder::with(["1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"]));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let list = FOLDER.write("index.csv", bytes);
    let Some(splits) = FOLDER.check(csv::load(&list)) else { return };
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer.write_record(["camera", "identity", "path", "split"]).expect("in memory");
    for split in [Split::Train, Split::Query, Split::Gallery] {
        for Sample { path, identity, camera, .. } in splits.samples(split) {
            let camera = camera.map(|camera| camera.number().to_string());
            let path = path.strip_prefix(FOLDER.path()).expect("inside");
            let path = path.to_str().expect("a name that a list gave");
            let fields =
                [&camera.unwrap_or_default(), &identity.to_string(), path, &split.to_string()];
            writer.write_record(fields).expect("in memory");
        }
    }
    FOLDER.write("index.csv", &writer.into_inner().expect("in memory"));
    let splits = Splits { notices: Vec::new(), ..splits };
    assert_eq!(csv::load(&list).expect("written by a program"), splits);
});
