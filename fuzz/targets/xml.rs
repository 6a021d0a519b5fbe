//! Any bytes are read as the labels of CityFlow-ReID or rejected. Every image has one label.
#![no_main]

use std::{collections::HashSet, fmt::Write, sync::LazyLock};

use reid_data::dataset::aic20;
use reid_fuzz::Folder;

static FOLDER: LazyLock<Folder> =
    LazyLock::new(|| Folder::with(["image_train/000001.jpg", "image_train/000002.jpg"]));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    FOLDER.write("train_label.xml", bytes);
    let Some(samples) = FOLDER.names(aic20::labelled(FOLDER.path())) else { return };
    FOLDER.check_samples(&samples);
    assert_eq!(samples.len(), 2);
    let identities: HashSet<i64> = samples.iter().map(|s| s.identity.label()).collect();
    assert!(identities.len() == 2 && identities.iter().all(|label| *label > 0));

    let mut xml = String::from("<Items>");
    for sample in &samples {
        let name = sample.path.file_name().expect("a file name").to_str().expect("ASCII");
        let (vehicle, camera) = (sample.identity, sample.camera.expect("a camera"));
        write!(xml, "<Item cameraID=\"{camera}\" vehicleID=\"{vehicle}\" imageName=\"{name}\"/>")
            .expect("in memory");
    }
    FOLDER.write("train_label.xml", (xml + "</Items>").as_bytes());
    assert_eq!(aic20::labelled(FOLDER.path()).expect("a valid file"), samples);
});
