//! Identity classes: the class index of each training identity.

use reid_core::Identity;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The mapping between identities and class indices: the training identities in ascending order are classes
/// 0, 1, and so on.
///
/// A checkpoint must include this mapping, because a classifier's outputs have no meaning without it. Junk
/// ([`Identity::JUNK`]) and unknown identities ([`Identity::UNKNOWN`]) have no class.
///
/// ```
/// use reid_core::Identity;
/// use reid_data::loader::Classes;
///
/// let classes = Classes::from_identities([7, 2, 7, -1].map(Identity::new));
/// assert_eq!(classes.len(), 2);
/// assert_eq!(classes.class(Identity::new(7)), Some(1));
/// assert_eq!(classes.identity(0), Some(Identity::new(2)));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<Identity>", into = "Vec<Identity>")]
pub struct Classes(Vec<Identity>);

impl Classes {
    /// Creates the classes of these identities, which may repeat and be in any order.
    #[must_use]
    pub fn from_identities(identities: impl IntoIterator<Item = Identity>) -> Self {
        let labelled = |identity: &Identity| identity.is_labelled();
        let mut identities: Vec<Identity> = identities.into_iter().filter(labelled).collect();
        identities.sort_unstable();
        identities.dedup();
        Self(identities)
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

    /// The class index of an identity, from 0; `None` if it was not trained on.
    #[must_use]
    pub fn class(&self, identity: Identity) -> Option<usize> {
        self.0.binary_search(&identity).ok()
    }

    /// The identity of a class index; `None` if the index is not less than [`len`](Self::len).
    #[must_use]
    pub fn identity(&self, class: usize) -> Option<Identity> {
        self.0.get(class).copied()
    }

    /// The identities, in the order of their class indices.
    #[must_use]
    pub fn identities(&self) -> &[Identity] {
        &self.0
    }
}

/// Converts the list of identities that a checkpoint contains.
impl TryFrom<Vec<Identity>> for Classes {
    type Error = Error;

    /// # Errors
    /// [`Error::ClassOrder`] unless the identities are in strictly ascending order.
    fn try_from(identities: Vec<Identity>) -> Result<Self, Error> {
        match identities.windows(2).position(|pair| pair[0] >= pair[1]) {
            Some(at) => Err(Error::ClassOrder {
                class: at + 1,
                found: identities[at + 1],
                previous: identities[at],
            }),
            None => Ok(Self(identities)),
        }
    }
}

impl From<Classes> for Vec<Identity> {
    fn from(classes: Classes) -> Self {
        classes.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_in_ascending_order_without_junk_and_unknown() {
        let classes = Classes::from_identities([30, -1, 4, 30, 0, -2].map(Identity::new));
        assert_eq!(classes.identities(), [0, 4, 30].map(Identity::new));
        assert_eq!(classes.class(Identity::new(4)), Some(1));
        assert_eq!(classes.class(Identity::new(5)), None);
        assert_eq!(classes.class(Identity::JUNK), None);
        assert_eq!(classes.identity(3), None);
    }

    #[test]
    fn saved_classes_are_read_back_and_unordered_ones_are_rejected() {
        let classes = Classes::from_identities([5, 3].map(Identity::new));
        let text = serde_json::to_string(&classes).unwrap();
        assert_eq!(text, "[3,5]");
        assert_eq!(serde_json::from_str::<Classes>(&text).unwrap(), classes);
        let error = serde_json::from_str::<Classes>("[3,7,7]").expect_err("7 twice");
        let expected = "class 2 is identity 7, expected an identity greater than 7";
        assert!(error.to_string().contains(expected), "{error}");
    }
}
