//! The `Debug` format of errors: a message and its chain of causes.

use std::{error::Error, fmt};

/// Implements `Debug` for an error: writes its message, then each cause on a separate line.
///
/// A program with `fn main() -> Result<(), Box<dyn Error>>` prints errors with `Debug`, and so do `unwrap`
/// and `expect`. A derived `Debug` would print every field instead of the message. A cause is not repeated
/// if the message printed before it already contains the cause's message.
///
/// ```
/// use std::{error::Error, fmt, io};
///
/// struct Missing {
///     source: io::Error,
/// }
///
/// impl fmt::Display for Missing {
///     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
///         write!(f, "the labels cannot be read")
///     }
/// }
///
/// impl fmt::Debug for Missing {
///     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
///         reid_core::debug_error(self, f)
///     }
/// }
///
/// impl Error for Missing {
///     fn source(&self) -> Option<&(dyn Error + 'static)> {
///         Some(&self.source)
///     }
/// }
///
/// let error: Box<dyn Error> = Box::new(Missing { source: io::Error::other("disk full") });
/// assert_eq!(format!("{error:?}"), "the labels cannot be read\ncaused by: disk full");
/// ```
///
/// # Errors
/// If the formatter returns an error.
pub fn debug_error(error: &dyn Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut printed = error.to_string();
    f.write_str(&printed)?;
    let mut next = error.source();
    while let Some(cause) = next {
        let message = cause.to_string();
        if !printed.contains(&message) {
            write!(f, "\ncaused by: {message}")?;
            printed = message;
        }
        next = cause.source();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HeatMap, InputSize};

    #[derive(thiserror::Error)]
    #[error("{message}")]
    struct Link {
        message: &'static str,
        source: Option<Box<Link>>,
    }

    impl fmt::Debug for Link {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            debug_error(self, f)
        }
    }

    fn chain(messages: &[&'static str]) -> Option<Box<Link>> {
        let (message, rest) = messages.split_first()?;
        let source = chain(rest);
        Some(Box::new(Link { message, source }))
    }

    #[test]
    fn each_cause_has_one_line_and_is_not_repeated() {
        let error = chain(&["a.json: line 3: a number", "line 3: a number", "a digit"]);
        assert_eq!(
            format!("{:?}", error.expect("three messages")),
            "a.json: line 3: a number\ncaused by: a digit"
        );
    }

    #[test]
    fn debug_of_this_crates_errors_is_the_message() {
        let map = HeatMap::new(2, 2, Vec::new()).expect_err("no values");
        assert_eq!(format!("{map:?}"), map.to_string());
        let size = "256".parse::<InputSize>().expect_err("no width");
        assert_eq!(format!("{size:?}"), size.to_string());
    }
}
