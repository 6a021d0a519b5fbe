//! A simulated file system that can lose unflushed data in a power cut.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::faulty::Operation;

/// A change of the names in a folder, which a power cut may undo.
#[derive(Clone, Debug)]
pub(super) struct Change {
    folder: PathBuf,
    names: Vec<(String, Option<Node>)>,
}

/// Computes the content of an unflushed file after a power cut, from the flushed and the written content.
pub(super) type Content = fn(&[u8], &[u8]) -> Vec<u8>;

/// The index of a file or folder, which does not depend on its name.
type Node = usize;

#[derive(Clone, Debug)]
enum Entry {
    Folder(BTreeMap<String, Node>),
    File { durable: Vec<u8>, now: Vec<u8> },
}

/// A file system with the guarantees of POSIX. Flushed contents are durable, and so are the names in a
/// flushed folder. A power cut may keep or undo each other change independently.
#[derive(Clone, Debug)]
pub(super) struct Posix {
    nodes: Vec<Entry>,
    /// The names as a running process sees them.
    now: BTreeMap<PathBuf, Node>,
    /// The changes of names that were not flushed.
    pub(super) pending: Vec<Change>,
}

impl Posix {
    /// A file system with the content of a folder, all flushed.
    pub(super) fn of_folder(root: &Path) -> Self {
        let mut system = Self {
            nodes: Vec::new(),
            now: BTreeMap::new(),
            pending: Vec::new(),
        };
        system.read(root, root);
        system
    }

    fn read(&mut self, root: &Path, path: &Path) -> Node {
        let content = if path.is_dir() {
            let names = fs::read_dir(path).expect("a folder").map(|entry| {
                let entry = entry.expect("an entry");
                let node = self.read(root, &entry.path());
                (entry.file_name().into_string().expect("Unicode"), node)
            });
            Entry::Folder(names.collect())
        } else {
            let durable = fs::read(path).expect("a file");
            let now = durable.clone();
            Entry::File { durable, now }
        };
        self.nodes.push(content);
        let node = self.nodes.len() - 1;
        let name = path.strip_prefix(root).expect("inside").to_owned();
        self.now.insert(name, node);
        node
    }

    /// Whether the contents of all files are flushed.
    pub(super) fn is_flushed(&self) -> bool {
        let flushed = |content: &Entry| match content {
            Entry::Folder(_) => true,
            Entry::File { durable, now } => durable == now,
        };
        self.nodes.iter().all(flushed)
    }

    fn change(&mut self, names: Vec<(&Path, Option<Node>)>) {
        let folder = names[0].0.parent().expect("a folder").to_owned();
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let names = names.into_iter().map(|(path, node)| (name(path), node));
        let names = names.collect();
        self.pending.push(Change { folder, names });
    }

    pub(super) fn perform(&mut self, operation: &Operation) {
        match operation {
            Operation::CreateFolder(path) => {
                if !self.now.contains_key(path) {
                    self.add(path, Entry::Folder(BTreeMap::new()));
                }
            }
            Operation::Write(path, bytes) => {
                let content = bytes.clone();
                match self.now.get(path).map(|&node| &mut self.nodes[node]) {
                    Some(Entry::File { now, .. }) => *now = content,
                    _ => self.add(
                        path,
                        Entry::File {
                            durable: Vec::new(),
                            now: content,
                        },
                    ),
                }
            }
            Operation::SyncFile(path) => {
                if let Entry::File { durable, now } = &mut self.nodes[self.now[path]] {
                    durable.clone_from(now);
                }
            }
            Operation::SyncFolder(path) => {
                let (done, pending) = std::mem::take(&mut self.pending)
                    .into_iter()
                    .partition(|change| change.folder == *path);
                self.pending = pending;
                let node = self.now[path];
                settle(&mut self.nodes[node], &done);
            }
            Operation::Rename(from, to) => {
                let node = self.now[from];
                let inside: Vec<PathBuf> = self.now.keys().cloned().collect();
                for path in inside {
                    if let Ok(rest) = path.strip_prefix(from) {
                        let moved = self.now.remove(&path).expect("the path exists");
                        let path = if rest.as_os_str().is_empty() {
                            to.clone()
                        } else {
                            to.join(rest)
                        };
                        self.now.insert(path, moved);
                    }
                }
                self.change(vec![(from, None), (to, Some(node))]);
            }
            Operation::RemoveFile(path) | Operation::RemoveFolder(path) => {
                self.now.remove(path);
                self.change(vec![(path, None)]);
            }
        }
    }

    fn add(&mut self, path: &Path, content: Entry) {
        self.nodes.push(content);
        let node = self.nodes.len() - 1;
        self.now.insert(path.to_owned(), node);
        self.change(vec![(path, Some(node))]);
    }

    /// Writes the files after a power cut to a folder. The bits of `kept` select the unflushed changes of
    /// names that are kept, and `content` computes the contents of unflushed files.
    pub(super) fn after_power_cut(&self, kept: u64, content: Content, to: &Path) {
        let mut disk = self.clone();
        for (number, change) in self.pending.iter().enumerate() {
            if kept >> (number % 64) & 1 == 1
                && let Some(&folder) = self.now.get(&change.folder)
            {
                settle(&mut disk.nodes[folder], std::slice::from_ref(change));
            }
        }
        let root = disk.now[Path::new("")];
        disk.write_out(root, content, to);
    }

    fn write_out(&self, node: Node, content: Content, to: &Path) {
        match &self.nodes[node] {
            Entry::Folder(names) => {
                fs::create_dir_all(to).expect("a folder");
                for (name, &node) in names {
                    self.write_out(node, content, &to.join(name));
                }
            }
            Entry::File { durable, now } => {
                let bytes = if durable == now {
                    now.clone()
                } else {
                    content(durable, now)
                };
                fs::write(to, bytes).expect("a file");
            }
        }
    }
}

fn settle(folder: &mut Entry, changes: &[Change]) {
    let Entry::Folder(names) = folder else {
        panic!("only a folder has names");
    };
    for (name, node) in changes.iter().flat_map(|change| &change.names) {
        match node {
            Some(node) => drop(names.insert(name.clone(), *node)),
            None => drop(names.remove(name)),
        }
    }
}
