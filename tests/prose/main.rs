//! Checks the words, sentences, links and code blocks of comments and documentation.
//!
//! Each check reports all findings with file and line. Spelling is checked by `typos`, see `.ci/run`.

use std::{fs, path::Path};

#[path = "../repository/mod.rs"]
mod repository;

mod blocks;
mod lexer;
mod links;
mod markdown;
mod sentences;
mod terms;
mod words;

/// What a check reports: a line number, counted from 1, and a message.
type Finding = (usize, String);

/// A text file of the repository.
struct TextFile {
    /// The path from the root of the repository.
    name: String,
    text: String,
}

impl TextFile {
    fn is(&self, extension: &str) -> bool {
        Path::new(&self.name).extension() == Some(extension.as_ref())
    }
}

/// Reads the Rust, Markdown and Python files and the shell scripts of the repository.
fn text_files() -> Vec<TextFile> {
    let mut files: Vec<TextFile> = repository::files("")
        .into_iter()
        .filter_map(|path| {
            let name = path.strip_prefix(repository::root()).expect("inside");
            let name = name.to_str().expect("a UTF-8 path").replace('\\', "/");
            let extension = path.extension().unwrap_or_default();
            let checked = ["rs", "md", "py"].iter().any(|known| extension == *known);
            let text = (checked
                || [".ci/run", "fuzz/run", "docs/guide/run"].contains(&name.as_str()))
            .then(|| fs::read_to_string(&path).expect("text"))?;
            Some(TextFile { name, text })
        })
        .collect();
    // The tables and the examples of these checks contain the words.
    files.retain(|file| !file.name.starts_with("tests/prose/"));
    assert!(
        files.len() > 100,
        "expected more than 100 files, found {}",
        files.len()
    );
    files
}

/// Panics with all findings, if there are any.
fn assert_none(found: Vec<(&TextFile, Vec<Finding>)>) {
    let lines: Vec<String> = found
        .into_iter()
        .flat_map(|(file, findings)| {
            let lines = findings.into_iter();
            lines.map(|(line, message)| format!("{}:{line}: {message}", file.name))
        })
        .collect();
    assert!(
        lines.is_empty(),
        "{} findings:\n{}",
        lines.len(),
        lines.join("\n")
    );
}

#[test]
fn words_are_the_terms_of_the_field() {
    let files = text_files();
    let found = files
        .iter()
        .map(|file| (file, words::findings(&file.name, &file.text)));
    assert_none(found.collect());
}

#[test]
fn sentences_are_short() {
    let files = text_files();
    let documents = files.iter().filter(|file| file.is("md"));
    let documents = documents.map(|file| (file, sentences::findings(&file.text)));
    let sources = files.iter().filter(|file| file.is("rs"));
    let sources = sources.map(|file| {
        let document = sentences::doc_comments(&file.text);
        (file, sentences::findings(&document))
    });
    assert_none(documents.chain(sources).collect());
}

#[test]
fn links_lead_to_files_and_headings() {
    // The links of a template are those of the page that is written from it.
    let template = "benches/results/page.md";
    let files = text_files();
    let documents = files
        .iter()
        .filter(|file| file.is("md") && file.name != template);
    let found = documents.map(|file| (file, links::findings(repository::root(), file)));
    assert_none(found.collect());
}

#[test]
fn code_blocks_run() {
    let files = text_files();
    let tested = blocks::doc_tested(&files);
    let documents = files.iter().filter(|file| file.is("md"));
    let found = documents.map(|file| {
        let tested = tested.contains(&file.name);
        let findings = blocks::findings(repository::root(), &file.text, tested);
        (file, findings)
    });
    assert_none(found.collect());
}
