//! Any bytes are read as a gallery or rejected, with and without a correct hash of the content.
#![no_main]

use std::{collections::HashMap, fmt::Write, sync::LazyLock};

use reid_eval::{
    Embeddings, Labels,
    gallery::{Gallery, GalleryFilter},
};
use reid_fuzz::Folder;
use safetensors::{SafeTensors, serialize};
use sha2::{Digest, Sha256};

static FOLDER: LazyLock<Folder> = LazyLock::new(|| Folder::with([] as [&str; 0]));

// The settings end at the first zero byte; tensors follow. Without a zero byte, the input is the whole file.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let sealed = match bytes.iter().position(|byte| *byte == 0) {
        Some(end) if bytes.starts_with(b"{") => seal(&bytes[..end], &bytes[end + 1..]),
        _ => Some(bytes.to_vec()),
    };
    let Some(Ok(gallery)) = sealed.as_deref().map(Gallery::from_bytes) else { return };
    check(&gallery);
});

/// An accepted gallery is searched, and is the same after it was saved and opened.
fn check(gallery: &Gallery) {
    let (entries, dimensions) = (gallery.entries().len(), gallery.dimensions());
    for entry in 0..entries {
        assert_eq!(Some(gallery.embedding(entry).len()), dimensions);
        assert!(gallery.embedding(entry).iter().all(|value| value.is_finite()));
    }
    let dimensions = dimensions.unwrap_or(1);
    let query = Embeddings::from_parts(vec![0.5; dimensions], dimensions, Labels::unknown(1)).expect("a row");
    let filter = GalleryFilter::default();
    let found = gallery.search(gallery.model(), &query, &filter, entries + 1).expect("a query of this model");
    assert_eq!(found[0].len(), gallery.identities().len());
    let decided = gallery.decide(gallery.model(), &query, &filter);
    assert_eq!(decided.is_ok(), gallery.threshold().is_some());
    let path = FOLDER.path().join("gallery");
    gallery.save(&path).expect("in memory");
    let again = Gallery::open(&path, gallery.model()).expect("just saved");
    assert_eq!(again, *gallery);
}

/// Builds a file with the right hash from settings and the tensors of a safetensors file.
fn seal(settings: &[u8], tensors: &[u8]) -> Option<Vec<u8>> {
    let settings = std::str::from_utf8(settings).ok()?;
    let tensors = SafeTensors::deserialize(tensors).ok()?;
    let mut tensors = tensors.tensors();
    tensors.sort_by(|one, other| one.0.cmp(&other.0));
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(settings.as_bytes());
    for (key, view) in &tensors {
        add(format!("{key} {} {:?}", view.dtype(), view.shape()).as_bytes());
        for chunk in view.data().chunks(1 << 20) {
            add(&Sha256::digest(chunk));
        }
    }
    let mut sha256 = String::new();
    for byte in hash.finalize() {
        write!(sha256, "{byte:02x}").expect("in memory");
    }
    let header = serde_json::json!({ "settings": settings, "sha256": sha256 }).to_string();
    serialize(tensors, Some(HashMap::from([("gallery".to_owned(), header)]))).ok()
}
