//! The graph of crates points down, and the tree stays readable.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Each crate with those of ours it may use, in layer order.
const GRAPH: [(&str, &[&str]); 10] = [
    ("reid-core", &[]),
    ("reid-kernels", &[]),
    ("reid-eval", &["reid-core", "reid-kernels"]),
    ("reid-ops", &["reid-kernels"]),
    ("reid-nn", &["reid-core", "reid-ops"]),
    ("reid-data", &["reid-core"]),
    ("reid-zoo", &["reid-core", "reid-nn"]),
    ("reid-vis", &["reid-core", "reid-data", "reid-eval"]),
    (
        "reid-train",
        &["reid-core", "reid-data", "reid-eval", "reid-nn", "reid-ops"],
    ),
    (
        "reid",
        &[
            "reid-core",
            "reid-data",
            "reid-eval",
            "reid-nn",
            "reid-train",
            "reid-vis",
            "reid-zoo",
        ],
    ),
];

/// Crates that do not know Burn.
const WITHOUT_BURN: [&str; 5] = [
    "reid-core",
    "reid-kernels",
    "reid-eval",
    "reid-data",
    "reid-vis",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn dependencies() -> BTreeMap<String, Vec<String>> {
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
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let packages = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|package| {
            let all = package["dependencies"]
                .as_array()
                .expect("dependencies")
                .iter();
            let normal = all.filter(|dependency| dependency["kind"].is_null());
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

#[test]
fn no_library_names_a_backend() {
    let features = ["flex", "ndarray", "wgpu", "cuda", "vulkan", "metal", "rocm"];
    for (name, _) in GRAPH.iter().filter(|(name, _)| *name != "reid") {
        let manifest = root().join("crates").join(name).join("Cargo.toml");
        let text = fs::read_to_string(manifest).expect("a manifest");
        let shipped = text.split("[dev-dependencies]").next().unwrap_or(&text);
        for feature in features {
            assert!(
                !shipped.contains(&format!("\"{feature}\"")),
                "{name} names {feature}"
            );
        }
    }
}
