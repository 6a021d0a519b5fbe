//! Any bytes are weights of PyTorch or are refused: archive, tar, legacy and plain pickle.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    reid_fuzz::networks::check_weights("weights.pth", bytes);
});
