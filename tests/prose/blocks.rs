//! Reports code blocks that nothing runs, and commands whose files do not exist.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

use crate::{Finding, TextFile, markdown};

/// The documents that are doc tests: those that a Rust file includes with `doc = include_str!("…")`.
pub(crate) fn doc_tested(files: &[TextFile]) -> BTreeSet<String> {
    let sources = files.iter().filter(|file| file.is("rs"));
    let documents = sources.flat_map(|file| {
        let folder = Path::new(&file.name).parent().expect("a folder");
        let rests = file.text.split("doc = include_str!(\"").skip(1);
        let paths = rests.filter_map(|rest| rest.split('"').next());
        paths.map(|path| resolved(&folder.join(path)))
    });
    documents.collect()
}

/// A relative path without `..`, with slashes.
fn resolved(path: &Path) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(parts.pop()),
            Component::Normal(name) => parts.push(name.to_str().expect("UTF-8")),
            _ => {}
        }
    }
    parts.join("/")
}

/// Finds the blocks of a document without a language, and the Rust blocks that no test compiles. Finds the
/// commands, in blocks and in code spans, that name what is not below `root`. `tested`: the document is a doc
/// test.
pub(crate) fn findings(root: &Path, text: &str, tested: bool) -> Vec<Finding> {
    let (outside, blocks) = markdown::split(text);
    let mut found = Vec::new();
    for block in blocks {
        let mut options = block.info.split(',').map(str::trim);
        match options.next().unwrap_or_default() {
            "" => found.push((block.line, "name the language of the block".to_owned())),
            "rust" if options.any(|option| option.starts_with("ignore")) => {
                let message =
                    "an ignored block: make it compile, or mark code of an old version as `text`";
                found.push((block.line, message.to_owned()));
            }
            "rust" if !tested => {
                let message = "no test compiles the block: include the document with \
                               `#[cfg(doctest)] #[doc = include_str!(\"…\")]`";
                found.push((block.line, message.to_owned()));
            }
            "sh" => {
                for (line, command) in commands(&block.lines) {
                    found.extend(missing(root, &command).map(|message| (line, message)));
                }
            }
            "bash" | "shell" | "console" => {
                found.push((block.line, "name the language `sh`".to_owned()));
            }
            _ => {}
        }
    }
    for (line, text) in outside {
        let spans = markdown::spans(text).into_iter();
        for (_, span) in spans.filter(|(code, _)| *code) {
            found.extend(missing(root, span).map(|message| (line, message)));
        }
    }
    found.sort();
    found
}

/// The commands of the lines of a shell script, without comments. A backslash continues a command.
fn commands(lines: &[markdown::Line<'_>]) -> Vec<(usize, String)> {
    let mut commands: Vec<(usize, String)> = Vec::new();
    let mut continues = false;
    for (number, line) in lines {
        let code = format!(" {line}");
        let code = code.split(" #").next().unwrap_or_default().trim();
        let part = code.trim_end_matches('\\');
        match commands.last_mut() {
            Some((_, command)) if continues => command.push_str(part),
            _ => commands.push((*number, part.to_owned())),
        }
        continues = part.len() < code.len();
    }
    commands
}

/// Says what a command names that does not exist: an example, test or benchmark of Cargo, or a script.
fn missing(root: &Path, command: &str) -> Option<String> {
    let mut words = command.split_whitespace().peekable();
    while words.next_if(|word| is_assignment(word)).is_some() {}
    let program = words.next()?;
    let arguments: Vec<&str> = words.collect();
    let script = |path: &str| {
        let exists = root.join(path).exists();
        (!exists).then(|| format!("`{command}`: {path} does not exist"))
    };
    match program {
        "cargo" => missing_target(root, &arguments).map(|what| format!("`{command}`: {what}")),
        "bash" | "sh" | "python" | "python3" => {
            let first = arguments.first()?;
            (!first.starts_with('-')).then(|| script(first)).flatten()
        }
        // A path of a script. Code spans hold other things with slashes, so there must be arguments.
        path if path.contains('/') && !arguments.is_empty() => {
            let folder = path.split('/').find(|part| *part != ".")?;
            root.join(folder).exists().then(|| script(path)).flatten()
        }
        _ => None,
    }
}

fn is_assignment(word: &str) -> bool {
    let name = |name: &str| {
        name.bytes()
            .all(|b| b.is_ascii_uppercase() || b == b'_' || b.is_ascii_digit())
    };
    word.split_once('=').is_some_and(|(before, _)| name(before))
}

/// Says which target of a command of Cargo does not exist.
fn missing_target(root: &Path, arguments: &[&str]) -> Option<String> {
    let end = arguments.iter().position(|word| *word == "--");
    let arguments = &arguments[..end.unwrap_or(arguments.len())];
    let values = |flag: &str| {
        let pairs = arguments.windows(2);
        let values = pairs
            .filter(move |pair| pair[0] == flag)
            .map(|pair| pair[1]);
        values.collect::<Vec<_>>()
    };
    let packages = [values("--package"), values("-p")].concat();
    let mut folder = root.to_path_buf();
    for package in packages.into_iter().filter(|package| *package != "reid") {
        folder = root.join("crates").join(package);
        if !folder.exists() {
            return Some(format!("there is no package {package}"));
        }
    }
    let kinds = [
        ("--example", "examples"),
        ("--test", "tests"),
        ("--bench", "benches"),
    ];
    for (flag, kind) in kinds {
        for name in values(flag) {
            let placeholder = !name.starts_with(|c: char| c.is_ascii_alphanumeric());
            let target = folder.join(kind).join(name);
            let files: [PathBuf; 2] = [target.with_extension("rs"), target.join("main.rs")];
            if !placeholder && !files.iter().any(|file| file.exists()) {
                return Some(format!("there is no {name} in {kind}"));
            }
        }
    }
    None
}

#[test]
fn blocks_without_language_or_test_are_reported() {
    let root = crate::repository::root();
    let lines = |text: &str, tested| {
        let found = findings(root, text, tested).into_iter();
        found.map(|(line, _)| line).collect::<Vec<_>>()
    };
    assert_eq!(lines("a\n```\nb\n```", true), [2]);
    assert_eq!(lines("```text\nb\n```", false), [0; 0]);
    assert_eq!(lines("```rust\nb\n```", true), [0; 0]);
    assert_eq!(lines("```rust\nb\n```", false), [1]);
    assert_eq!(lines("```rust,no_run\nb\n```", true), [0; 0]);
    assert_eq!(lines("```rust,ignore\nb\n```", true), [1]);
    assert_eq!(lines("```bash\nb\n```", true), [1]);
}

#[test]
fn included_documents_are_doc_tests() {
    let file = |name: &str, text: &str| TextFile {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    let files = [
        file(
            "crates/a/src/lib.rs",
            "#![doc = include_str!(\"../README.md\")]",
        ),
        file(
            "b/lib.rs",
            "#[doc = include_str!(\"../docs/C.md\")]\nstruct C;",
        ),
        file("d.rs", "let text = include_str!(\"d.md\");"),
    ];
    let tested = doc_tested(&files).into_iter().collect::<Vec<_>>();
    assert_eq!(tested, ["crates/a/README.md", "docs/C.md"]);
}

#[test]
fn commands_that_name_what_does_not_exist_are_reported() {
    let root = crate::repository::root();
    let lines = |text: &str| {
        let found = findings(root, text, false).into_iter();
        found.map(|(line, _)| line).collect::<Vec<_>>()
    };
    for command in [
        "cargo test --workspace",
        "A=1 cargo test --test prose -- --test none",
        "cargo test --test architecture  # none/none.py",
        "cargo run --example …",
        "cargo test --package reid-eval \\\n  --test files",
        "bash .ci/run",
        "python3 -m none",
        "pip install none",
    ] {
        assert_eq!(
            lines(&format!("```sh\n{command}\n```")),
            [0; 0],
            "{command}"
        );
        assert_eq!(lines(&format!("`{}`", command.replace("\\\n", ""))), [0; 0]);
    }
    for command in [
        "cargo run --release --example none",
        "A=1 cargo test --test none",
        "cargo test \\\n  --test none",
        "cargo bench --bench none",
        "cargo test -p none",
        "cargo test --package reid-eval --test prose",
        "python3 tests/none.py",
        "bash none",
        "fuzz/none csv",
        "./tests/none a",
    ] {
        assert_eq!(lines(&format!("```sh\n{command}\n```")), [2], "{command}");
        let span = format!("a `{}`", command.replace("\\\n", ""));
        assert_eq!(lines(&span), [1], "{command}");
    }
}
