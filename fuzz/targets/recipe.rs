//! Any bytes are read as a recipe or rejected. An accepted recipe has a finite learning rate at every epoch,
//! can be validated against a dataset, and is unchanged after saving and loading.
#![no_main]

use std::sync::LazyLock;

use burn::tensor::Device;
use image::{ImageFormat, RgbImage};
use reid_core::{Camera, Identity, Sample, Splits};
use reid_fuzz::Folder;
use reid_nn::Network;
use reid_train::Recipe;
use reid_zoo::{BagOfTricksConfig, BranchedConfig, FncConfig, MgnConfig, RgaConfig};
use serde::{Serialize, de::DeserializeOwned};

static FOLDER: LazyLock<Folder> = LazyLock::new(|| Folder::with([] as [&str; 0]));
/// Two training identities and two test identities, each by two cameras.
static SPLITS: LazyLock<Splits> = LazyLock::new(|| {
    let path = FOLDER.path().join("image.bmp");
    RgbImage::new(2, 2).save_with_format(&path, ImageFormat::Bmp).expect("a file to write to");
    let sample = |identity, camera| {
        Sample::new(path.clone(), Identity::new(identity)).with_camera(Camera::new(camera))
    };
    let both = |camera| vec![sample(3, camera), sample(4, camera)];
    Splits::default()
        .with_train(vec![sample(1, 1), sample(1, 2), sample(2, 1), sample(2, 2)])
        .with_query(both(1))
        .with_gallery(both(2))
});

// The first byte selects the network of the recipe.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&which, bytes)) = bytes.split_first() else { return };
    match which % 5 {
        0 => check::<BagOfTricksConfig>(bytes),
        1 => check::<RgaConfig>(bytes),
        2 => check::<BranchedConfig>(bytes),
        3 => check::<FncConfig>(bytes),
        _ => check::<MgnConfig>(bytes),
    }
});

fn check<N: Serialize + DeserializeOwned + Network>(bytes: &[u8]) {
    let path = FOLDER.write("recipe.json", bytes);
    let Some(recipe) = FOLDER.names(Recipe::<N>::load(&path)) else { return };
    for epoch in [0, 1, recipe.epochs / 2, recipe.epochs - 1] {
        let rate = recipe.schedule.rate(epoch, recipe.epochs);
        assert!(rate.is_finite() && rate >= 0.0, "epoch {epoch}: {rate}");
    }
    let _ = recipe.validate(&SPLITS, &Device::default());
    recipe.save(&path).expect("a file to write to");
    let again = Recipe::<N>::load(&path).expect("a valid recipe");
    let json = |recipe: &Recipe<N>| serde_json::to_string(recipe).expect("serialisable data");
    assert_eq!(json(&again), json(&recipe));
}
