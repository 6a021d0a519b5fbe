//! Reports words that the documentation of the field does not use, with what to say instead.

use std::ops::Range;

use crate::{
    Finding, lexer,
    lexer::Parts,
    terms::{FOREIGN, HISTORY, NAMES, RULES, TRANSLATE},
};

/// Finds the words of a file that are to be said otherwise.
pub(crate) fn findings(name: &str, text: &str) -> Vec<Finding> {
    if TRANSLATE.contains(&name) {
        return Vec::new();
    }
    let extension = name.rsplit('.').next();
    let parts = match extension {
        Some("rs") => lexer::rust(text),
        Some("py") => lexer::python(text),
        _ => {
            let prose = text.as_bytes().to_vec();
            let code = Vec::new();
            Parts { prose, code }
        }
    };
    let mut prose = parts.prose;
    if name == HISTORY {
        hide_code_spans(&mut prose);
    }
    let starts = word_starts(&prose);
    let mut found = Vec::new();
    for rule in RULES {
        for words in rule.words {
            for range in occurrences(&prose, &starts, words) {
                let allowed = rule.allowed.iter().any(|phrase| {
                    covers(&prose, phrase, &range) || covers(text.as_bytes(), phrase, &range)
                });
                if !allowed {
                    let message = format!("`{words}`: {}", rule.instead);
                    found.push((line(text, range.start), message));
                }
            }
        }
    }
    let identifiers = identifiers(&parts.code);
    for (at, name) in identifiers.into_iter().filter(|(_, name)| *name != FOREIGN) {
        for part in parts_of(name) {
            if let Some((_, instead)) = NAMES.iter().find(|(old, _)| *old == part) {
                found.push((line(text, at), format!("`{name}`: {instead}")));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

fn line(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether the phrase is at the start of a text, in any case: its length there.
fn length_at(text: &[u8], phrase: &str) -> Option<usize> {
    let mut at = 0;
    for byte in phrase.bytes() {
        let rest = text.get(at..)?;
        let gap = rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
        let same = rest.first()?.eq_ignore_ascii_case(&byte);
        at += match byte {
            b' ' if gap > 0 => gap,
            b' ' if rest.starts_with(b"-") => 1,
            b' ' => return None,
            _ if same => 1,
            _ => return None,
        };
    }
    Some(at)
}

/// Where the words of a text begin.
fn word_starts(text: &[u8]) -> Vec<usize> {
    (0..text.len())
        .filter(|&at| is_word(text[at]) && (at == 0 || !is_word(text[at - 1])))
        .collect()
}

/// The occurrences of a phrase as whole words.
fn occurrences(text: &[u8], starts: &[usize], phrase: &str) -> Vec<Range<usize>> {
    let ranges = starts.iter().filter_map(|&at| {
        let end = at + length_at(&text[at..], phrase)?;
        let whole = text.get(end).is_none_or(|byte| !is_word(*byte));
        whole.then_some(at..end)
    });
    ranges.collect()
}

/// Whether a range of a text begins in an occurrence of a phrase.
fn covers(text: &[u8], phrase: &str, range: &Range<usize>) -> bool {
    // Whitespace between two words of a comment may be an indentation.
    let first = range.start.saturating_sub(2 * phrase.len() + 40);
    (first..=range.start).any(|at| {
        let length = length_at(&text[at..], phrase);
        length.is_some_and(|length| at + length > range.start)
    })
}

/// Replaces code spans by spaces.
fn hide_code_spans(text: &mut [u8]) {
    let mut inside = false;
    for byte in text {
        if *byte == b'`' {
            inside = !inside;
        } else if inside && *byte != b'\n' {
            *byte = b' ';
        }
    }
}

/// The identifiers of code, and where they begin.
fn identifiers(code: &[u8]) -> Vec<(usize, &str)> {
    let mut at = 0;
    let names = code.split(|byte| !is_word(*byte)).map(|name| {
        let start = at;
        at += name.len() + 1;
        (start, std::str::from_utf8(name).expect("ASCII"))
    });
    names.filter(|(_, name)| !name.is_empty()).collect()
}

/// The parts of an identifier in lower case: `MixPartner`, `mix_partner` → `mix`, `partner`.
fn parts_of(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut upper = true;
    for character in name.chars() {
        if character == '_' || (character.is_uppercase() && !upper) {
            parts.push(String::new());
        }
        upper = character.is_uppercase();
        if character != '_' {
            let part = parts.last_mut().expect("a part");
            part.extend(character.to_lowercase());
        }
    }
    parts
}

/// The name and the text of a file, and the words that are reported, with their lines.
type Case = (&'static str, &'static str, &'static [(usize, &'static str)]);

const CASES: &[Case] = &[
    (
        "a.md",
        "x\nThe Descriptor of a place.",
        &[(2, "descriptor"), (2, "place")],
    ),
    (
        "a.md",
        "`Trainee`, in-place, file descriptors, placed",
        &[(1, "trainee")],
    ),
    (
        "a.md",
        "Written in the same place, 3 decimal places.",
        &[(1, "place")],
    ),
    (
        "a.rs",
        "/// Types of one's\n    /// own.\nfn place() {}",
        &[(1, "one's own")],
    ),
    ("a.rs", "panic!(\"no \\\n place\");", &[(2, "place")]),
    (
        "a.rs",
        "// Written in\n// place.\nlet one = \"'s\"; // own",
        &[],
    ),
    (
        "a.rs",
        "fn draw_donors(a: &Donor) {} // a donor",
        &[(1, "Donor"), (1, "draw_donors")],
    ),
    ("a.rs", "at(1).named(\"place\"); \"place\"", &[(1, "place")]),
    (
        "a.rs",
        "const TRUNK: u8 = 1; // granulesᵢ",
        &[(1, "TRUNK"), (1, "granules")],
    ),
    ("a.py", "place = 1  # verdict", &[(1, "verdict")]),
    (".ci/run", "# Same-bits check", &[(1, "same bits")]),
    (
        HISTORY,
        "`Ending` and `Verdict`, a verdict",
        &[(1, "verdict")],
    ),
    (TRANSLATE[0], "| `Verdict` | `Relevance` |", &[]),
];

#[test]
fn old_words_are_reported() {
    for (name, text, expected) in CASES {
        let found = findings(name, text);
        let word = |message: &str| message.split('`').nth(1).map(str::to_owned);
        let found = found.iter().map(|(line, message)| (*line, word(message)));
        let expected = expected
            .iter()
            .map(|(line, word)| (*line, Some((*word).to_owned())));
        assert_eq!(
            found.collect::<Vec<_>>(),
            expected.collect::<Vec<_>>(),
            "{name}: {text}"
        );
    }
    let expected = (1, "`trainee`: learner".to_owned());
    assert_eq!(findings("a.md", "the trainee"), [expected]);
}

#[test]
fn names_are_split_into_parts() {
    assert_eq!(parts_of("MixPartner"), ["mix", "partner"]);
    assert_eq!(parts_of("mix_partner2"), ["mix", "partner2"]);
    assert_eq!(parts_of("MIX"), ["mix"]);
}
