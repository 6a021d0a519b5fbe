//! Range checks for the settings of a configuration.

use std::{fmt::Display, ops::RangeInclusive};

use crate::Error;

/// A setting outside its range.
pub(super) struct Fault {
    expected: String,
    found: String,
}

impl Fault {
    /// Returns a fault if the value of the setting `name` is outside its range.
    pub(super) fn check<T: PartialOrd + Copy + Display>(
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

    /// Panics with the message of [`Error::Setting`].
    pub(super) fn refuse(self) -> ! {
        panic!("{}", Error::from(self));
    }
}

impl From<Fault> for Error {
    fn from(Fault { expected, found }: Fault) -> Self {
        Self::Setting { expected, found }
    }
}
