//! Tests of saves that are killed, fail or lose power at every operation.

mod faulty;
mod posix;

use std::{cell::Cell, fs, path::Path};

use tempfile::TempDir;

use self::{
    faulty::{Faulty, Operation},
    posix::{Content, Posix},
};
use super::{
    files::{Disk, Files},
    generations::{Best, Check, Generations, Pointer, verify},
};
use crate::{error::Error, history::Scores};

const RUN: &str = "run";
const OLD: &str = "epoch-0001-step-00000";
const NEW: &str = "epoch-0002-step-00000";

/// The files of a checkpoint. Each contains the name of the checkpoint.
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
        mean_average_precision: Some(map),
        rank_1: Some(map),
        ..Scores::default()
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

/// Saves a checkpoint as a run does: the files, then the pointer, then the pointer with scores.
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
fn run_with_one_checkpoint() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let generations = Generations::new(folder.path().join(RUN), Faulty::default());
    generations.create().expect("a new folder");
    save(&generations, OLD, &pointer(OLD, OLD)).expect("saved");
    folder
}

/// Asserts what must hold after an interrupted save: the last and the best checkpoint are complete, each is
/// one of the two, and the run can save again. Returns the last checkpoint.
fn recovered(run: &Path) -> String {
    let generations = Generations::new(run.to_owned(), Faulty::default());
    generations.clean().expect("the folder can be used");
    let found = generations.pointer().expect("readable").expect("a pointer");
    let best = found.best.clone().expect("a best one").checkpoint;
    for name in [&found.checkpoint, &best] {
        assert!(name == OLD || name == NEW, "{name}");
        let folder = run.join(name);
        assert!(
            verify(&folder, Check::All).expect("a complete checkpoint"),
            "{name}"
        );
        for (file, content) in parts(name) {
            assert_eq!(fs::read(folder.join(file)).expect("a file"), content);
        }
    }
    if found.checkpoint == OLD {
        assert_eq!(best, OLD);
    }
    save(&generations, NEW, &pointer(NEW, &best)).expect("the run continues");
    let mut left: Vec<String> = fs::read_dir(run)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().unwrap())
        .collect();
    left.sort();
    let last = generations.pointer().expect("readable").expect("a pointer");
    assert_eq!(left, [last.checkpoint, "last.json".to_owned()]);
    found.checkpoint
}

/// The operations of a save that succeeds, and the folder of the run.
fn successful_save() -> (TempDir, Vec<Operation>) {
    let folder = run_with_one_checkpoint();
    let generations = Generations::new(folder.path().join(RUN), Faulty::default());
    save(&generations, NEW, &pointer(NEW, OLD)).expect("saved");
    let operations = generations.files().operations.take();
    assert!(operations.len() > 20, "{operations:?}");
    (folder, operations)
}

#[test]
fn an_operation_that_fails_leaves_one_of_the_two_checkpoints() {
    let (_folder, operations) = successful_save();
    for (number, operation) in operations.iter().enumerate() {
        for forever in [false, true] {
            let folder = run_with_one_checkpoint();
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
            assert!(saved.is_err() || last == NEW, "{operation:?}");
        }
    }
}

#[test]
fn a_disk_that_is_full_at_any_byte_leaves_one_of_the_two_checkpoints() {
    let (_folder, operations) = successful_save();
    let written = |operation: &Operation| match operation {
        Operation::Write(_, bytes) => bytes.len(),
        _ => 0,
    };
    let whole: usize = operations.iter().map(written).sum();
    assert!(whole > 500);
    for room in 0..=whole {
        let folder = run_with_one_checkpoint();
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
        assert!(
            !run.join(".draft").exists(),
            "the draft must be removed from the full disk"
        );
        recovered(&run);
    }
}

/// The process is killed between two operations, or in a write after any number of bytes.
#[test]
fn a_kill_at_any_moment_leaves_one_of_the_two_checkpoints() {
    let (whole, operations) = successful_save();
    let mut seen = [0, 0];
    let mut kill = |number: usize, bytes: Option<usize>| {
        let folder = run_with_one_checkpoint();
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

#[test]
fn a_power_cut_at_any_moment_leaves_one_of_the_two_checkpoints() {
    let (whole, operations) = successful_save();
    let start = run_with_one_checkpoint();
    let relative = |path: &Path| path.strip_prefix(whole.path()).unwrap().to_owned();
    // The possible contents of a file that was not flushed.
    let contents: [Content; 4] = [
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
            // If everything was flushed, all contents are equal.
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

/// Selections of changes that are kept, as bits. Of up to 4 changes: all selections. Of more: none, all, each
/// single change, and all but each.
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

/// The simulated power cut detects a save that does not flush.
#[test]
fn a_save_without_flushes_loses_a_checkpoint() {
    let (whole, operations) = successful_save();
    let relative = |path: &Path| path.strip_prefix(whole.path()).unwrap().to_owned();
    let flushes = |operation: &&Operation| {
        matches!(operation, Operation::SyncFile(_) | Operation::SyncFolder(_))
    };
    assert!(operations.iter().filter(flushes).count() >= 10);
    let start = run_with_one_checkpoint();
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
    assert!(damaged, "a save without flushes must lose a checkpoint");
}
