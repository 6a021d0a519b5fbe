//! Lines: lists, read line by line, and the place of what is wrong in them.

use std::{fs, path::Path};

use crate::Error;

/// A line of a list, counted from 1.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) list: &'a Path,
    pub(crate) line: u64,
}

impl Place<'_> {
    /// The error that says what should stand here and what does.
    pub(crate) fn wrong(self, expected: impl Into<String>, found: impl Into<String>) -> Error {
        Error::Line {
            path: self.list.to_owned(),
            line: self.line,
            expected: expected.into(),
            found: found.into(),
        }
    }
}

/// The text of a list. What is no UTF-8 is replaced: lists hold names of car models in other
/// encodings, which nobody asks for, next to ASCII, which all of these encodings leave as it is.
pub(crate) fn text(list: &Path) -> Result<String, Error> {
    let bytes = fs::read(list).map_err(|source| Error::Io {
        path: list.to_owned(),
        source,
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The lines that have something in them, without the spaces around it.
pub(crate) fn of<'a>(list: &'a Path, text: &'a str) -> impl Iterator<Item = (Place<'a>, &'a str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = (1..).zip(text.lines().map(str::trim));
    lines
        .filter(|(_, text)| !text.is_empty())
        .map(move |(line, text)| (Place { list, line }, text))
}
