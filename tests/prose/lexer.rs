//! Separates the comments and strings of source files from their code.

/// The two parts of a source file. Both have the length and the lines of the file.
pub(crate) struct Parts {
    /// Comments and contents of strings. Code is replaced by a byte that is in no word, and whitespace stays,
    /// so a phrase that continues on the next line of a comment can be found.
    pub(crate) prose: Vec<u8>,
    /// The rest. Comments and strings are replaced by spaces.
    pub(crate) code: Vec<u8>,
}

/// Stands for a byte of code in [`Parts::prose`].
const CODE: u8 = 1;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Code,
    Comment,
    /// A string without escape sequences.
    Raw,
    Text,
}

/// Splits a Rust file.
pub(crate) fn rust(text: &str) -> Parts {
    split(text, rust_token)
}

/// Splits a Python file.
pub(crate) fn python(text: &str) -> Parts {
    split(text, python_token)
}

/// Splits a text by a function that gives the kind and the length of the token at the start of the rest.
fn split(text: &str, token: fn(&str) -> (Kind, usize)) -> Parts {
    let (mut prose, mut code) = (Vec::new(), Vec::new());
    let mut rest = text;
    while !rest.is_empty() {
        let (kind, length) = token(rest);
        let bytes = &rest.as_bytes()[..length];
        rest = &rest[length..];
        let blank = |byte: &u8| if *byte == b'\n' { b'\n' } else { b' ' };
        if kind == Kind::Code {
            let hidden = |byte: &u8| {
                if byte.is_ascii_whitespace() {
                    *byte
                } else {
                    CODE
                }
            };
            prose.extend(bytes.iter().map(hidden));
            code.extend(bytes);
            continue;
        }
        code.extend(bytes.iter().map(blank));
        let mut marker = kind == Kind::Comment;
        let mut escaped = false;
        for byte in bytes {
            marker &= b"/!*#".contains(byte);
            let escape = escaped || (kind == Kind::Text && *byte == b'\\');
            escaped = escape && !escaped;
            prose.push(if marker || escape { blank(byte) } else { *byte });
        }
    }
    Parts { prose, code }
}

/// The length of the name or number at the start, 0 if there is none.
fn name(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(text.len())
}

/// The length of a text that ends with the first `end` after `from` bytes.
fn through(text: &str, from: usize, end: &str) -> usize {
    text[from..]
        .find(end)
        .map_or(text.len(), |at| from + at + end.len())
}

/// The length of a string that `quote` opens and closes, with backslashes as escapes.
fn quoted(text: &str, quote: &str) -> usize {
    let mut at = quote.len();
    while at < text.len() && !text[at..].starts_with(quote) {
        let escape = usize::from(text[at..].starts_with('\\'));
        let escaped = text[at + escape..].chars().next();
        at += escape + escaped.map_or(0, char::len_utf8);
    }
    (at + quote.len()).min(text.len())
}

fn rust_token(text: &str) -> (Kind, usize) {
    let prefix = name(text);
    let hashes = text[prefix..].bytes().take_while(|b| *b == b'#').count();
    let raw = ["r", "br", "cr"].contains(&&text[..prefix]);
    if raw && text[prefix + hashes..].starts_with('"') {
        let end = format!("\"{}", "#".repeat(hashes));
        return (Kind::Raw, through(text, prefix + hashes + 1, &end));
    }
    if prefix > 0 {
        return (Kind::Code, prefix);
    }
    let mut characters = text.chars();
    match (characters.next(), characters.next(), characters.next()) {
        (Some('/'), Some('/'), _) => (Kind::Comment, text.find('\n').unwrap_or(text.len())),
        (Some('/'), Some('*'), _) => (Kind::Comment, block_comment(text)),
        (Some('"'), ..) => (Kind::Text, quoted(text, "\"")),
        (Some('\''), Some('\\'), _) | (Some('\''), Some(_), Some('\'')) => {
            (Kind::Code, quoted(text, "'"))
        }
        (first, ..) => (Kind::Code, first.map_or(0, char::len_utf8)),
    }
}

/// The length of a block comment, which may contain others.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += text[at..].chars().next().map_or(0, char::len_utf8);
        }
        if depth == 0 || at == text.len() {
            return at;
        }
    }
}

fn python_token(text: &str) -> (Kind, usize) {
    let prefix = name(text);
    if prefix > 0 {
        return (Kind::Code, prefix);
    }
    if text.starts_with('#') {
        return (Kind::Comment, text.find('\n').unwrap_or(text.len()));
    }
    let quote = ["\"\"\"", "'''", "\"", "'"]
        .into_iter()
        .find(|quote| text.starts_with(quote));
    match quote {
        Some(quote) => (Kind::Text, quoted(text, quote)),
        None => (Kind::Code, text.chars().next().map_or(0, char::len_utf8)),
    }
}

#[test]
fn comments_and_strings_are_separated_from_code() {
    let words = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).expect("UTF-8");
        let text = text.replace(char::from(CODE), " ");
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for (text, prose, code) in [
        ("/// One é\n/// two.\nfn f() {}", "One é two.", "fn f() {}"),
        ("let a = \"b\\n\\\"c\"; d", "\"b c\"", "let a = ; d"),
        ("r#\"a\" \\b\"# + c", "r#\"a\" \\b\"#", "+ c"),
        ("fn f<'a>(b: &'a str) {}", "", "fn f<'a>(b: &'a str) {}"),
        ("['\"', '\\'', 'a'] // b", "b", "['\"', '\\'', 'a']"),
        ("a /* b /* c */ d */ e", "b /* c */ d */", "a e"),
    ] {
        let parts = rust(text);
        assert_eq!(parts.prose.len(), text.len());
        assert_eq!(words(parts.prose), prose, "{text}");
        assert_eq!(words(parts.code), code, "{text}");
    }
    let parts = python("a = f\"\"\"b \"c\" \"\"\"  # d 'e\nf('g')");
    assert_eq!(words(parts.prose), "\"\"\"b \"c\" \"\"\" d 'e 'g'");
    assert_eq!(words(parts.code), "a = f f( )");
}
