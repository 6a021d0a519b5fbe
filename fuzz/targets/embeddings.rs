//! Any bytes are read as a file of one set of embeddings, an `.npz` archive or safetensors, or rejected.
#![no_main]

use reid_eval::Embeddings;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let read = if bytes.starts_with(b"PK") {
        Embeddings::from_npz(bytes)
    } else {
        Embeddings::from_safetensors(bytes)
    };
    if let Ok(embeddings) = read {
        reid_fuzz::check_set(&embeddings);
    }
});
