//! Any bytes that begin as GIF are a picture or are refused.
#![no_main]

use libfuzzer_sys::Corpus;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| -> Corpus {
    reid_fuzz::check_picture(bytes, &[b"GIF8"])
});
