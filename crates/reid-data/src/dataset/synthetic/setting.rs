//! Setting: a number of a configuration, and the range it has to be in.

use std::{fmt::Display, ops::RangeInclusive, path::Path};

use super::folder;
use crate::Error;

/// A setting outside its range.
pub(super) struct Fault {
    expected: String,
    found: String,
}

impl Fault {
    /// The fault of setting `name`, if it has one.
    pub(super) fn of<T: PartialOrd + Copy + Display>(
        name: &str,
        value: T,
        range: RangeInclusive<T>,
    ) -> Option<Self> {
        let fault = || Self {
            expected: format!("{name} in {}..={}", range.start(), range.end()),
            found: value.to_string(),
        };
        (!range.contains(&value)).then(fault)
    }

    /// The error of writing such a set in the folder `root`.
    pub(super) fn at(self, root: &Path) -> Error {
        Error::Line {
            path: root.join(folder::WHOLE),
            line: 1,
            expected: self.expected,
            found: self.found,
        }
    }

    /// Panics with what was expected and found.
    pub(super) fn refuse(self) -> ! {
        let Self { expected, found } = self;
        panic!("cannot draw: expected {expected}, found {found}");
    }
}
