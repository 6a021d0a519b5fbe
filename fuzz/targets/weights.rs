//! Any bytes are read as safetensors weights or rejected.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    reid_fuzz::networks::check_weights("weights.safetensors", bytes);
});
