//! Sets a `cfg` for each enabled backend that has native operations, if the feature `native` is enabled.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let on = |feature: &str| env::var_os(format!("CARGO_FEATURE_{feature}")).is_some();
    let backends = [
        ("native_flex", "FLEX"),
        ("native_ndarray", "NDARRAY"),
        ("native_cube", "_CUBE"),
    ];
    println!("cargo::rustc-check-cfg=cfg(native)");
    for (name, feature) in backends {
        println!("cargo::rustc-check-cfg=cfg({name})");
        if on("NATIVE") && on(feature) {
            println!("cargo::rustc-cfg={name}");
            println!("cargo::rustc-cfg=native");
        }
    }
}
