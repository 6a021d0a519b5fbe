//! Any bytes are the pickle in an archive of PyTorch, or are refused: reached without guessing a checksum.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    reid_fuzz::networks::check_weights("weights.pth", &reid_fuzz::pytorch::checkpoint(bytes));
});
