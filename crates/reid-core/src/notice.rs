//! Notices: what a loader skipped in a dataset, or found worth reporting.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A reason why a loader skipped or reports something, with a count and examples.
///
/// [`Statistics`](crate::Statistics) print every notice, so nothing is skipped silently.
///
/// ```
/// use reid_core::Notice;
///
/// let notice = Notice::new("skipped, unsupported file extension", ["a.heic", "b.heic"]);
/// assert_eq!(notice.to_string(), "skipped, unsupported file extension: 2 (a.heic, b.heic)");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Notice {
    /// The reason, as printed.
    pub reason: String,
    /// The number of files, folders or columns that the reason applies to.
    pub count: usize,
    /// The first of them, at most [`Notice::EXAMPLES`].
    pub examples: Vec<String>,
}

impl Notice {
    /// The maximum number of examples that are kept.
    pub const EXAMPLES: usize = 3;

    /// Creates a notice that counts every item of `about`, and keeps the first as examples.
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

    /// Counts one more item, and keeps it if there are fewer than [`Notice::EXAMPLES`] examples.
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
    fn all_items_are_counted_and_the_first_three_are_named() {
        let notice = Notice::new("skipped", ["a", "b", "c", "d"]);
        assert_eq!(notice.to_string(), "skipped: 4 (a, b, c, …)");
        assert_eq!(Notice::new("skipped", [""; 0]).to_string(), "skipped: 0");
    }
}
