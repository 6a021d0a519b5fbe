//! The classes of the values in label maps.

use std::path::Path;

use crate::Error;

/// The label of pixels without a class.
pub const IGNORED: u8 = 255;

/// Maps the values in the files of label maps to classes. A value without an entry is an error, because
/// labels of another dataset, or lossy compression, would otherwise go unnoticed.
///
/// ```
/// use reid_data::segmentation::{IGNORED, LabelEncoding};
///
/// let ids = LabelEncoding::CITYSCAPES_IDS;
/// assert_eq!(ids.class(7), Some(0)); // road
/// assert_eq!(ids.class(33), Some(18)); // bicycle
/// assert_eq!(ids.class(0), Some(IGNORED));
/// assert_eq!(ids.class(34), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelEncoding {
    classes: [Option<u8>; 256],
    /// The valid values, in error messages.
    expected: &'static str,
}

/// The ids of the classes of Cityscapes, from road to bicycle.
const CITYSCAPES: [u8; 19] = [
    7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33,
];

impl LabelEncoding {
    /// The ids of `labelIds.png` of Cityscapes: 19 classes, and others from 0 to 33 that are ignored.
    pub const CITYSCAPES_IDS: Self = {
        let mut classes = [None; 256];
        let mut id = 0;
        while id <= 33 {
            classes[id] = Some(IGNORED);
            id += 1;
        }
        let mut class = 0;
        while class < 19 {
            classes[CITYSCAPES[class as usize] as usize] = Some(class);
            class += 1;
        }
        Self {
            classes,
            expected: "an id of Cityscapes from 0 to 33",
        }
    };

    /// The names of the 19 classes of Cityscapes.
    pub const CITYSCAPES_NAMES: [&'static str; 19] = [
        "road",
        "sidewalk",
        "building",
        "wall",
        "fence",
        "pole",
        "traffic light",
        "traffic sign",
        "vegetation",
        "terrain",
        "sky",
        "person",
        "rider",
        "car",
        "truck",
        "bus",
        "train",
        "motorcycle",
        "bicycle",
    ];

    /// Values that are classes already, from 0 to `classes` - 1, and 255 for pixels without a class. Such are
    /// `labelTrainIds.png` of Cityscapes, with 19 classes.
    ///
    /// # Panics
    /// If `classes` is not 1 to 255.
    #[must_use]
    pub fn classes(classes: usize) -> Self {
        assert!(
            (1..=255).contains(&classes),
            "label maps have 1 to 255 classes, found {classes}"
        );
        let mut map = [None; 256];
        for (class, value) in (0..=u8::MAX).zip(&mut map).take(classes) {
            *value = Some(class);
        }
        map[usize::from(IGNORED)] = Some(IGNORED);
        Self {
            classes: map,
            expected: "a class of the dataset or 255",
        }
    }

    /// Sets the class of a value; [`IGNORED`] for values without a class.
    #[must_use]
    pub fn with_value(mut self, value: u8, class: u8) -> Self {
        self.classes[usize::from(value)] = Some(class);
        self
    }

    /// The class of a value, [`IGNORED`] if it has none; `None` if the value is not valid.
    #[must_use]
    pub fn class(&self, value: u8) -> Option<u8> {
        self.classes[usize::from(value)]
    }

    /// The number of classes: the largest class of a value, plus 1.
    #[must_use]
    pub fn count(&self) -> usize {
        let classes = self.classes.iter().flatten();
        let largest = classes.filter(|class| **class != IGNORED).max();
        largest.map_or(0, |largest| usize::from(*largest) + 1)
    }

    /// Maps the values of a label map `width` pixels wide, which was read from `path`.
    pub(super) fn encode(
        &self,
        mut values: Vec<u8>,
        width: usize,
        path: &Path,
    ) -> Result<Vec<u8>, Error> {
        for (pixel, value) in values.iter_mut().enumerate() {
            let (row, column) = (pixel / width, pixel % width);
            *value = self.class(*value).ok_or_else(|| Error::Entry {
                path: path.to_owned(),
                expected: format!("{} at row {row}, column {column} (from 0)", self.expected),
                found: value.to_string(),
            })?;
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_of_cityscapes_is_a_class_or_ignored() {
        let ids = LabelEncoding::CITYSCAPES_IDS;
        let classes = (0..=33).filter_map(|id| ids.class(id).filter(|class| *class != IGNORED));
        assert_eq!(classes.collect::<Vec<_>>(), (0..19).collect::<Vec<_>>());
        assert!((34..=255).all(|id| ids.class(id).is_none()));
        assert_eq!(
            (ids.count(), LabelEncoding::classes(255).count()),
            (19, 255)
        );
        assert_eq!(
            (ids.class(26), LabelEncoding::CITYSCAPES_NAMES[13]),
            (Some(13), "car")
        );
    }

    #[test]
    fn a_value_without_an_entry_is_rejected_with_its_pixel() {
        let encoding = LabelEncoding::classes(3).with_value(9, IGNORED);
        let path = Path::new("a.png");
        let found = encoding.encode(vec![0, 2, 9, 255], 2, path).expect("valid");
        assert_eq!(found, [0, 2, 255, 255]);
        let error = encoding.encode(vec![0, 1, 2, 3], 2, path);
        let expected = "a.png: expected a class of the dataset or 255 at row 1, column 1 (from 0), \
                        found `3`";
        assert_eq!(error.expect_err("no class").to_string(), expected);
    }
}
