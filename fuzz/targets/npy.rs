//! Any bytes are an array in an archive of embeddings, or are refused: reached without guessing a checksum.
#![no_main]

use reid_fuzz::{archive, arrays};

// The first byte says which of the arrays of the queries.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&which, bytes)) = bytes.split_first() else { return };
    let mut arrays = arrays();
    let array = usize::from(which) % (arrays.len() / 2);
    arrays[array].1 = bytes.to_vec();
    reid_fuzz::check_embeddings(reid_eval::files::QueryAndGallery::from_npz(&archive(&arrays, false)));
});
