//! The graph of crates points down, and the tree stays readable.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Each crate with those of ours it may use, in layer order.
const GRAPH: [(&str, &[&str]); 11] = [
    ("reid-core", &[]),
    ("reid-kernels", &[]),
    ("reid-eval", &["reid-core", "reid-kernels"]),
    ("reid-ops", &["reid-kernels"]),
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

/// Crates that do not know Burn.
const WITHOUT_BURN: [&str; 6] = [
    "reid-core",
    "reid-kernels",
    "reid-eval",
    "reid-data",
    "reid-synthetic",
    "reid-vis",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The packages of the workspace, as Cargo describes them.
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
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    metadata["packages"].as_array().expect("packages").clone()
}

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
fn the_graph_points_down() {
    let dependencies = dependencies();
    assert_eq!(dependencies.len(), GRAPH.len(), "{:?}", dependencies.keys());
    for (name, allowed) in GRAPH {
        for dependency in &dependencies[name] {
            let ours = dependency.starts_with("reid");
            assert!(
                !ours || allowed.contains(&dependency.as_str()),
                "{name} uses {dependency}"
            );
            let burn = dependency.starts_with("burn");
            assert!(
                !(burn && WITHOUT_BURN.contains(&name)),
                "{name} uses {dependency}"
            );
        }
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// One function opens images, so that a picture is turned, limited and refused the same everywhere.
#[test]
fn images_are_opened_in_one_place() {
    let mut files = Vec::new();
    for folder in ["crates", "examples", "benches"] {
        sources(&root().join(folder), &mut files);
    }
    let in_place = root().join("crates/reid-data/src/decode");
    files.retain(|path| {
        !path.starts_with(&in_place) && path.components().all(|part| part.as_os_str() != "tests")
    });
    for path in files {
        let text = fs::read_to_string(&path).expect("text");
        let code = text
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or(&text);
        for opener in ["image::open(", "ImageReader", "load_from_memory"] {
            assert!(!code.contains(opener), "{}: {opener}", path.display());
        }
    }
}

#[test]
fn files_say_what_they_are_and_stay_short() {
    let mut files = Vec::new();
    for folder in ["crates", "examples", "tests", "benches"] {
        sources(&root().join(folder), &mut files);
    }
    assert!(files.len() > 100, "found only {} files", files.len());
    for path in files {
        let text = fs::read_to_string(&path).expect("text");
        let name = path.strip_prefix(root()).expect("inside").display();
        let stem = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .expect("a name");
        let in_crate = path.starts_with(root().join("crates"));
        let vague = ["base", "utils", "util", "common", "mod"].contains(&stem);
        assert!(!(in_crate && vague), "{name}: the name says nothing");
        let opens = text.starts_with("//!") || text.starts_with("#![doc");
        assert!(opens, "{name}: does not open with what it is");
        let code = text
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or(&text);
        let lines = code.lines().count();
        let in_source = in_crate && path.components().any(|part| part.as_os_str() == "src");
        assert!(
            !in_source || lines <= 400,
            "{name}: {lines} lines without tests, at most 400"
        );
        for line in text.lines() {
            let ignored = line.trim_start().starts_with("/// ```ignore");
            assert!(!ignored, "{name}: an example that does not run");
        }
    }
}

/// What a build chooses among, by the names of Burn's features.
const BACKENDS: [&str; 12] = [
    "flex", "ndarray", "cpu", "wgpu", "webgpu", "vulkan", "metal", "cuda", "rocm", "tch", "candle",
    "remote",
];

/// The crate whose operations extend Burn's backends, each where a feature asks for it.
const OPERATIONS: &str = "reid-ops";

/// Where a package, as `cargo metadata` describes it, decides on a backend: by a dependency that is always
/// there, or by a feature of another name.
fn backends_in_manifest(package: &serde_json::Value) -> Vec<String> {
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let name = package["name"].as_str().expect("a name");
    let mut found = Vec::new();
    for dependency in list(&package["dependencies"]) {
        if !dependency["kind"].is_null() {
            continue; // tests may
        }
        let of = dependency["name"].as_str().expect("a name");
        let backend = of.strip_prefix("burn-").is_some_and(|backend| {
            BACKENDS.contains(&backend) || backend.starts_with("cubecl") || backend == "fusion"
        });
        let chosen = name == OPERATIONS && dependency["optional"] == true;
        if backend && !chosen {
            found.push(format!("{name} depends on {of}"));
        }
        for feature in list(&dependency["features"]) {
            let feature = feature.as_str().expect("a feature");
            if BACKENDS.contains(&feature) {
                found.push(format!("{name} always asks {of} for {feature}"));
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
                found.push(format!("{name}: feature {feature} asks for {need}"));
            }
        }
    }
    found
}

/// Where the code of a library, without its comments and tests, names a type or crate of a backend.
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
fn no_library_names_a_backend() {
    let packages = packages();
    assert_eq!(packages.len(), GRAPH.len());
    for package in packages.iter().filter(|package| package["name"] != "reid") {
        let found = backends_in_manifest(package);
        assert!(found.is_empty(), "{found:?}");
    }
    for (name, _) in GRAPH {
        if [OPERATIONS, "reid"].contains(&name) {
            continue;
        }
        let mut files = Vec::new();
        sources(&root().join("crates").join(name).join("src"), &mut files);
        assert!(!files.is_empty(), "{name} has no sources");
        // The one file that asks which backends are there.
        files.retain(|path| !path.ends_with("reid-nn/src/device.rs"));
        for path in files {
            let found = backends_in_source(&fs::read_to_string(&path).expect("text"));
            assert!(found.is_empty(), "{}: {found:?}", path.display());
        }
    }
}

/// The check above finds what it is there to find.
#[test]
fn a_library_that_names_a_backend_is_found() {
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
            "reid-train always asks burn for cuda",
        ),
        (
            "reid-zoo",
            on("reid-nn", "null", false, r#""flex""#),
            "{}",
            "reid-zoo always asks reid-nn for flex",
        ),
        (
            "reid-nn",
            on("burn", "null", false, ""),
            r#"{"default":["burn/wgpu"]}"#,
            "reid-nn: feature default asks for burn/wgpu",
        ),
        (
            "reid-vis",
            String::new(),
            r#"{"default":["flex"],"flex":[]}"#,
            "reid-vis: feature default asks for flex",
        ),
    ] {
        assert_eq!(manifest(name, &dependency, features), [expected]);
    }
    let handed_on = r#"{"flex":["burn/flex","dep:burn-flex"]}"#;
    assert_eq!(manifest(OPERATIONS, &flex, handed_on), [""; 0]);
    assert_eq!(
        manifest("reid-nn", &on("burn", r#""dev""#, false, r#""flex""#), "{}"),
        [""; 0]
    );
}

#[test]
fn a_source_that_names_a_backend_is_found() {
    let source = "//! Runs on Cuda.\nuse burn::backend::Cuda;\n\nfn on_flexible() {}\n";
    assert_eq!(backends_in_source(source), ["line 2: Cuda"]);
    let tests = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use burn_flex::Flex;\n}\n";
    assert_eq!(backends_in_source(tests), [""; 0]);
}
