//! Parses comma-separated records (RFC 4180), with optional spaces around fields and quotes.

use std::{iter::Peekable, path::Path, str::Chars};

use super::lines::Location;
use crate::Error;

/// The fields of one line, or of several lines if a quoted field contains line breaks.
pub(crate) struct Record<'a> {
    /// The line where the record begins.
    pub(crate) location: Location<'a>,
    /// The fields, trimmed and without their quotes.
    pub(crate) fields: Vec<String>,
}

/// Parses the records of a list, without blank lines.
///
/// # Errors
/// [`Error::Line`] for a quote that is not closed, which would put the rest of the list into one field, and
/// for text between a closing quote and the next comma.
pub(crate) fn parse<'a>(list: &'a Path, text: &str) -> Result<Vec<Record<'a>>, Error> {
    let mut scanner = Scanner {
        rest: text.chars().peekable(),
        location: Location { list, line: 1 },
    };
    let mut records = Vec::new();
    while scanner.rest.peek().is_some() {
        let location = scanner.location;
        let fields = scanner.record()?;
        if fields.len() > 1 || !fields[0].is_empty() {
            records.push(Record { location, fields });
        }
    }
    Ok(records)
}

struct Scanner<'a, 'b> {
    rest: Peekable<Chars<'b>>,
    location: Location<'a>,
}

impl Scanner<'_, '_> {
    /// Reads the fields of a record and the line end after them.
    fn record(&mut self) -> Result<Vec<String>, Error> {
        let mut fields = Vec::new();
        loop {
            fields.push(self.field()?);
            if self.next() != Some(',') {
                return Ok(fields);
            }
        }
    }

    /// Reads a field up to the comma or line end after it, which is not consumed.
    fn field(&mut self) -> Result<String, Error> {
        self.spaces();
        if self.rest.peek() == Some(&'"') {
            return self.quoted();
        }
        let mut field = String::new();
        while let Some(character) = self.rest.next_if(|&next| !ends_field(next)) {
            field.push(character);
        }
        field.truncate(field.trim_end().len());
        Ok(field)
    }

    fn quoted(&mut self) -> Result<String, Error> {
        let opened = self.location;
        self.next();
        let mut field = String::new();
        loop {
            match self.next() {
                Some('"') if self.rest.next_if_eq(&'"').is_some() => field.push('"'),
                Some('"') => break,
                Some(character) => field.push(character),
                None => return Err(opened.wrong("a closing quote", "the end of the list")),
            }
        }
        self.spaces();
        match self.rest.peek() {
            Some(&next) if !ends_field(next) => {
                Err(self.location.wrong("a comma after the closing quote", next))
            }
            _ => Ok(field.trim().to_owned()),
        }
    }

    fn spaces(&mut self) {
        let space = |next: &char| next.is_whitespace() && !ends_field(*next);
        while self.rest.next_if(space).is_some() {}
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.location.line += u64::from(next == Some('\n'));
        next
    }
}

const fn ends_field(character: char) -> bool {
    matches!(character, ',' | '\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &str) -> Result<Vec<(u64, Vec<String>)>, String> {
        let records = parse(Path::new("list"), text).map_err(|error| error.to_string())?;
        let records = records.into_iter();
        Ok(records
            .map(|record| (record.location.line, record.fields))
            .collect())
    }

    #[test]
    fn fields_are_read_with_and_without_quotes_and_spaces() {
        let text = "a, \"b\" ,c\n\n  \n \"d, \"\"e\"\"\n\" ,\t,f\"g\n,";
        let expected: [(u64, &[&str]); 3] = [
            (1, &["a", "b", "c"]),
            (4, &["d, \"e\"", "", "f\"g"]),
            (6, &["", ""]),
        ];
        let expected = expected
            .map(|(line, fields)| (line, fields.iter().map(|&field| field.to_owned()).collect()));
        assert_eq!(records(text), Ok(expected.to_vec()));
        assert_eq!(records(""), Ok(Vec::new()));
    }

    #[test]
    fn misplaced_quotes_are_reported_with_their_line() {
        for (text, expected) in [
            (
                "a\nb,\"c\nd,e\nf",
                "list: line 2: expected a closing quote, found `the end of the list`",
            ),
            (
                "a\n\"b\nc\" d",
                "list: line 3: expected a comma after the closing quote, found `d`",
            ),
        ] {
            assert_eq!(records(text), Err(expected.to_owned()));
        }
    }
}
