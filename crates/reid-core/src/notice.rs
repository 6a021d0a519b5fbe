//! Notice: what a loader left out of a data set, or noticed in it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a loader left out of a data set, or noticed in it, for one reason.
///
/// [`Statistics`](crate::Statistics) print every notice, so that nothing is left out silently.
///
/// ```
/// use reid_core::Notice;
///
/// let notice = Notice::new("left out, file endings that are not read", ["a.heic", "b.heic"]);
/// assert_eq!(notice.to_string(), "left out, file endings that are not read: 2 (a.heic, b.heic)");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Notice {
    /// What was noticed, in words.
    pub reason: String,
    /// In how many files, folders or columns.
    pub count: usize,
    /// The first of them, [`Notice::EXAMPLES`] at most.
    pub examples: Vec<String>,
}

impl Notice {
    /// Number of examples that are kept.
    pub const EXAMPLES: usize = 3;

    /// A notice about all of these.
    pub fn new<S: Into<String>>(
        reason: impl Into<String>,
        about: impl IntoIterator<Item = S>,
    ) -> Self {
        let mut notice = Self {
            reason: reason.into(),
            count: 0,
            examples: Vec::new(),
        };
        for example in about {
            notice.add(example);
        }
        notice
    }

    /// Counts one more.
    pub fn add(&mut self, example: impl Into<String>) {
        self.count += 1;
        if self.examples.len() < Self::EXAMPLES {
            self.examples.push(example.into());
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.count)?;
        if self.examples.is_empty() {
            return Ok(());
        }
        let more = if self.count > self.examples.len() {
            ", …"
        } else {
            ""
        };
        write!(f, " ({}{more})", self.examples.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_the_first_are_named() {
        let notice = Notice::new("left out", ["a", "b", "c", "d"]);
        assert_eq!(notice.to_string(), "left out: 4 (a, b, c, …)");
        assert_eq!(Notice::new("left out", [""; 0]).to_string(), "left out: 0");
    }
}
