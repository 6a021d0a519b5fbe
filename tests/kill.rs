//! Kills a training process and resumes it: at random moments, at every system call of a save, on a full disk
//! and on a disk that fails to flush. No checkpoint may be lost, and the final weights must be bit-identical
//! to those of an uninterrupted run.
//!
//! ```sh
//! cargo test --test kill                                     # a few kills, as in CI
//! KILLS=1000 cargo test --test kill -- --ignored --nocapture --test-threads 1   # the full report
//! ```
//!
//! The second command needs `strace`, which injects signals and errors into system calls.
#![cfg(unix)]
#![expect(clippy::print_stderr, reason = "prints what was lost, and why")]

use std::{
    env, fmt, fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::Tensor,
};
use rand::RngExt as _;
use reid::{
    data::dataset::market1501,
    nn::{backbone::ResNetConfig, head::BnNeckConfig},
    prelude::*,
    synthetic::SyntheticConfig,
    train::Swa,
};
use tempfile::TempDir;

/// The environment variables with the data folder and the run folder of the child process.
const DATA: &str = "REID_KILL_DATA";
const RUN: &str = "REID_KILL_RUN";
/// The file with the final weights, which the child process writes last.
const BITS: &str = "bits";

/// Not a test: the child process that the tests kill. It resumes a run, and stops when it is interrupted.
#[test]
#[ignore = "the child process that the other tests start"]
fn child() {
    let (Some(data), Some(run)) = (env::var_os(DATA), env::var_os(RUN)) else {
        return;
    };
    let run = PathBuf::from(run);
    let interrupt = Interrupt::new();
    let handler = interrupt.clone();
    ctrlc::set_handler(move || handler.request()).expect("the signal handler is installed");
    let outcome = train(Path::new(&data), &run, interrupt);
    if !outcome.0 {
        // The tests also inject faults into this write.
        let draft = run.join("bits.draft");
        fs::write(&draft, outcome.1).expect("written");
        fs::rename(draft, run.join(BITS)).expect("renamed");
    }
}

/// Trains until the run ends or is interrupted. Returns whether it was interrupted, and the bytes of all
/// parameters, also of the average.
fn train(data: &Path, run: &Path, interrupt: Interrupt) -> (bool, Vec<u8>) {
    let splits = market1501::load(data).expect("the dataset is readable");
    let backbone = ResNetConfig::resnet18().with_width(4).with_last_stride(1);
    let network = (backbone, BnNeckConfig::new());
    let mut recipe = Recipe::strong_baseline("killed", InputSize::new(32, 16), network);
    (recipe.epochs, recipe.evaluate_every) = (6, 1);
    (recipe.sampling.identities, recipe.sampling.images) = (2, 2);
    // The last two epochs are averaged and saved twice: before and after the renewal of their statistics.
    (recipe.swa, recipe.renewal_batches) = (Some(Swa::from_epoch(4)), Some(2));
    let recipe = recipe.with_center_loss(5e-4, 0.5);
    let device = device::pick_named("flex").expect("the flex backend is compiled in");
    let loading = LoaderConfig::default();
    let outcome = Trainer::new(&recipe, &splits, loading, &device)
        .expect("a valid recipe")
        .with_checkpoints(Checkpoints::new(run))
        .with_interrupt(interrupt)
        .resume()
        .expect("it resumes")
        .run(&mut ())
        .expect("it trains");
    let mut bits = Bits(Vec::new());
    outcome.learner.model.visit(&mut bits);
    outcome.learner.criterion.visit(&mut bits);
    outcome.model().visit(&mut bits);
    (outcome.interrupted, bits.0)
}

struct Bits(Vec<u8>);

impl ModuleVisitor for Bits {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let data = param.val().into_data();
        self.0.extend(data.iter::<f32>().flat_map(f32::to_le_bytes));
    }
}

/// A synthetic dataset, and the final weights of an uninterrupted run on it.
struct Fixture {
    folder: TempDir,
    expected: Vec<u8>,
    /// The duration of the uninterrupted run.
    time: Duration,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        SyntheticConfig::new()
            .with_train_identities(4)
            .with_test_identities(2)
            .with_cameras(2)
            .write(folder.path().join("data"))
            .expect("the synthetic dataset is written");
        let fixture = Self {
            folder,
            expected: Vec::new(),
            time: Duration::ZERO,
        };
        let (run, started) = (fixture.run("whole"), Instant::now());
        let output = fixture.child(&run).output().expect("a process");
        assert!(output.status.success(), "{output:?}");
        let time = started.elapsed();
        let expected = fs::read(run.join(BITS)).expect("the bits of the weights");
        assert!(!expected.is_empty());
        Self {
            expected,
            time,
            ..fixture
        }
    }

    fn run(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The child process, which resumes a run.
    fn child(&self, run: &Path) -> Command {
        self.wrapped(Command::new(env::current_exe().expect("this test")), run)
    }

    /// The child process, started by `strace` with these arguments.
    fn traced(&self, run: &Path, arguments: &[String]) -> Command {
        let mut command = Command::new("strace");
        command
            .args(["-f", "-qq", "-o", "/dev/null"])
            .args(arguments);
        command.arg(env::current_exe().expect("this test"));
        self.wrapped(command, run)
    }

    fn wrapped(&self, mut command: Command, run: &Path) -> Command {
        command
            .args(["--exact", "child", "--ignored", "--test-threads", "1"])
            .env(DATA, self.folder.path().join("data"))
            .env(RUN, run)
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// Counts of faults and of their consequences.
#[derive(Debug, Default)]
struct Tally {
    /// Processes that were killed or that failed because of an injected error.
    faults: usize,
    /// Processes that stopped on their own after an interrupt.
    stopped: usize,
    /// Runs that finished.
    ended: usize,
    /// Runs that could not be resumed, or whose last checkpoint was earlier than before the fault.
    lost: usize,
    /// Runs whose final weights differ from those of the uninterrupted run.
    different: usize,
    /// Files that a finished run left, other than its last and best checkpoint.
    litter: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            faults,
            stopped,
            ended,
            lost,
            different,
            litter,
        } = self;
        write!(
            f,
            "faults {faults}, interrupted {stopped}, runs finished {ended}: \
             lost {lost}, different weights {different}, files left over {litter}"
        )
    }
}

impl Tally {
    fn assert_nothing_is_lost(&self) {
        assert_eq!(
            (self.lost, self.different, self.litter),
            (0, 0, 0),
            "{self}"
        );
    }
}

/// A run into which faults are injected again and again.
struct FaultyRun<'a> {
    fixture: &'a Fixture,
    run: PathBuf,
    /// The name of the last checkpoint after the previous fault.
    seen: Option<String>,
    tally: Tally,
}

impl<'a> FaultyRun<'a> {
    fn new(fixture: &'a Fixture, name: &str) -> Self {
        Self {
            fixture,
            run: fixture.run(name),
            seen: None,
            tally: Tally::default(),
        }
    }

    /// Counts a process that exited with success.
    fn ended(&mut self) {
        let Ok(bits) = fs::read(self.run.join(BITS)) else {
            self.tally.stopped += 1;
            return;
        };
        self.tally.ended += 1;
        if bits != self.fixture.expected {
            self.tally.different += 1;
        }
        let checkpoints = Checkpoints::new(&self.run);
        let find = |kind| checkpoints.find(kind).expect("readable").expect("saved");
        let kept = [find(CheckpointKind::Last), find(CheckpointKind::Best)];
        let kept = kept.map(|path| path.file_name().expect("a name").to_owned());
        let known = ["last.json", "recipe.json", ".lock", BITS];
        for entry in fs::read_dir(&self.run).expect("a folder") {
            let name = entry.expect("an entry").file_name();
            if !kept.contains(&name) && !known.iter().any(|known| name == *known) {
                eprintln!("left over: {}", name.display());
                self.tally.litter += 1;
            }
        }
        fs::remove_dir_all(&self.run).expect("removed");
        self.seen = None;
    }

    /// Checks the last checkpoint after a fault: it must be complete and no earlier than before.
    fn check_checkpoint(&mut self) {
        self.tally.faults += 1;
        let last = match Checkpoints::new(&self.run).find(CheckpointKind::Last) {
            Ok(last) => last,
            Err(error) => return self.lost(&error.to_string()),
        };
        let name = last.as_ref().map(|path| {
            let name = path.file_name().expect("a name");
            name.to_str().expect("Unicode").to_owned()
        });
        if name < self.seen {
            return self.lost(&format!(
                "the last checkpoint was {:?} and is {name:?}",
                self.seen
            ));
        }
        if let Some(path) = last
            && let Err(error) = Checkpoints::history(&path)
        {
            return self.lost(&error.to_string());
        }
        self.seen = name;
    }

    fn lost(&mut self, why: &str) {
        eprintln!("lost after {} faults: {why}", self.tally.faults);
        self.tally.lost += 1;
        let aside = self.run.with_extension(format!("lost-{}", self.tally.lost));
        fs::rename(&self.run, aside).expect("the lost run is moved aside");
        self.seen = None;
    }

    /// Counts a process that was not killed, by its exit status.
    fn finished(&mut self, child: Child) {
        const INTERRUPTED: i32 = 2;
        let output = child.wait_with_output().expect("its output");
        if output.status.success() {
            self.ended();
        } else if output.status.signal() == Some(INTERRUPTED) {
            // It had not installed its signal handler yet.
            self.check_checkpoint();
        } else {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            self.lost(&text);
        }
    }

    /// Kills processes at random moments until the number of faults is `kills`. With `grace`, each process is
    /// interrupted first and killed up to 60 ms later, as job schedulers do.
    fn kill_at_random(mut self, kills: usize, grace: bool) -> Tally {
        let mut stream = Seed::new(if grace { 2 } else { 1 }).named("kills").stream();
        let longest = self.fixture.time.as_secs_f64();
        while self.tally.faults < kills {
            let mut child = self.fixture.child(&self.run).spawn().expect("a process");
            thread::sleep(Duration::from_secs_f64(stream.random_range(0.0..longest)));
            if grace && child.try_wait().expect("a process").is_none() {
                let pid = child.id().to_string();
                let _ = Command::new("kill").args(["-INT", &pid]).status();
                thread::sleep(Duration::from_secs_f64(stream.random_range(0.0..0.06)));
            }
            if child.try_wait().expect("a process").is_some() {
                self.finished(child);
                continue;
            }
            child.kill().expect("killed");
            child.wait().expect("a process");
            self.check_checkpoint();
        }
        self.tally
    }

    /// Injects a fault into the first system call of a kind, then into the second, and so on, until a run
    /// finishes without a fault. After each fault, the run is resumed without faults.
    fn inject_each(mut self, calls: &str, how: &str) -> Tally {
        for number in 1.. {
            let inject = format!("inject={calls}:{how}:when={number}");
            let trace = format!("trace={calls}");
            let arguments = ["-e".to_owned(), trace, "-e".to_owned(), inject];
            let mut traced = self.fixture.traced(&self.run, &arguments);
            let output = traced.output().expect("strace");
            if self.run.join(BITS).exists() {
                self.ended();
                break;
            }
            assert!(!output.status.success(), "{output:?}");
            if self.run.exists() {
                self.check_checkpoint();
            }
            let rest = self.fixture.child(&self.run).spawn().expect("a process");
            self.finished(rest);
        }
        self.tally
    }
}

fn kills() -> Option<usize> {
    env::var("KILLS").ok()?.parse().ok()
}

#[test]
fn a_few_kills_lose_nothing() {
    let fixture = Fixture::new();
    for (name, grace) in [("plain", false), ("grace", true)] {
        let tally = FaultyRun::new(&fixture, name).kill_at_random(8, grace);
        tally.assert_nothing_is_lost();
    }
}

#[test]
#[ignore = "takes over ten minutes: KILLS=1000 cargo test --test kill -- --ignored --nocapture"]
fn many_kills_lose_nothing() {
    let fixture = Fixture::new();
    let kills = kills().unwrap_or(1000);
    for (name, grace, kills) in [
        ("SIGKILL", false, kills.div_ceil(2)),
        ("SIGINT, then SIGKILL", true, kills / 2),
    ] {
        let tally = FaultyRun::new(&fixture, name).kill_at_random(kills, grace);
        println!("{name}: {tally}");
        tally.assert_nothing_is_lost();
    }
}

/// The system calls of a save, except opening files.
const CALLS: [&str; 6] = ["write", "fsync", "rename", "mkdir", "unlink", "rmdir"];

#[test]
#[ignore = "needs strace: cargo test --test kill -- --ignored --nocapture"]
fn a_kill_at_every_system_call_of_a_save_loses_nothing() {
    let fixture = Fixture::new();
    for call in CALLS {
        let name = format!("kill-{call}");
        let tally = FaultyRun::new(&fixture, &name).inject_each(call, "signal=SIGKILL");
        println!("SIGKILL at each {call}: {tally}");
        assert!(tally.faults > 0, "{call}: {tally}");
        tally.assert_nothing_is_lost();
    }
}

#[test]
#[ignore = "needs strace: cargo test --test kill -- --ignored --nocapture"]
fn a_disk_that_is_full_or_fails_loses_nothing() {
    let fixture = Fixture::new();
    let faults = [
        ("fsync", "error=EIO"),
        ("write", "error=ENOSPC"),
        ("rename", "error=EIO"),
        ("mkdir", "error=ENOSPC"),
    ];
    for (call, how) in faults {
        let name = format!("fail-{call}");
        let tally = FaultyRun::new(&fixture, &name).inject_each(call, how);
        println!("{how} at each {call}: {tally}");
        assert!(tally.faults > 0, "{call}: {tally}");
        tally.assert_nothing_is_lost();
    }
}
