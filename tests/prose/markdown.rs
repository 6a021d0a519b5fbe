//! Reads the parts of Markdown that the checks need.

/// A line of a document and its number, counted from 1.
pub(crate) type Line<'a> = (usize, &'a str);

/// A fenced code block.
pub(crate) struct Block<'a> {
    /// The number of the line that opens it.
    pub(crate) line: usize,
    /// What follows the opening fence: the language and its options.
    pub(crate) info: &'a str,
    pub(crate) lines: Vec<Line<'a>>,
}

/// Splits a document into its lines outside of fenced code blocks, and these blocks.
pub(crate) fn split(text: &str) -> (Vec<Line<'_>>, Vec<Block<'_>>) {
    let (mut outside, mut blocks): (Vec<Line<'_>>, Vec<Block<'_>>) = Default::default();
    let mut open: Option<&str> = None;
    for (index, line) in text.lines().enumerate() {
        let content = line.trim_start();
        let marker = if content.starts_with('~') { '~' } else { '`' };
        let rest = content.trim_start_matches(marker);
        let fence = &content[..content.len() - rest.len()];
        match open {
            None if fence.len() >= 3 => {
                open = Some(fence);
                blocks.push(Block {
                    line: index + 1,
                    info: rest.trim(),
                    lines: Vec::new(),
                });
            }
            None => outside.push((index + 1, line)),
            Some(opened) if fence.starts_with(opened) && rest.trim().is_empty() => open = None,
            Some(_) => {
                let block = blocks.last_mut().expect("an open block");
                block.lines.push((index + 1, line));
            }
        }
    }
    (outside, blocks)
}

/// Splits a text into pieces, and says of each whether it is the content of a code span.
pub(crate) fn spans(text: &str) -> Vec<(bool, &str)> {
    let mut pieces = Vec::new();
    let (mut plain, mut at) = (0, 0);
    while let Some(found) = text[at..].find('`') {
        let start = at + found;
        let rest = text[start..].trim_start_matches('`');
        let content = text.len() - rest.len();
        let ticks = &text[start..content];
        // The span ends at a run of as many backticks.
        let mut end = content;
        let closed = loop {
            let Some(found) = text[end..].find('`') else {
                break None;
            };
            let from = end + found;
            end = text.len() - text[from..].trim_start_matches('`').len();
            if end - from == ticks.len() {
                break Some(from);
            }
        };
        if let Some(close) = closed {
            pieces.push((false, &text[plain..start]));
            pieces.push((true, &text[content..close]));
            (plain, at) = (end, end);
        } else {
            at = content;
        }
    }
    pieces.push((false, &text[plain..]));
    pieces
}

/// A text with every code span replaced by one word without punctuation. Line breaks stay.
pub(crate) fn without_code(text: &str) -> String {
    let pieces = spans(text).into_iter().map(|(code, piece)| {
        if code {
            format!("code{}", "\n".repeat(piece.matches('\n').count()))
        } else {
            piece.to_owned()
        }
    });
    pieces.collect()
}

/// The text of a heading, if the line is one.
pub(crate) fn heading(line: &str) -> Option<&str> {
    let text = line.trim_start_matches('#');
    let level = line.len() - text.len();
    ((1..=6).contains(&level) && text.starts_with(' ')).then(|| text.trim())
}

/// The inline links of a text without code spans: the positions of `](`, and the targets.
pub(crate) fn links(text: &str) -> Vec<(usize, &str)> {
    let starts = text.match_indices("](");
    let links = starts.filter_map(|(at, _)| {
        let target = &text[at + 2..];
        let mut depth = 1;
        let end = target.find(|c: char| {
            depth += match c {
                '(' => 1,
                ')' => -1,
                _ => 0,
            };
            depth == 0
        })?;
        Some((at, &target[..end]))
    });
    links.collect()
}

#[test]
fn a_document_is_split_into_lines_and_blocks() {
    let (outside, blocks) = split("# a\n```rust,x\nb\n```sh\n```\nc\n~~~\n```\n~~~\n````md\n```\n");
    assert_eq!(outside, [(1, "# a"), (6, "c")]);
    let found = blocks.iter().map(|block| (block.line, block.info));
    assert_eq!(
        found.collect::<Vec<_>>(),
        [(2, "rust,x"), (7, ""), (10, "md")]
    );
    assert_eq!(blocks[0].lines, [(3, "b"), (4, "```sh")]);
    assert_eq!(blocks[2].lines, [(11, "```")]);
}

#[test]
fn code_spans_are_found() {
    let expected = [
        (false, "a "),
        (true, "b"),
        (false, " "),
        (true, "c`d"),
        (false, "e` f"),
    ];
    assert_eq!(spans("a `b` ``c`d``e` f"), expected);
    assert_eq!(without_code("a `b\nc` d."), "a code\n d.");
}

#[test]
fn headings_and_links_are_found() {
    assert_eq!(heading("## A `b`"), Some("A `b`"));
    assert_eq!(heading("#a"), None);
    assert_eq!(heading("a"), None);
    let targets = links("[a](b) ![c](d(e).png \"f\") [g]").into_iter();
    assert_eq!(
        targets.map(|(_, target)| target).collect::<Vec<_>>(),
        ["b", "d(e).png \"f\""]
    );
}
