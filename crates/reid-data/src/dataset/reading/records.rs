//! Records: the fields of a list with commas, as RFC 4180 has it, and with spaces around fields and quotes.

use std::{iter::Peekable, path::Path, str::Chars};

use super::lines::Place;
use crate::Error;

/// The fields of one line, or of several where a quoted field has more than one.
pub(crate) struct Record<'a> {
    /// Where it begins.
    pub(crate) place: Place<'a>,
    /// The fields, without quotes and without spaces around them.
    pub(crate) fields: Vec<String>,
}

/// The records of a list; lines without anything in them are none.
///
/// A quote that is not closed would take the rest of the list into one field, so it is an error, and so is
/// what stands between a closing quote and the next comma.
pub(crate) fn of<'a>(list: &'a Path, text: &str) -> Result<Vec<Record<'a>>, Error> {
    let mut scanner = Scanner {
        rest: text.chars().peekable(),
        place: Place { list, line: 1 },
    };
    let mut records = Vec::new();
    while scanner.rest.peek().is_some() {
        let place = scanner.place;
        let fields = scanner.record()?;
        if fields.len() > 1 || !fields[0].is_empty() {
            records.push(Record { place, fields });
        }
    }
    Ok(records)
}

struct Scanner<'a, 'b> {
    rest: Peekable<Chars<'b>>,
    place: Place<'a>,
}

impl Scanner<'_, '_> {
    /// The fields up to the end of a line, which is passed.
    fn record(&mut self) -> Result<Vec<String>, Error> {
        let mut fields = Vec::new();
        loop {
            fields.push(self.field()?);
            if self.next() != Some(',') {
                return Ok(fields);
            }
        }
    }

    /// A field up to the comma or the end of the line, which are not passed.
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
        let opened = self.place;
        self.next();
        let mut field = String::new();
        loop {
            match self.next() {
                Some('"') if self.rest.next_if_eq(&'"').is_some() => field.push('"'),
                Some('"') => break,
                Some(character) => field.push(character),
                None => return Err(opened.wrong("a quote that is closed", "the end of the list")),
            }
        }
        self.spaces();
        match self.rest.peek() {
            Some(&next) if !ends_field(next) => {
                Err(self.place.wrong("a comma after a closing quote", next))
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
        self.place.line += u64::from(next == Some('\n'));
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
        let records = of(Path::new("list"), text).map_err(|error| error.to_string())?;
        let records = records.into_iter();
        Ok(records
            .map(|record| (record.place.line, record.fields))
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
    fn quotes_that_do_not_end_a_field_are_named_with_their_line() {
        for (text, expected) in [
            (
                "a\nb,\"c\nd,e\nf",
                "list: line 2: expected a quote that is closed, found `the end of the list`",
            ),
            (
                "a\n\"b\nc\" d",
                "list: line 3: expected a comma after a closing quote, found `d`",
            ),
        ] {
            assert_eq!(records(text), Err(expected.to_owned()));
        }
    }
}
