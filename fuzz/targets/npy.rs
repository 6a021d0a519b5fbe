//! Any bytes are read as an array in an archive of embeddings or rejected. The target writes the archive
//! itself, so the fuzzer does not have to guess a checksum.
#![no_main]

use reid_fuzz::{archive, arrays};

// The first byte selects one of the query arrays.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&which, bytes)) = bytes.split_first() else { return };
    let mut arrays = arrays();
    let array = usize::from(which) % (arrays.len() / 2);
    arrays[array].1 = bytes.to_vec();
    reid_fuzz::check_embeddings(reid_eval::files::QueryAndGallery::from_npz(&archive(&arrays, false)));
});
