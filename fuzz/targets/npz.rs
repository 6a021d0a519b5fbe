//! Any bytes are an archive of embeddings or are refused.
//!
//! ```sh
//! cargo install cargo-fuzz
//! cargo fuzz run --sanitizer none npz
//! ```
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok([query, gallery]) = reid_eval::files::npz(bytes) {
        assert!(query.values().iter().chain(gallery.values()).all(|value| value.is_finite()));
    }
});
