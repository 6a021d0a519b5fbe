//! Any bytes with the signature of JPEG are decoded as an image or rejected.
#![no_main]

use libfuzzer_sys::Corpus;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| -> Corpus {
    reid_fuzz::check_picture(bytes, &[b"\xff\xd8"])
});
