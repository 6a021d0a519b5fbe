//! Reads lists line by line, with a location for error messages.

use std::{fs, path::Path};

use crate::Error;

/// The encodings of a list, for error messages.
const ENCODING: &str = "text in UTF-8, or in UTF-16 with a byte order mark: save the list as UTF-8";

/// A line of a list; lines are counted from 1.
#[derive(Clone, Copy)]
pub(crate) struct Location<'a> {
    pub(crate) list: &'a Path,
    pub(crate) line: u64,
}

impl Location<'_> {
    /// Creates the error for this line, with what was expected and what was found.
    pub(crate) fn wrong(self, expected: impl Into<String>, found: impl Into<String>) -> Error {
        Error::Line {
            path: self.list.to_owned(),
            line: self.line,
            expected: expected.into(),
            found: found.into(),
        }
    }
}

/// Reads the text of a published list. Invalid UTF-8 is replaced by U+FFFD.
///
/// These lists contain names of car models in other encodings, which are not used. The fields that are used
/// are ASCII, which is the same in all of these encodings.
///
/// # Errors
/// [`Error::Io`] if the list cannot be read, and [`Error::Line`] for a zero byte or invalid UTF-16.
pub(crate) fn text(list: &Path) -> Result<String, Error> {
    decoded(list, |bytes| {
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    })
}

/// Reads the text of a list whose labels may be in any script.
///
/// Invalid UTF-8 is an error here, because two names with replaced letters could become equal.
///
/// # Errors
/// As [`text`], and [`Error::Line`] for invalid UTF-8.
pub(crate) fn exact_text(list: &Path) -> Result<String, Error> {
    decoded(list, |bytes| {
        String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let bytes = error.as_bytes();
            let start = bytes[..valid].iter().rposition(|&byte| byte == b'\n');
            let line = bytes[start.map_or(0, |end| end + 1)..].split(|&byte| byte == b'\n');
            let line = String::from_utf8_lossy(line.into_iter().next().unwrap_or_default());
            let location = Location {
                list,
                line: line_number(&bytes[..valid]),
            };
            location.wrong(ENCODING, line.trim_end())
        })
    })
}

/// Decodes the bytes of a list, removes a byte order mark, and converts all line ends to `\n`.
fn decoded(
    list: &Path,
    utf8: impl FnOnce(Vec<u8>) -> Result<String, Error>,
) -> Result<String, Error> {
    let bytes = fs::read(list).map_err(|source| Error::Io {
        path: list.to_owned(),
        source,
    })?;
    let text = match bytes.as_slice() {
        [0xff, 0xfe, rest @ ..] => utf16(list, rest, u16::from_le_bytes)?,
        [0xfe, 0xff, rest @ ..] => utf16(list, rest, u16::from_be_bytes)?,
        _ => utf8(bytes)?,
    };
    // UTF-16 without a byte order mark looks like UTF-8 with a zero byte in every ASCII character.
    if let Some(at) = text.find('\0') {
        let line = line_number(&text.as_bytes()[..at]);
        return Err(Location { list, line }.wrong(ENCODING, "a zero byte"));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    Ok(text.replace("\r\n", "\n").replace('\r', "\n"))
}

fn utf16(list: &Path, bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, Error> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut text = String::with_capacity(pairs.len());
    for character in char::decode_utf16(pairs.iter().map(|&pair| unit(pair))) {
        let wrong = |_| {
            let line = line_number(text.as_bytes());
            Location { list, line }.wrong("complete UTF-16", "half a character")
        };
        text.push(character.map_err(wrong)?);
    }
    if rest.is_empty() {
        Ok(text)
    } else {
        let line = line_number(text.as_bytes());
        Err(Location { list, line }.wrong("complete UTF-16", "an odd number of bytes"))
    }
}

/// The line number of the text after these bytes.
fn line_number(before: &[u8]) -> u64 {
    1 + before
        .iter()
        .map(|&byte| u64::from(byte == b'\n'))
        .sum::<u64>()
}

/// The lines that are not blank, trimmed, with their locations.
pub(crate) fn non_empty<'a>(
    list: &'a Path,
    text: &'a str,
) -> impl Iterator<Item = (Location<'a>, &'a str)> {
    let lines = (1..).zip(text.lines().map(str::trim));
    lines
        .filter(|(_, text)| !text.is_empty())
        .map(move |(line, text)| (Location { list, line }, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        bytes: &[u8],
        read: impl FnOnce(&Path) -> Result<String, Error>,
    ) -> Result<String, String> {
        let root = tempfile::tempdir().unwrap();
        let list = root.path().join("list");
        fs::write(&list, bytes).unwrap();
        let name = list.display().to_string();
        read(&list).map_err(|error| error.to_string().replace(&name, "list"))
    }

    fn utf16(text: &str, mark: bool, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        let mark = mark.then_some(0xfeff);
        mark.into_iter()
            .chain(text.encode_utf16())
            .flat_map(bytes)
            .collect()
    }

    #[test]
    fn utf_8_and_utf_16_with_a_byte_order_mark_are_read() {
        let text = "André\n2 𝄞\n";
        for bytes in [
            text.as_bytes().to_vec(),
            format!("\u{feff}{text}").into_bytes(),
            text.replace('\n', "\r\n").into_bytes(),
            text.replace('\n', "\r").into_bytes(),
            utf16(text, true, u16::to_le_bytes),
            utf16(text, true, u16::to_be_bytes),
        ] {
            assert_eq!(read(&bytes, exact_text).as_deref(), Ok(text));
            assert_eq!(read(&bytes, super::text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn other_encodings_are_rejected_with_their_line() {
        let message = read(b"a,1\nAndr\xe9,2\nb\xe8", exact_text).expect_err("Windows-1252");
        assert!(message.starts_with("list: line 2: expected text in UTF-8"));
        assert!(message.ends_with("save the list as UTF-8, found `Andr\u{fffd},2`"));
        for bytes in [
            utf16("a\nb", false, u16::to_le_bytes),
            utf16("a\nb", false, u16::to_be_bytes),
        ] {
            for read_text in [exact_text, text] {
                let message = read(&bytes, read_text).expect_err("no mark");
                assert!(message.ends_with("found `a zero byte`"), "{message}");
            }
        }
    }

    #[test]
    fn truncated_text_is_read_or_rejected_without_a_panic() {
        let bytes = utf16("a\n𝄞", true, u16::to_le_bytes);
        for end in 0..bytes.len() {
            let whole = read(&bytes[..end], exact_text);
            assert_eq!(
                whole.is_ok(),
                matches!(end, 0 | 2 | 4 | 6),
                "{end}: {whole:?}"
            );
        }
        let half = read(&bytes[..8], exact_text).expect_err("half of a pair");
        assert!(half.starts_with("list: line 2: expected complete UTF-16"));
    }
}
