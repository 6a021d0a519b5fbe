//! Any bytes are read as a `.bpk` file of Burn or rejected: as weights, as a module record and as an
//! optimizer state.
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
    // Burn panics on tensors without a parameter id. Checkpoints reject such files before Burn reads them.
    let Ok(tensors) = Reader::from_bytes(bytes.clone()).and_then(Reader::into_tensors) else { return };
    if tensors.iter().any(|tensor| tensor.param_id.is_none()) {
        return;
    }
    for config in [OptimizerConfig::adam(), OptimizerConfig::ranger()] {
        let _ = config.init().from_bytes(bytes.clone());
    }
});
