//! Any bytes are weights as safetensors or are refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    reid_fuzz::networks::check_weights("weights.safetensors", bytes);
});
