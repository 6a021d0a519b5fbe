//! Finds the files of this repository, for the tests that check them.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The root folder of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files in a folder of the repository and its subfolders, sorted. Skips hidden entries other than `.ci`,
/// and entries that `.gitignore` names.
pub(crate) fn files(folder: &str) -> Vec<PathBuf> {
    let ignored = fs::read_to_string(root().join(".gitignore")).expect("a .gitignore");
    let ignored: Vec<&str> = ignored.lines().map(|line| line.trim_matches('/')).collect();
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let inside = path.strip_prefix(root()).expect("inside").to_string_lossy();
            let name = path.file_name().expect("a name").to_string_lossy();
            let hidden = name.starts_with('.') && name != ".ci";
            if hidden || ignored.iter().any(|line| *line == inside || *line == name) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
