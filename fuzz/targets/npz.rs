//! Any bytes are read as an `.npz` archive of embeddings or rejected.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    reid_fuzz::check_embeddings(reid_eval::files::QueryAndGallery::from_npz(bytes));
});
