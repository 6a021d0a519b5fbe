//! Any bytes are read as a CSV list or rejected. An accepted list is unchanged after writing and reading.
#![no_main]

use std::{collections::BTreeSet, sync::LazyLock};

use reid_core::{Sample, Split};
use reid_data::dataset::csv;
use reid_fuzz::Folder;

static FOLDER: LazyLock<Folder> =
    LazyLock::new(|| Folder::with(["1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"]));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let list = FOLDER.write("index.csv", bytes);
    let Some(splits) = FOLDER.check(csv::load(&list)) else { return };
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    let all = [&splits.train, &splits.query, &splits.gallery].into_iter().flatten();
    let names: BTreeSet<&String> = all.flat_map(|sample| sample.attributes.keys()).collect();
    let header = ["camera", "identity", "path", "split"].into_iter();
    writer.write_record(header.chain(names.iter().map(|name| name.as_str()))).expect("in memory");
    for split in [Split::Train, Split::Query, Split::Gallery] {
        for Sample { path, identity, camera, attributes, .. } in splits.samples(split) {
            let camera = camera.map(|camera| camera.number().to_string());
            let path = path.strip_prefix(FOLDER.path()).expect("inside");
            let path = path.to_str().expect("a name from the list");
            let (camera, identity) = (camera.unwrap_or_default(), identity.to_string());
            let split = split.to_string();
            let values = names.iter().map(|&name| attributes.get(name).map_or("", String::as_str));
            let fields = [camera.as_str(), &identity, path, &split].into_iter();
            writer.write_record(fields.chain(values)).expect("in memory");
        }
    }
    FOLDER.write("index.csv", &writer.into_inner().expect("in memory"));
    let again = csv::load(&list).expect("a valid list");
    assert_eq!(again.with_notices(Vec::new()), splits.with_notices(Vec::new()));
});
