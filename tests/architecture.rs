//! House rules: which crate may depend on which, which code may name a backend, and the form of source files.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

#[path = "repository/mod.rs"]
mod repository;

use repository::root;

/// The crates of the workspace in layer order, each with the workspace crates that it may depend on.
const GRAPH: [(&str, &[&str]); 12] = [
    ("reid-core", &[]),
    ("reid-kernels", &[]),
    ("reid-eval", &["reid-core", "reid-kernels"]),
    ("reid-ops", &["reid-core", "reid-kernels"]),
    ("reid-nn", &["reid-core", "reid-ops"]),
    ("reid-data", &["reid-core"]),
    ("reid-synthetic", &["reid-core"]),
    ("reid-vis", &["reid-core", "reid-data", "reid-eval"]),
    (
        "reid-train",
        &["reid-core", "reid-data", "reid-eval", "reid-nn", "reid-ops"],
    ),
    (
        "reid-zoo",
        &[
            "reid-core",
            "reid-data",
            "reid-eval",
            "reid-nn",
            "reid-train",
        ],
    ),
    (
        "reid-onnx",
        &[
            "reid-core",
            "reid-data",
            "reid-nn",
            "reid-train",
            "reid-zoo",
        ],
    ),
    (
        "reid",
        &[
            "reid-core",
            "reid-data",
            "reid-eval",
            "reid-nn",
            "reid-synthetic",
            "reid-train",
            "reid-vis",
            "reid-zoo",
        ],
    ),
];

/// The crates that may not depend on Burn.
const WITHOUT_BURN: [&str; 6] = [
    "reid-core",
    "reid-kernels",
    "reid-eval",
    "reid-data",
    "reid-synthetic",
    "reid-vis",
];

/// Reads the packages of the workspace from `cargo metadata`.
fn packages() -> Vec<serde_json::Value> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    metadata["packages"].as_array().expect("packages").clone()
}

/// The names of the normal dependencies of each package.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let packages = packages().into_iter().map(|package| {
        let all = package["dependencies"].as_array().expect("dependencies");
        let normal = all.iter().filter(|dependency| dependency["kind"].is_null());
        (
            text(&package["name"]),
            normal.map(|dependency| text(&dependency["name"])).collect(),
        )
    });
    packages.collect()
}

#[test]
fn crates_depend_only_on_lower_layers() {
    let dependencies = dependencies();
    assert_eq!(
        dependencies.len(),
        GRAPH.len(),
        "list every crate of the workspace in GRAPH of tests/architecture.rs; Cargo has {:?}",
        dependencies.keys()
    );
    for (name, allowed) in GRAPH {
        for dependency in &dependencies[name] {
            let ours = dependency.starts_with("reid");
            assert!(
                !ours || allowed.contains(&dependency.as_str()),
                "{name} may depend only on {allowed:?}, found {dependency}: move the shared code to one of \
                 these, or extend GRAPH in tests/architecture.rs"
            );
            let burn = dependency.starts_with("burn");
            assert!(
                !(burn && WITHOUT_BURN.contains(&name)),
                "{name} may not depend on Burn, found {dependency}: move the code that needs it to reid-ops, \
                 reid-nn or a crate above"
            );
        }
    }
}

/// The Rust files of folders and their subfolders.
fn sources(folders: &[&str]) -> Vec<PathBuf> {
    let files = folders.iter().flat_map(|folder| repository::files(folder));
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// Only `reid_data::decode` opens images, so that EXIF orientation, size limits and errors are the same for
/// all.
#[test]
fn images_are_opened_only_by_the_decoder() {
    let mut files = sources(&["crates", "examples", "benches"]);
    let decoder = root().join("crates/reid-data/src/decode");
    files.retain(|path| {
        !path.starts_with(&decoder) && path.components().all(|part| part.as_os_str() != "tests")
    });
    for path in files {
        let text = fs::read_to_string(&path).expect("text");
        let code = text
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or(&text);
        for opener in ["image::open(", "ImageReader", "load_from_memory"] {
            assert!(
                !code.contains(opener),
                "{}: found {opener}: open images with `reid_data::decode` or `reid_vis::open_picture`",
                path.display()
            );
        }
    }
}

#[test]
fn files_open_with_docs_and_stay_short() {
    let files = sources(&["crates", "examples", "tests", "benches"]);
    assert!(
        files.len() > 100,
        "expected more than 100 source files, found {}",
        files.len()
    );
    for path in files {
        let text = fs::read_to_string(&path).expect("text");
        let name = path.strip_prefix(root()).expect("inside").display();
        let stem = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .expect("a name");
        let in_crate = path.starts_with(root().join("crates"));
        let vague = ["base", "utils", "util", "common", "mod"].contains(&stem);
        assert!(
            !(in_crate && vague),
            "{name}: rename the file after what it contains; `{stem}` could contain anything"
        );
        let opens = text.starts_with("//!") || text.starts_with("#![doc");
        assert!(
            opens,
            "{name}: begin the file with a `//!` line that says what it contains"
        );
        let code = text
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or(&text);
        let lines = code.lines().count();
        let in_source = in_crate && path.components().any(|part| part.as_os_str() == "src");
        assert!(
            !in_source || lines <= 400,
            "{name}: {lines} lines without tests, at most 400 are allowed: split the file"
        );
        for line in text.lines() {
            let ignored = line.trim_start().starts_with("/// ```ignore");
            assert!(
                !ignored,
                "{name}: make the `ignore` example compile, with hidden lines or `no_run`"
            );
        }
    }
}

/// The backends that a build chooses among: names of Burn's features.
const BACKENDS: [&str; 12] = [
    "flex", "ndarray", "cpu", "wgpu", "webgpu", "vulkan", "metal", "cuda", "rocm", "tch", "candle",
    "remote",
];

/// The crate with operations that extend Burn's backends. It depends on each backend through an optional
/// feature.
const OPERATIONS: &str = "reid-ops";

/// Finds where a package of `cargo metadata` chooses a backend for its users: in a dependency that is not
/// optional, or in a feature that is not named after the backend.
fn backends_in_manifest(package: &serde_json::Value) -> Vec<String> {
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let name = package["name"].as_str().expect("a name");
    let mut found = Vec::new();
    for dependency in list(&package["dependencies"]) {
        if !dependency["kind"].is_null() {
            continue; // tests may choose a backend
        }
        let target = dependency["name"].as_str().expect("a name");
        let backend = target.strip_prefix("burn-").is_some_and(|backend| {
            BACKENDS.contains(&backend) || backend.starts_with("cubecl") || backend == "fusion"
        });
        let chosen = name == OPERATIONS && dependency["optional"] == true;
        if backend && !chosen {
            found.push(format!("{name} depends on {target}"));
        }
        for feature in list(&dependency["features"]) {
            let feature = feature.as_str().expect("a feature");
            if BACKENDS.contains(&feature) {
                found.push(format!("{name} always enables {feature} of {target}"));
            }
        }
    }
    let features = package["features"].as_object().cloned().unwrap_or_default();
    for (feature, needs) in features {
        for need in list(&needs) {
            let need = need.as_str().expect("a feature");
            let backend = need.rsplit(['/', ':']).next().unwrap_or(need);
            let backend = backend.strip_prefix("burn-").unwrap_or(backend);
            if BACKENDS.contains(&backend) && backend != feature {
                found.push(format!("{name}: feature {feature} enables {need}"));
            }
        }
    }
    found
}

/// Finds the lines of a source file, without comments and tests, that name a type or crate of a backend.
fn backends_in_source(text: &str) -> Vec<String> {
    const NAMES: [&str; 13] = [
        "Flex",
        "NdArray",
        "Wgpu",
        "WebGpu",
        "Vulkan",
        "Metal",
        "Cuda",
        "Rocm",
        "burn_flex",
        "burn_ndarray",
        "burn_cubecl",
        "burn_wgpu",
        "burn_cuda",
    ];
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let lines = code.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim_start().starts_with("//"));
    let named = lines.filter_map(|(number, line)| {
        let mut words = line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        let word = words.find(|word| NAMES.contains(word))?;
        Some(format!("line {}: {word}", number + 1))
    });
    named.collect()
}

#[test]
fn no_library_chooses_a_backend() {
    let packages = packages();
    assert_eq!(packages.len(), GRAPH.len());
    for package in packages.iter().filter(|package| package["name"] != "reid") {
        let found = backends_in_manifest(package);
        assert!(
            found.is_empty(),
            "{found:?}: let the user choose, with an optional feature that has the backend's name"
        );
    }
    for (name, _) in GRAPH {
        if [OPERATIONS, "reid"].contains(&name) {
            continue;
        }
        let mut files = sources(&[&format!("crates/{name}/src")]);
        assert!(
            !files.is_empty(),
            "expected source files in the folder of {name}, found none"
        );
        // The only file that may name backends: it looks up which ones are compiled in.
        files.retain(|path| !path.ends_with("reid-nn/src/device.rs"));
        for path in files {
            let found = backends_in_source(&fs::read_to_string(&path).expect("text"));
            assert!(
                found.is_empty(),
                "{}: {found:?}: use `burn::tensor::Device` and let the caller choose the backend",
                path.display()
            );
        }
    }
}

/// The manifest check reports every way to choose a backend.
#[test]
fn a_manifest_that_chooses_a_backend_is_reported() {
    let manifest = |name: &str, dependency: &str, features: &str| {
        let text =
            format!(r#"{{"name":"{name}","dependencies":[{dependency}],"features":{features}}}"#);
        let package: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        backends_in_manifest(&package)
    };
    let on = |name: &str, kind: &str, optional: bool, features: &str| {
        format!(
            r#"{{"name":"{name}","kind":{kind},"optional":{optional},"features":[{features}]}}"#
        )
    };
    let flex = on("burn-flex", "null", true, "");
    for (name, dependency, features, expected) in [
        (
            "reid-nn",
            flex.clone(),
            "{}",
            "reid-nn depends on burn-flex",
        ),
        (
            OPERATIONS,
            on("burn-flex", "null", false, ""),
            "{}",
            "reid-ops depends on burn-flex",
        ),
        (
            "reid-train",
            on("burn", "null", false, r#""std","cuda""#),
            "{}",
            "reid-train always enables cuda of burn",
        ),
        (
            "reid-zoo",
            on("reid-nn", "null", false, r#""flex""#),
            "{}",
            "reid-zoo always enables flex of reid-nn",
        ),
        (
            "reid-nn",
            on("burn", "null", false, ""),
            r#"{"default":["burn/wgpu"]}"#,
            "reid-nn: feature default enables burn/wgpu",
        ),
        (
            "reid-vis",
            String::new(),
            r#"{"default":["flex"],"flex":[]}"#,
            "reid-vis: feature default enables flex",
        ),
    ] {
        assert_eq!(manifest(name, &dependency, features), [expected]);
    }
    let forwarded = r#"{"flex":["burn/flex","dep:burn-flex"]}"#;
    assert_eq!(manifest(OPERATIONS, &flex, forwarded), [""; 0]);
    assert_eq!(
        manifest("reid-nn", &on("burn", r#""dev""#, false, r#""flex""#), "{}"),
        [""; 0]
    );
}

#[test]
fn a_source_file_that_names_a_backend_is_reported() {
    let source = "//! Runs on Cuda.\nuse burn::backend::Cuda;\n\nfn on_flexible() {}\n";
    assert_eq!(backends_in_source(source), ["line 2: Cuda"]);
    let tests = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use burn_flex::Flex;\n}\n";
    assert_eq!(backends_in_source(tests), [""; 0]);
}
