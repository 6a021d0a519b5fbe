//! Any two texts are read as the lists of VehicleID or rejected. In a trial, the gallery has one image of
//! each vehicle, and all other images are queries.
#![no_main]

use std::{collections::HashSet, sync::LazyLock};

use reid_core::Seed;
use reid_data::dataset::{TestSize, vehicle_id};
use reid_fuzz::{Folder, parts};

static FOLDER: LazyLock<Folder> =
    LazyLock::new(|| Folder::with((1..=6).map(|image| format!("image/{image}.jpg"))));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [train, test] = parts(bytes);
    FOLDER.write("train_test_split/train_list.txt", train);
    FOLDER.write("train_test_split/test_list_800.txt", test);
    let splits = vehicle_id::load(FOLDER.path(), TestSize::Small, Seed::new(0));
    let Some(splits) = FOLDER.check(splits) else { return };
    let images = vehicle_id::test_images(FOLDER.path(), TestSize::Small).expect("read before");
    FOLDER.check_samples(&images);
    assert_eq!(splits.query.len() + splits.gallery.len(), images.len());
    let identities = |samples: &[reid_core::Sample]| -> HashSet<_> {
        samples.iter().map(|sample| sample.identity).collect()
    };
    assert_eq!(identities(&splits.gallery).len(), splits.gallery.len());
    assert_eq!(identities(&splits.gallery), identities(&images));
});
