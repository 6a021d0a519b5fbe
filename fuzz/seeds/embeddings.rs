//! Seeds of embedding files: `.npz` archives, single arrays and safetensors.

use reid_core::{Camera, Identity, Track};
use reid_eval::{
    Embeddings, Labels,
    gallery::{Gallery, GalleryConfig, GalleryEntry, GalleryStorage, ModelFingerprint},
};
use reid_fuzz::{archive, arrays};
use safetensors::{Dtype, SafeTensors, serialize, tensor::TensorView};

use crate::Seeds;

pub(crate) fn seeds() -> [Seeds; 5] {
    [
        (
            "npz",
            vec![
                npz(false, &[".features", ".ids"]),
                npz(true, &[""]),
            ],
        ),
        ("npy", npy()),
        ("safetensors", vec![safetensors(["query.", "gallery."])]),
        ("embeddings", vec![set(), safetensors([""])]),
        ("gallery", galleries()),
    ]
}

/// An archive of the arrays whose names contain one of these parts.
fn npz(deflated: bool, names: &[&str]) -> Vec<u8> {
    let mut arrays = arrays();
    arrays.retain(|(name, _)| names.iter().any(|part| name.contains(part)));
    archive(&arrays, deflated)
}

/// The query arrays, each preceded by the byte that selects it.
fn npy() -> Vec<Vec<u8>> {
    let numbered = (0_u8..).zip(arrays()).take(4);
    numbered.map(|(which, (_, array))| [&[which], &array[..]].concat()).collect()
}

/// An archive of one set: the arrays of the queries, without the name of their side.
fn set() -> Vec<u8> {
    let side = arrays().into_iter().filter_map(|(name, bytes)| {
        let name = name.strip_prefix("query.")?.to_owned();
        Some((name, bytes))
    });
    archive(&side.collect::<Vec<_>>(), true)
}

fn safetensors<const N: usize>(sides: [&str; N]) -> Vec<u8> {
    let features: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0].into_iter().flat_map(f32::to_le_bytes).collect();
    let labels: Vec<u8> = [1_i64, 2].into_iter().flat_map(i64::to_le_bytes).collect();
    let view = |dtype, shape: &[usize], bytes| TensorView::new(dtype, shape.to_vec(), bytes).expect("fits");
    let side = |side: &str| {
        let labels = ["ids", "cameras", "images"]
            .map(|name| (format!("{side}{name}"), view(Dtype::I64, &[2], &labels)));
        let features = (format!("{side}features"), view(Dtype::F32, &[2, 2], &features));
        labels.into_iter().chain([features]).collect::<Vec<_>>()
    };
    serialize(sides.map(side).concat(), None).expect("in memory")
}

/// Galleries in both precisions: the whole file, and its settings and tensors with a zero byte between.
fn galleries() -> Vec<Vec<u8>> {
    let model = ModelFingerprint::new("seed");
    let entries = [
        GalleryEntry::new(Identity::new(1)).with_camera(Camera::new(2)).with_time(5),
        GalleryEntry::new(Identity::new(3)).with_track(Track::new(4)).with_path("3.png"),
    ];
    let values = Embeddings::from_parts(vec![1.0, 0.0, 0.0, 1.0], 2, Labels::unknown(2)).expect("two rows");
    let folder = tempfile::tempdir().expect("a folder to write to");
    let path = folder.path().join("gallery");
    let mut seeds = Vec::new();
    for storage in [GalleryStorage::Single, GalleryStorage::Half] {
        let mut gallery = Gallery::new(model.clone(), GalleryConfig::default().with_storage(storage));
        gallery.enrol(&model, &values, &entries).expect("valid entries");
        gallery.save(&path).expect("a file to write to");
        let file = std::fs::read(&path).expect("just written");
        let (_, metadata) = SafeTensors::read_metadata(&file).expect("safetensors");
        let header = &metadata.metadata().as_ref().expect("metadata")["gallery"];
        let header: serde_json::Value = serde_json::from_str(header).expect("JSON");
        let settings = header["settings"].as_str().expect("a text").as_bytes().to_vec();
        let tensors = SafeTensors::deserialize(&file).expect("safetensors");
        let tensors = serialize(tensors.tensors(), None).expect("in memory");
        seeds.push([settings, vec![0], tensors].concat());
        seeds.push(file);
    }
    seeds
}
