//! Validation of configurations: finds all invalid values at once, each with its path.

use std::{
    fmt::{self, Display},
    ops::{Bound, RangeBounds, RangeInclusive},
};

/// A configuration that reports all its invalid values.
///
/// A configuration without problems can be built and used. Configurations are validated before anything is
/// built; building an invalid one panics with the same messages.
///
/// ```
/// use reid_core::{Problems, Validate};
///
/// struct Blur {
///     probability: f32,
///     radius: usize,
/// }
///
/// impl Validate for Blur {
///     fn validate(&self, problems: &mut Problems) {
///         problems.number("probability", self.probability, 0.0..=1.0);
///         problems.count("radius", self.radius, 1..=16);
///     }
/// }
///
/// let mut problems = Problems::new();
/// problems.nested("blur", &Blur { probability: 1.5, radius: 0 });
/// assert_eq!(
///     problems.to_string(),
///     "blur.probability: expected 0 to 1, found 1.5\nblur.radius: expected 1 to 16, found 0"
/// );
/// ```
pub trait Validate {
    /// Adds a problem for each invalid value, with its path relative to this configuration.
    fn validate(&self, problems: &mut Problems);
}

/// An absent part has no problems.
impl<T: Validate> Validate for Option<T> {
    fn validate(&self, problems: &mut Problems) {
        if let Some(part) = self {
            part.validate(problems);
        }
    }
}

/// One invalid value of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The JSON path of the value, such as `augmentation.flip.probability`; empty for the whole
    /// configuration.
    pub path: String,
    /// The values that are valid.
    pub expected: String,
    /// The value that was found.
    pub found: String,
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            expected,
            found,
        } = self;
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        write!(f, "expected {expected}, found {found}")
    }
}

/// The invalid values of a configuration, in the order of its fields; empty if it is valid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    path: String,
    list: Vec<Problem>,
}

impl Problems {
    /// Creates an empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            path: String::new(),
            list: Vec::new(),
        }
    }

    /// Calls `look` with `field` appended to the path, so that problems added meanwhile have it in their
    /// path. `field` is the name of a field, or the index of an item such as `[0]`.
    ///
    /// Returns whether `look` added no problem: checks that depend on a valid field can then be skipped.
    pub fn at(&mut self, field: &str, look: impl FnOnce(&mut Self)) -> bool {
        let (length, problems) = (self.path.len(), self.list.len());
        if length > 0 && !field.is_empty() && !field.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(field);
        look(self);
        self.path.truncate(length);
        self.list.len() == problems
    }

    /// Validates the value of a field, and returns whether it has no problems.
    pub fn nested(&mut self, field: &str, value: &impl Validate) -> bool {
        self.at(field, |problems| value.validate(problems))
    }

    /// Validates a part whose input is itself invalid, such as a head on a feature map without a valid shape.
    ///
    /// `look` runs once for each of two stand-in inputs, `trials`. Only problems that both runs report with
    /// the same path and text are added, because these do not depend on the input.
    ///
    /// ```
    /// use reid_core::Problems;
    ///
    /// let mut problems = Problems::new();
    /// problems.nested_for_any([12, 10], |height: usize, problems| {
    ///     problems.count("dimensions", 0, 1..=64);
    ///     problems.count("stripes", 20, 1..=height);
    /// });
    /// assert_eq!(problems.to_string(), "dimensions: expected 1 to 64, found 0");
    /// ```
    pub fn nested_for_any<S>(&mut self, trials: [S; 2], look: impl Fn(S, &mut Self)) {
        let [one, other] = trials.map(|trial| {
            let mut problems = Self::new();
            look(trial, &mut problems);
            problems.list
        });
        for problem in one.into_iter().filter(|problem| other.contains(problem)) {
            self.at(&problem.path, |problems| {
                problems.add(problem.expected, problem.found);
            });
        }
    }

    /// Adds a problem at the current path.
    pub fn add(&mut self, expected: impl Display, found: impl Display) {
        self.list.push(Problem {
            path: self.path.clone(),
            expected: expected.to_string(),
            found: found.to_string(),
        });
    }

    /// Adds a problem for a field unless `holds` is true.
    pub fn require(
        &mut self,
        field: &str,
        holds: bool,
        expected: impl Display,
        found: impl Display,
    ) {
        if !holds {
            self.at(field, |problems| problems.add(expected, found));
        }
    }

    /// Adds a problem if a number is outside the range or not finite.
    pub fn number<T: Copy + Display + Into<f64>>(
        &mut self,
        field: &str,
        value: T,
        range: impl RangeBounds<f64>,
    ) {
        let holds = value.into().is_finite() && range.contains(&value.into());
        self.require(field, holds, words(&range), value);
    }

    /// Adds a problem if a count is outside the range.
    pub fn count(&mut self, field: &str, value: usize, range: RangeInclusive<usize>) {
        let holds = range.contains(&value);
        let (least, most) = (range.start(), range.end());
        match *most {
            usize::MAX => self.require(field, holds, format_args!("at least {least}"), value),
            most => self.require(field, holds, format_args!("{least} to {most}"), value),
        }
    }

    /// Adds a problem if a layer has more than [`MAX_WEIGHTS`] weights. `what` names the layer; `count` is
    /// its number of weights, or `None` if that number overflows a `usize`.
    pub fn weights(&mut self, what: &str, count: Option<usize>) {
        match count {
            Some(count) if count <= MAX_WEIGHTS => {}
            Some(count) => self.add(
                format_args!("{what} of at most {MAX_WEIGHTS} weights"),
                count,
            ),
            None => self.add(
                format_args!("{what} of at most {MAX_WEIGHTS} weights"),
                "more than fits in 64 bits",
            ),
        }
    }

    /// Whether there are no problems.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The number of problems.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.list.len()
    }

    /// Iterates over the problems, in the order of the fields.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// The problems as a list.
    #[must_use]
    pub fn into_vec(self) -> Vec<Problem> {
        self.list
    }

    /// Panics if `look` finds problems. For configurations that are written in code.
    ///
    /// # Panics
    /// If there are problems; the message is `what`, followed by all problems.
    pub fn refuse(what: &str, look: impl FnOnce(&mut Self)) {
        let mut problems = Self::new();
        look(&mut problems);
        assert!(problems.is_empty(), "{what}: {problems}");
    }
}

/// The maximum number of weights in one layer: 2³⁰, which is 4 GiB in single precision. The largest layer of
/// the published networks has 8 million.
pub const MAX_WEIGHTS: usize = 1 << 30;

/// Prints one problem per line.
impl Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// A range in words, such as `0 to 1`.
fn words(range: &impl RangeBounds<f64>) -> String {
    use Bound::{Excluded, Included, Unbounded};
    match (range.start_bound(), range.end_bound()) {
        (Unbounded, Unbounded) => "a finite number".to_owned(),
        (Included(least), Unbounded) => format!("a finite number of at least {least}"),
        (Excluded(least), Unbounded) => format!("a finite number above {least}"),
        (Unbounded, Included(most)) => format!("a finite number up to {most}"),
        (Unbounded, Excluded(most)) => format!("a finite number below {most}"),
        (Included(least), Included(most)) => format!("{least} to {most}"),
        (Included(least), Excluded(most)) => format!("at least {least} and below {most}"),
        (Excluded(least), Included(most)) => format!("above {least} and up to {most}"),
        (Excluded(least), Excluded(most)) => format!("above {least} and below {most}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(look: impl FnOnce(&mut Problems)) -> String {
        let mut problems = Problems::new();
        look(&mut problems);
        problems.to_string()
    }

    #[test]
    fn messages_give_the_valid_range_in_words() {
        let above = (Bound::Excluded(0.0), Bound::Unbounded);
        let nan = f64::NAN;
        let cases = [
            (
                message(|p| p.number("a", 1.5_f32, 0.0..=1.0)),
                "0 to 1, found 1.5",
            ),
            (
                message(|p| p.number("a", 1.0, 0.0..1.0)),
                "at least 0 and below 1, found 1",
            ),
            (
                message(|p| p.number("a", nan, above)),
                "a finite number above 0, found NaN",
            ),
            (
                message(|p| p.number("a", f64::INFINITY, 0.0..)),
                "a finite number of at least 0, found inf",
            ),
            (
                message(|p| p.count("a", 0, 1..=usize::MAX)),
                "at least 1, found 0",
            ),
            (message(|p| p.count("a", 3, 1..=2)), "1 to 2, found 3"),
        ];
        for (found, expected) in cases {
            assert_eq!(found, format!("a: expected {expected}"));
        }
        assert_eq!(message(|p| p.number("a", 0.1_f32, 0.0..=1.0)), "");
    }

    #[test]
    fn paths_are_json_paths() {
        let mut problems = Problems::new();
        let valid = problems.at("branches", |problems| {
            problems.at("[1]", |problems| problems.count("dimensions", 0, 1..=9));
        });
        assert!(!valid && problems.at("head", |_| {}));
        assert_eq!(
            problems.to_string(),
            "branches[1].dimensions: expected 1 to 9, found 0"
        );
    }

    #[test]
    #[should_panic(expected = "a flip: probability: expected 0 to 1, found 2")]
    fn refuse_panics_with_the_message_of_validation() {
        Problems::refuse("a flip", |problems| {
            problems.number("probability", 2.0, 0.0..=1.0);
        });
    }
}
