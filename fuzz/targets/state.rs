//! Any bytes are read as a file of a run's folder or rejected: the pointers, the manifest and the state.
//! Files that contain a hash of themselves are fuzzed with and without a correct hash.
#![no_main]

use std::{fmt::Write, fs, sync::LazyLock};

use reid_fuzz::Folder;
use reid_train::{CheckpointKind, Checkpoints, LossesConfig};
use reid_zoo::BagOfTricksConfig;
use sha2::{Digest, Sha256};

const CHECKPOINT: &str = "epoch-0001-step-00000";
/// The files, and whether the correct hash is added to the input.
const FILES: [(&str, bool); 6] = [
    ("last.json", false),
    ("last.json", true),
    ("best.json", false),
    ("epoch-0001-step-00000/manifest.json", false),
    ("epoch-0001-step-00000/manifest.json", true),
    ("epoch-0001-step-00000/state.json", false),
];

static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let pointer = format!("{{\"checkpoint\":\"{CHECKPOINT}\"}}");
    let folder = Folder::with(["epoch-0001-step-00000/model.bpk"]);
    folder.write("last.json", pointer.as_bytes());
    folder
});

// The first byte selects the file.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&which, bytes)) = bytes.split_first() else { return };
    let (name, sealed) = FILES[usize::from(which) % FILES.len()];
    let path = FOLDER.path().join(name);
    let before = fs::read(&path).ok();
    FOLDER.write(name, &if sealed { seal(bytes) } else { bytes.to_vec() });
    check();
    match before {
        Some(before) => drop(FOLDER.write(name, &before)),
        None => fs::remove_file(path).expect("was written"),
    }
});

fn check() {
    let checkpoints = Checkpoints::new(FOLDER.path());
    for kind in [CheckpointKind::Last, CheckpointKind::Best] {
        if let Some(Some(folder)) = FOLDER.names(checkpoints.find(kind)) {
            assert_eq!(folder.parent(), Some(FOLDER.path()), "the checkpoint is outside this run");
        }
    }
    let checkpoint = FOLDER.path().join(CHECKPOINT);
    if let Some(history) = FOLDER.names(Checkpoints::history(&checkpoint)) {
        for epoch in history {
            assert!(epoch.loss.is_finite() && epoch.learning_rate.is_finite());
        }
        let classes = Checkpoints::classes(&checkpoint).expect("a valid checkpoint");
        assert!(classes.identities().is_sorted_by(|one, other| one < other));
        FOLDER.names(Checkpoints::recipe::<BagOfTricksConfig, LossesConfig>(&checkpoint));
    }
}

/// Appends the SHA-256 of a JSON object to it as its last field.
fn seal(json: &[u8]) -> Vec<u8> {
    let mut hash = String::new();
    for byte in Sha256::digest(json) {
        write!(hash, "{byte:02x}").expect("in memory");
    }
    let open = json.strip_suffix(b"}").unwrap_or(json);
    [open, b",\"sha256\":\"", hash.as_bytes(), b"\"}"].concat()
}
