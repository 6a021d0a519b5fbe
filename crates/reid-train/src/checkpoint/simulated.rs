//! Saves that are stopped, fail or lose their power at every operation.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{
    files::{Disk, Files},
    generations::{Best, Check, Generations, Pointer, verify},
};
use crate::{error::Error, history::Scores};

const RUN: &str = "run";
const OLD: &str = "epoch-0001-step-00000";
const NEW: &str = "epoch-0002-step-00000";

/// The files of a checkpoint: each holds which one it belongs to.
fn parts(name: &str) -> Vec<(&'static str, Vec<u8>)> {
    let content = |part: &str| format!("{{\"{part}\": \"{name}\"}}").into_bytes();
    vec![
        ("model.bpk", content("model")),
        ("optimizer.bpk", content("optimizer")),
        ("state.json", content("state")),
    ]
}

fn scores(map: f64) -> Scores {
    Scores {
        mean_average_precision: map,
        rank_1: map,
    }
}

fn pointer(last: &str, best: &str) -> Pointer {
    Pointer {
        checkpoint: last.to_owned(),
        scores: None,
        best: Some(Best {
            checkpoint: best.to_owned(),
            scores: Some(scores(0.5)),
        }),
    }
}

/// Saves a checkpoint as a run does: the files, then that they count, then how they scored.
fn save<F: Files>(
    generations: &Generations<F>,
    name: &str,
    pointer: &Pointer,
) -> Result<(), Error> {
    let written = generations.write(name, parts(name).into_iter().map(Ok))?;
    let checkpoint = written.clone();
    generations.point(&Pointer {
        checkpoint,
        ..pointer.clone()
    })?;
    generations.point(&Pointer {
        checkpoint: written.clone(),
        scores: Some(scores(0.75)),
        best: Some(Best {
            checkpoint: written,
            scores: Some(scores(0.75)),
        }),
    })
}

/// A run with one checkpoint.
fn begun() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let generations = Generations::new(folder.path().join(RUN), Faulty::default());
    generations.create().expect("a new folder");
    save(&generations, OLD, &pointer(OLD, OLD)).expect("saved");
    folder
}

/// What must hold whenever a save was cut short: one of the two checkpoints is the last, whole, with a best
/// one that is whole too, and the run can save again. Gives the last checkpoint.
fn recovered(run: &Path) -> String {
    let generations = Generations::new(run.to_owned(), Faulty::default());
    generations.clean().expect("the folder can be used");
    let found = generations.pointer().expect("readable").expect("a pointer");
    let best = found.best.clone().expect("a best one").checkpoint;
    for name in [&found.checkpoint, &best] {
        assert!(name == OLD || name == NEW, "{name}");
        let folder = run.join(name);
        assert!(verify(&folder, Check::All).expect("whole"), "{name}");
        for (file, content) in parts(name) {
            assert_eq!(fs::read(folder.join(file)).expect("a file"), content);
        }
    }
    if found.checkpoint == OLD {
        assert_eq!(best, OLD);
    }
    save(&generations, NEW, &pointer(NEW, &best)).expect("the run goes on");
    let mut left: Vec<String> = fs::read_dir(run)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().unwrap())
        .collect();
    left.sort();
    let last = generations.pointer().expect("readable").expect("a pointer");
    assert_eq!(left, [last.checkpoint, "last.json".to_owned()]);
    found.checkpoint
}

/// One operation of a save.
#[derive(Clone, Debug)]
enum Operation {
    CreateFolder(PathBuf),
    Write(PathBuf, Vec<u8>),
    SyncFile(PathBuf),
    SyncFolder(PathBuf),
    Rename(PathBuf, PathBuf),
    RemoveFile(PathBuf),
    RemoveFolder(PathBuf),
}

impl Operation {
    fn apply(&self) -> io::Result<()> {
        match self {
            Self::CreateFolder(path) => Disk.create_folder(path),
            Self::Write(path, bytes) => Disk.write(path, bytes),
            // What it waits for makes no difference to a process, and it is slow.
            Self::SyncFile(_) | Self::SyncFolder(_) => Ok(()),
            Self::Rename(from, to) => Disk.rename(from, to),
            Self::RemoveFile(path) => Disk.remove_file(path),
            Self::RemoveFolder(path) => Disk.remove_folder(path),
        }
    }
}

/// A disk that keeps a list of what it is asked for, and fails as told.
#[derive(Default)]
struct Faulty {
    operations: RefCell<Vec<Operation>>,
    /// The operation that fails, counted from 0, and whether all those behind it do too.
    fails: Option<(usize, bool)>,
    /// Bytes that can still be written; a write that needs more writes these and fails.
    room: Option<Cell<usize>>,
}

impl Faulty {
    fn perform(&self, operation: Operation) -> io::Result<()> {
        let number = self.operations.borrow().len();
        self.operations.borrow_mut().push(operation.clone());
        if let Some((first, forever)) = self.fails
            && (number == first || (forever && number > first))
        {
            return Err(io::Error::other("a fault"));
        }
        if let (Some(room), Operation::Write(path, bytes)) = (&self.room, &operation) {
            let fits = room.get().min(bytes.len());
            room.set(room.get() - fits);
            Disk.write(path, &bytes[..fits])?;
            return if fits == bytes.len() {
                Ok(())
            } else {
                Err(io::ErrorKind::StorageFull.into())
            };
        }
        operation.apply()
    }
}

impl Files for Faulty {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.perform(Operation::CreateFolder(path.to_owned()))
    }
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.perform(Operation::Write(path.to_owned(), bytes.to_vec()))
    }
    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.perform(Operation::SyncFile(path.to_owned()))
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.perform(Operation::SyncFolder(path.to_owned()))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.perform(Operation::Rename(from.to_owned(), to.to_owned()))
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.perform(Operation::RemoveFile(path.to_owned()))
    }
    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.perform(Operation::RemoveFolder(path.to_owned()))
    }
}

/// The operations of a save that nothing disturbs, and the folder that it was made in.
fn undisturbed() -> (TempDir, Vec<Operation>) {
    let folder = begun();
    let generations = Generations::new(folder.path().join(RUN), Faulty::default());
    save(&generations, NEW, &pointer(NEW, OLD)).expect("saved");
    let operations = generations.files().operations.take();
    assert!(operations.len() > 20, "{operations:?}");
    (folder, operations)
}

#[test]
fn an_operation_that_fails_leaves_one_of_the_two_checkpoints() {
    let (_folder, operations) = undisturbed();
    for number in 0..operations.len() {
        for forever in [false, true] {
            let folder = begun();
            let run = folder.path().join(RUN);
            let faulty = Faulty {
                fails: Some((number, forever)),
                ..Faulty::default()
            };
            let saved = save(
                &Generations::new(run.clone(), faulty),
                NEW,
                &pointer(NEW, OLD),
            );
            let last = recovered(&run);
            assert!(saved.is_err() || last == NEW, "{:?}", operations[number]);
        }
    }
}

#[test]
fn a_disk_that_is_full_at_any_byte_leaves_one_of_the_two_checkpoints() {
    let (_folder, operations) = undisturbed();
    let written = |operation: &Operation| match operation {
        Operation::Write(_, bytes) => bytes.len(),
        _ => 0,
    };
    let whole: usize = operations.iter().map(written).sum();
    assert!(whole > 500);
    for room in 0..=whole {
        let folder = begun();
        let run = folder.path().join(RUN);
        let faulty = Faulty {
            room: Some(Cell::new(room)),
            ..Faulty::default()
        };
        let saved = save(
            &Generations::new(run.clone(), faulty),
            NEW,
            &pointer(NEW, OLD),
        );
        assert_eq!(saved.is_ok(), room == whole);
        assert!(!run.join(".draft").exists(), "a draft fills the disk");
        recovered(&run);
    }
}

/// A process that dies between two operations, or in a write after any number of bytes.
#[test]
fn a_kill_at_any_moment_leaves_one_of_the_two_checkpoints() {
    let (whole, operations) = undisturbed();
    let mut seen = [0, 0];
    let mut kill = |number: usize, bytes: Option<usize>| {
        let folder = begun();
        let moved = |path: &Path| folder.path().join(path.strip_prefix(whole.path()).unwrap());
        for operation in &operations[..number] {
            operation.moved(&moved).apply().expect("as before");
        }
        if let (Some(bytes), Some(Operation::Write(path, content))) =
            (bytes, operations.get(number))
        {
            Disk.write(&moved(path), &content[..bytes])
                .expect("written");
        }
        let last = recovered(&folder.path().join(RUN));
        seen[usize::from(last == NEW)] += 1;
    };
    for (number, operation) in operations.iter().enumerate() {
        kill(number, None);
        if let Operation::Write(_, content) = operation {
            for bytes in 0..=content.len() {
                kill(number, Some(bytes));
            }
        }
    }
    kill(operations.len(), None);
    assert!(seen[0] > 500 && seen[1] > 100, "{seen:?}");
}

impl Operation {
    /// The same in another folder.
    fn moved(&self, to: &impl Fn(&Path) -> PathBuf) -> Self {
        match self {
            Self::CreateFolder(path) => Self::CreateFolder(to(path)),
            Self::Write(path, bytes) => Self::Write(to(path), bytes.clone()),
            Self::SyncFile(path) => Self::SyncFile(to(path)),
            Self::SyncFolder(path) => Self::SyncFolder(to(path)),
            Self::Rename(one, other) => Self::Rename(to(one), to(other)),
            Self::RemoveFile(path) => Self::RemoveFile(to(path)),
            Self::RemoveFolder(path) => Self::RemoveFolder(to(path)),
        }
    }
}

/// A change of the names in a folder, which is there after a power cut or is not.
#[derive(Clone, Debug)]
struct Change {
    folder: PathBuf,
    names: Vec<(String, Option<Node>)>,
}

/// A file or folder, whatever it is called.
type Node = usize;

#[derive(Clone, Debug)]
enum Content {
    Folder(BTreeMap<String, Node>),
    File { durable: Vec<u8>, now: Vec<u8> },
}

/// A file system that promises what POSIX does: contents are safe after they were flushed, names after their
/// folder was; what was not flushed may be there or not, each change apart from the others.
#[derive(Clone, Debug)]
struct Posix {
    nodes: Vec<Content>,
    /// Names as a running process sees them.
    now: BTreeMap<PathBuf, Node>,
    /// Names as they are on the disk, by folder.
    pending: Vec<Change>,
}

impl Posix {
    /// A file system on which everything in a folder is safe.
    fn of_folder(root: &Path) -> Self {
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
            Content::Folder(names.collect())
        } else {
            let durable = fs::read(path).expect("a file");
            let now = durable.clone();
            Content::File { durable, now }
        };
        self.nodes.push(content);
        let node = self.nodes.len() - 1;
        let name = path.strip_prefix(root).expect("inside").to_owned();
        self.now.insert(name, node);
        node
    }

    /// Whether the content of every file is safe.
    fn is_flushed(&self) -> bool {
        let flushed = |content: &Content| match content {
            Content::Folder(_) => true,
            Content::File { durable, now } => durable == now,
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

    fn perform(&mut self, operation: &Operation) {
        match operation {
            Operation::CreateFolder(path) => {
                if !self.now.contains_key(path) {
                    self.add(path, Content::Folder(BTreeMap::new()));
                }
            }
            Operation::Write(path, bytes) => {
                let content = bytes.clone();
                match self.now.get(path).map(|&node| &mut self.nodes[node]) {
                    Some(Content::File { now, .. }) => *now = content,
                    _ => self.add(
                        path,
                        Content::File {
                            durable: Vec::new(),
                            now: content,
                        },
                    ),
                }
            }
            Operation::SyncFile(path) => {
                if let Content::File { durable, now } = &mut self.nodes[self.now[path]] {
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
                        let moved = self.now.remove(&path).expect("it is there");
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

    fn add(&mut self, path: &Path, content: Content) {
        self.nodes.push(content);
        let node = self.nodes.len() - 1;
        self.now.insert(path.to_owned(), node);
        self.change(vec![(path, Some(node))]);
    }

    /// What is on the disk after a power cut: of the changes that were not flushed those that `kept` names,
    /// and of the contents that were not flushed what `content` makes of them.
    fn after_power_cut(&self, kept: u64, content: fn(&[u8], &[u8]) -> Vec<u8>, to: &Path) {
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

    fn write_out(&self, node: Node, content: fn(&[u8], &[u8]) -> Vec<u8>, to: &Path) {
        match &self.nodes[node] {
            Content::Folder(names) => {
                fs::create_dir_all(to).expect("a folder");
                for (name, &node) in names {
                    self.write_out(node, content, &to.join(name));
                }
            }
            Content::File { durable, now } => {
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

fn settle(folder: &mut Content, changes: &[Change]) {
    let Content::Folder(names) = folder else {
        panic!("changes of names in a file");
    };
    for (name, node) in changes.iter().flat_map(|change| &change.names) {
        match node {
            Some(node) => drop(names.insert(name.clone(), *node)),
            None => drop(names.remove(name)),
        }
    }
}

#[test]
fn a_power_cut_at_any_moment_leaves_one_of_the_two_checkpoints() {
    let (whole, operations) = undisturbed();
    let start = begun();
    let relative = |path: &Path| path.strip_prefix(whole.path()).unwrap().to_owned();
    // What may be in a file that was not flushed.
    let contents: [fn(&[u8], &[u8]) -> Vec<u8>; 4] = [
        |durable, _| durable.to_vec(),
        |_, now| now[..now.len() / 2].to_vec(),
        |_, now| vec![0; now.len()],
        |_, now| now.to_vec(),
    ];
    let mut system = Posix::of_folder(start.path());
    let mut seen = [0, 0];
    for number in 0..=operations.len() {
        let changes = system.pending.len();
        assert!(changes <= 16, "{:?}", system.pending);
        for kept in choices(changes) {
            // Where everything was flushed they are all alike.
            let contents = if system.is_flushed() {
                &contents[..1]
            } else {
                &contents
            };
            for &content in contents {
                let folder = tempfile::tempdir().expect("a folder");
                system.after_power_cut(kept, content, folder.path());
                let last = recovered(&folder.path().join(RUN));
                seen[usize::from(last == NEW)] += 1;
            }
        }
        if let Some(operation) = operations.get(number) {
            system.perform(&operation.moved(&relative));
        }
    }
    assert!(seen[0] > 200 && seen[1] > 50, "{seen:?}");
}

/// Which of some changes are kept, as bits: every choice of few; of many none, all, each alone and all but
/// each.
fn choices(changes: usize) -> Vec<u64> {
    let all = (1_u64 << changes) - 1;
    if changes <= 4 {
        return (0..=all).collect();
    }
    let each = (0..changes).map(|number| 1 << number);
    let mut choices: Vec<u64> = each.flat_map(|one| [one, all ^ one]).collect();
    choices.extend([0, all]);
    choices
}

/// A save that flushes less than it should is found by these tests.
#[test]
fn the_model_of_a_power_cut_knows_what_flushing_is_for() {
    let (whole, operations) = undisturbed();
    let relative = |path: &Path| path.strip_prefix(whole.path()).unwrap().to_owned();
    let flushes = |operation: &&Operation| {
        matches!(operation, Operation::SyncFile(_) | Operation::SyncFolder(_))
    };
    assert!(operations.iter().filter(flushes).count() >= 10);
    let start = begun();
    let mut system = Posix::of_folder(start.path());
    // The folder of the run is flushed, but neither the files of the checkpoint nor their names.
    for operation in &operations {
        let of_run = matches!(operation, Operation::SyncFolder(path) if path.ends_with(RUN));
        if of_run || !flushes(&operation) {
            system.perform(&operation.moved(&relative));
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    system.after_power_cut(0, |durable, _| durable.to_vec(), folder.path());
    let generations = Generations::new(folder.path().join(RUN), Disk);
    let damaged = generations.pointer().is_err()
        || !matches!(
            verify(&folder.path().join(RUN).join(NEW), Check::All),
            Ok(true)
        );
    assert!(damaged, "without flushes a checkpoint is lost");
}
