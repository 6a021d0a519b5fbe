//! Any bytes are a recipe or are refused; what is accepted is the same when it is written again.
#![no_main]

use reid_train::Recipe;
use reid_zoo::BagOfTricksConfig;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(recipe) = serde_json::from_slice::<Recipe<BagOfTricksConfig>>(bytes) else { return };
    let text = serde_json::to_string(&recipe).expect("plain data");
    let again: Recipe<BagOfTricksConfig> = serde_json::from_str(&text).expect("written by a program");
    assert_eq!(serde_json::to_string(&again).expect("plain data"), text);
    let _ = recipe.check();
});
