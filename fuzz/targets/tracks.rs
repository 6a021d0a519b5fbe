//! Any bytes are read as the tracks of CityFlow-ReID and of VeRi-776 or rejected. Each image of a track is
//! named in the line with the number of the track.
#![no_main]

use std::sync::LazyLock;

use reid_core::Sample;
use reid_data::dataset::{aic20, veri776};
use reid_fuzz::Folder;

static CITY: LazyLock<Folder> = LazyLock::new(|| {
    let folder = Folder::with((1..=4).map(|image| format!("image_train/{image:06}.jpg")));
    let item = |image| format!("<Item imageName=\"{image:06}.jpg\" vehicleID=\"{image}\" cameraID=\"c1\"/>");
    let items: String = (1..=4).map(item).collect();
    folder.write("train_label.xml", items.as_bytes());
    folder
});
static VERI: LazyLock<Folder> = LazyLock::new(|| {
    Folder::with([
        "image_train/1_c1_1_0.jpg",
        "image_train/2_c1_1_0.jpg",
        "image_query/3_c1_1_0.jpg",
        "image_test/3_c1_1_0.jpg",
        "image_test/3_c2_1_0.jpg",
        "image_test/4_c2_1_0.jpg",
    ])
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<&str> = text.lines().collect();
    let wide = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    let check = |sample: &Sample| {
        let Some(track) = sample.track.filter(|_| !wide) else { return };
        let line = lines[usize::try_from(track.number()).expect("a small number") - 1];
        let stem = sample.path.file_stem().expect("a file name").to_str().expect("ASCII");
        assert!(line.contains(stem.trim_start_matches('0')), "{sample:?} is not in {line:?}");
    };
    CITY.write("train_track_id.txt", bytes);
    if let Some(samples) = CITY.names(aic20::labelled(CITY.path())) {
        CITY.check_samples(&samples);
        samples.iter().for_each(check);
    }
    VERI.write("test_track.txt", bytes);
    if let Some(splits) = VERI.check(veri776::load(VERI.path())) {
        splits.query.iter().chain(&splits.gallery).for_each(check);
    }
});
