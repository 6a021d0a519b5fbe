//! Reports sentences that are too long to read.
//!
//! A sentence may be longer if the line before the one in which it begins is a comment that says why:
//! `<!-- long: reason -->`.

use crate::{Finding, markdown};

/// The largest number of words of a sentence. A code span is one word.
const LONGEST: usize = 35;

/// Abbreviations, which end no sentence.
const ABBREVIATIONS: [&str; 12] = [
    "e.g.", "i.e.", "al.", "cf.", "vs.", "eq.", "eqs.", "fig.", "sec.", "p.", "pp.", "no.",
];

/// Finds the sentences of a document that are too long. Finds comments that allow a long sentence where there
/// is none, or without a reason. Code blocks, tables and headings contain no sentences.
pub(crate) fn findings(text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    // The line number of a comment that has allowed no sentence yet.
    let mut allowed: Option<usize> = None;
    let unused = |line: Option<usize>| {
        line.map(|line| (line, "no long sentence begins in the next line".to_owned()))
    };
    for paragraph in paragraphs(text) {
        if let Paragraph::Comment(line, reason) = paragraph {
            found.extend(unused(allowed.replace(line)));
            if reason.is_empty() {
                found.push((line, "say why: `<!-- long: reason -->`".to_owned()));
            }
            continue;
        }
        let Paragraph::Text(lines) = paragraph else {
            continue;
        };
        for (line, words) in sentences(&lines) {
            if words.len() <= LONGEST {
                continue;
            }
            if allowed == Some(line - 1) {
                allowed = None;
                continue;
            }
            let start = words[..6].join(" ");
            let message = format!("{} words, at most {LONGEST}: {start} …", words.len());
            found.push((line, message));
        }
    }
    found.extend(unused(allowed));
    found.sort();
    found
}

/// The documentation comments of a Rust file, as a document with the lines of the file.
pub(crate) fn doc_comments(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.trim_start();
        let content = ["///", "//!"]
            .iter()
            .find_map(|mark| line.strip_prefix(mark));
        content
            .filter(|content| !content.starts_with('/'))
            .unwrap_or_default()
    });
    lines.collect::<Vec<_>>().join("\n")
}

enum Paragraph<'a> {
    /// The comment that allows a long sentence: its line number and its reason.
    Comment(usize, &'a str),
    Text(Vec<markdown::Line<'a>>),
}

/// Splits a document into its paragraphs and list items.
fn paragraphs(text: &str) -> Vec<Paragraph<'_>> {
    let mut paragraphs = vec![Paragraph::Text(Vec::new())];
    let mut last = 0;
    for (number, line) in markdown::split(text).0 {
        let content = line.trim_start().trim_start_matches("> ");
        let comment = content.strip_prefix("<!--");
        let skipped = content.is_empty()
            || content.starts_with('|')
            || comment.is_some()
            || markdown::heading(content).is_some();
        let digits = content.trim_start_matches(|c: char| c.is_ascii_digit());
        let numbered = digits.len() < content.len() && digits.starts_with(". ");
        let item = numbered
            || ["- ", "* ", "+ "]
                .iter()
                .any(|mark| content.starts_with(mark));
        if skipped || item || number != last + 1 {
            paragraphs.push(Paragraph::Text(Vec::new()));
        }
        last = number;
        if let Some(reason) = comment.and_then(|text| text.trim_start().strip_prefix("long:")) {
            let reason = reason.trim_end().trim_end_matches("-->").trim();
            paragraphs.push(Paragraph::Comment(number, reason));
            paragraphs.push(Paragraph::Text(Vec::new()));
        }
        if !skipped && let Some(Paragraph::Text(lines)) = paragraphs.last_mut() {
            let mark = if numbered {
                2 + content.len() - digits.len()
            } else {
                2
            };
            lines.push((number, if item { &content[mark..] } else { content }));
        }
    }
    paragraphs
}

/// Splits a paragraph into sentences: the line in which each begins, and its words.
fn sentences(lines: &[markdown::Line<'_>]) -> Vec<(usize, Vec<String>)> {
    let Some(&(first, _)) = lines.first() else {
        return Vec::new();
    };
    let text: Vec<&str> = lines.iter().map(|(_, line)| *line).collect();
    let mut text = markdown::without_code(&text.join("\n"));
    let targets: Vec<_> = markdown::links(&text)
        .into_iter()
        .map(|(at, target)| at..at + target.len() + 3)
        .collect();
    for range in targets.into_iter().rev() {
        text.replace_range(range, "");
    }
    let mut sentences = vec![(first, Vec::new())];
    for (index, line) in text.lines().enumerate() {
        for word in line.split_whitespace() {
            let (start, words) = sentences.last_mut().expect("a sentence");
            if words.is_empty() {
                *start = first + index;
            }
            if word.contains(char::is_alphanumeric) {
                words.push(word.to_owned());
            }
            if ends_sentence(word) {
                sentences.push((first + index, Vec::new()));
            }
        }
    }
    sentences
}

/// Whether a sentence ends with a word.
fn ends_sentence(word: &str) -> bool {
    let word = word.trim_end_matches([')', ']', '"', '\'', '*', '_', '”', '»']);
    let start = word.trim_start_matches(['(', '[', '"', '*', '_', '“', '«']);
    let initial = start.len() == 2 && start.starts_with(char::is_uppercase);
    let abbreviated = ABBREVIATIONS.contains(&start.to_lowercase().as_str());
    word.ends_with(['.', '!', '?']) && !initial && !abbreviated
}

#[test]
fn a_long_sentence_is_reported() {
    let long = |count: usize| format!("{} end.", "word ".repeat(count - 1));
    let lines = |text: &str| {
        let found = findings(text).into_iter();
        found.map(|(line, _)| line).collect::<Vec<_>>()
    };
    assert_eq!(lines(&long(35)), [0; 0]);
    assert_eq!(lines(&long(36)), [1]);
    assert!(
        findings(&long(36))[0]
            .1
            .starts_with("36 words, at most 35: word")
    );
    assert_eq!(lines(&format!("Short.\nShort. {}", long(36))), [2]);
    assert_eq!(lines(&format!("{} (Wang et al. 2018)", long(35))), [0; 0]);
    assert_eq!(lines(&format!("Wang et al. {}", long(33))), [1]);
    // Each item is a sentence of its own; code and link targets are not words.
    let half = "word ".repeat(20);
    assert_eq!(lines(&format!("- {half}\n- {half}\n1. {half}")), [0; 0]);
    assert_eq!(lines(&format!("{half}\n{half}")), [1]);
    assert_eq!(lines(&format!("`{half}{half}` a")), [0; 0]);
    assert_eq!(lines(&format!("[a](b \"{half}{half}\")")), [0; 0]);
    for excluded in [
        format!("# {}", long(36)),
        format!("| {} |", long(36)),
        format!("```text\n{}\n```", long(36)),
    ] {
        assert_eq!(lines(&excluded), [0; 0], "{excluded}");
    }
}

#[test]
fn doc_comments_are_documents() {
    let text = "//! A.\n\n    /// B.\n// C.\nlet d = 1; /// e\n//// F.";
    assert_eq!(doc_comments(text), " A.\n\n B.\n\n\n");
}

#[test]
fn a_comment_allows_one_long_sentence() {
    let long = format!("{} end.", "word ".repeat(40));
    let lines = |text: String| {
        let found = findings(&text).into_iter();
        found.map(|(line, _)| line).collect::<Vec<_>>()
    };
    assert_eq!(lines(format!("<!-- long: a list -->\n{long}")), [0; 0]);
    assert_eq!(lines(format!("<!-- long: a list -->\n{long} {long}")), [2]);
    assert_eq!(lines(format!("<!-- long: -->\n{long}")), [1]);
    assert_eq!(lines("<!-- long: a list -->\nShort.".to_owned()), [1]);
    assert_eq!(lines(format!("<!-- other -->\n{long}")), [2]);
}
