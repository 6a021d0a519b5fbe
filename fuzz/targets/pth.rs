//! Any bytes are read as PyTorch weights (archive, tar, legacy format or plain pickle) or rejected.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    reid_fuzz::networks::check_weights("weights.pth", bytes);
});
