//! Any bytes are a file of Burn's or are refused: as weights, and as a module and an optimizer of a
//! checkpoint.
#![no_main]

use std::sync::LazyLock;

use burn::{
    module::Module,
    store::{ModuleRecord, burn_pack::Reader},
    tensor::Bytes,
};
use reid_fuzz::networks::{Small, check_weights, small};
use reid_train::OptimizerConfig;

static SMALL: LazyLock<Small> = LazyLock::new(small);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    check_weights("weights.bpk", bytes);
    let bytes = Bytes::from_bytes_vec(bytes.to_vec()).shared();
    if let Ok(record) = ModuleRecord::from_bytes(bytes.clone())
        && let Ok(module) = SMALL.clone().try_load_record(record)
    {
        assert_eq!(module.num_params(), SMALL.num_params());
    }
    // Checkpoints refuse tensors that belong to no parameter, at which Burn panics.
    let Ok(tensors) = Reader::from_bytes(bytes.clone()).and_then(Reader::into_tensors) else { return };
    if tensors.iter().any(|tensor| tensor.param_id.is_none()) {
        return;
    }
    for config in [OptimizerConfig::adam(), OptimizerConfig::ranger()] {
        let _ = config.init().from_bytes(bytes.clone());
    }
});
