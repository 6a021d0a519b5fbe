//! Any bytes are read as the pickle in a PyTorch archive or rejected. The target writes the archive itself,
//! so the fuzzer does not have to guess a checksum.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    reid_fuzz::networks::check_weights("weights.pth", &reid_fuzz::pytorch::checkpoint(bytes));
});
