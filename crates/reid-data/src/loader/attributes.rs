//! Attribute classes: the class indices of labels other than the identity.

use std::collections::{BTreeMap, BTreeSet};

use reid_core::Sample;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The mapping between the values of one attribute and class indices: the values, sorted by their bytes, are
/// classes 0, 1, and so on.
///
/// A checkpoint must include this mapping, because the outputs of an attribute classifier have no meaning
/// without it.
///
/// ```
/// use reid_data::loader::AttributeClasses;
///
/// let colours = AttributeClasses::from_names(["red", "blue", "red"]);
/// assert_eq!(colours.names(), ["blue", "red"]);
/// assert_eq!(colours.class("red"), Some(1));
/// assert_eq!(colours.class("green"), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct AttributeClasses(Vec<String>);

impl AttributeClasses {
    /// Creates the classes of these names, which may repeat and be in any order.
    #[must_use]
    pub fn from_names<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        let names: BTreeSet<String> = names.into_iter().map(Into::into).collect();
        Self(names.into_iter().collect())
    }

    /// Creates the classes of every attribute that occurs in the samples, by attribute name. Junk samples and
    /// samples of unknown identity are ignored, because they are not trained on.
    ///
    /// ```
    /// use reid_core::{Identity, Sample};
    /// use reid_data::loader::AttributeClasses;
    ///
    /// let red = Sample::new("a.jpg", Identity::new(1)).with_attribute("colour", "red");
    /// let classes = AttributeClasses::from_samples(&[red]);
    /// assert_eq!(classes["colour"].names(), ["red"]);
    /// ```
    #[must_use]
    pub fn from_samples(samples: &[Sample]) -> BTreeMap<String, Self> {
        let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for sample in samples
            .iter()
            .filter(|sample| sample.identity.is_labelled())
        {
            for (attribute, name) in &sample.attributes {
                names.entry(attribute).or_default().insert(name);
            }
        }
        names
            .into_iter()
            .map(|(attribute, names)| (attribute.to_owned(), Self::from_names(names)))
            .collect()
    }

    /// The number of classes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no classes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The class index of a name, from 0; `None` if there is no such class.
    #[must_use]
    pub fn class(&self, name: &str) -> Option<usize> {
        self.0
            .binary_search_by(|known| known.as_str().cmp(name))
            .ok()
    }

    /// The name of a class index; `None` if the index is not less than [`len`](Self::len).
    #[must_use]
    pub fn name(&self, class: usize) -> Option<&str> {
        self.0.get(class).map(String::as_str)
    }

    /// The names, in the order of their class indices.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

/// Converts the list of names that a checkpoint contains.
impl TryFrom<Vec<String>> for AttributeClasses {
    type Error = Error;

    /// # Errors
    /// [`Error::AttributeOrder`] unless the names are in strictly ascending order.
    fn try_from(names: Vec<String>) -> Result<Self, Error> {
        match names.windows(2).position(|pair| pair[0] >= pair[1]) {
            Some(at) => Err(Error::AttributeOrder {
                class: at + 1,
                found: names[at + 1].clone(),
                previous: names[at].clone(),
            }),
            None => Ok(Self(names)),
        }
    }
}

impl From<AttributeClasses> for Vec<String> {
    fn from(classes: AttributeClasses) -> Self {
        classes.0
    }
}

#[cfg(test)]
mod tests {
    use reid_core::Identity;

    use super::*;

    #[test]
    fn every_attribute_has_classes_except_attributes_of_junk() {
        let sample = |label, colour: &str| {
            Sample::new("a.jpg", Identity::new(label)).with_attribute("colour", colour)
        };
        let samples = [
            sample(2, "red").with_attribute("bag", "10"),
            sample(1, "blue").with_attribute("bag", "9"),
            Sample::new("a.jpg", Identity::new(1)),
            sample(-1, "pink").with_attribute("hat", "yes"),
        ];
        let classes = AttributeClasses::from_samples(&samples);
        assert_eq!(classes.keys().collect::<Vec<_>>(), ["bag", "colour"]);
        assert_eq!(classes["colour"].names(), ["blue", "red"]);
        assert_eq!(classes["bag"].names(), ["10", "9"]);
        assert_eq!(classes["colour"].class("pink"), None);
        assert_eq!(classes["colour"].name(1), Some("red"));
        assert_eq!(classes["colour"].name(2), None);
    }

    #[test]
    fn saved_classes_are_read_back_and_unordered_ones_are_rejected() {
        let classes = AttributeClasses::from_names(["b", "a"]);
        let text = serde_json::to_string(&classes).unwrap();
        assert_eq!(text, r#"["a","b"]"#);
        let read = serde_json::from_str::<AttributeClasses>;
        assert_eq!(read(&text).unwrap(), classes);
        let error = read(r#"["a","c","b"]"#).expect_err("b comes after c");
        let expected = "class 2 is `b`, expected a name that sorts after `c`";
        assert!(error.to_string().contains(expected), "{error}");
    }
}
