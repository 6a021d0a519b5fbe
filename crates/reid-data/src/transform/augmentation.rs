//! Augmentation: the transforms of a recipe and their hyper-parameters.

use std::sync::Arc;

use reid_core::{InputSize, Problems, Validate};
use serde::{Deserialize, Serialize};

use super::{
    ColourJitter, Cutout, Flip, Normalise, PadCrop, RandomAffine, RandomErasing,
    RandomTranslation2d, Transform,
};

/// The transforms of a recipe and their hyper-parameters; saved as JSON next to the weights.
///
/// A transform that is `None` is skipped. The others are applied in the order of the fields. Custom
/// transforms are applied before or after all of them, see
/// [`TrainLoader::with_transform`](crate::loader::TrainLoader::with_transform).
///
/// The default is the augmentation of the strong baseline (Luo et al., 2019, arXiv:1903.07071): a flip with
/// probability 0.5, padding by 10 pixels and cropping, and erasing with probability 0.5, filled with the mean
/// colour.
///
/// ```
/// use reid_data::transform::{Augmentation, RandomTranslation2d};
///
/// // Relation-aware global attention uses a random translation instead of padding and cropping.
/// let augmentation = Augmentation::default()
///     .with_translation(RandomTranslation2d { probability: 0.5 })
///     .with_pad_crop(None);
/// assert_eq!(augmentation.transforms().len(), 3); // flip, translation, erasing
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Augmentation {
    /// Mirrors the picture left to right.
    pub flip: Option<Flip>,
    /// Enlarges by 1.125 and crops.
    pub translation: Option<RandomTranslation2d>,
    /// Pads with black and crops.
    pub pad_crop: Option<PadCrop>,
    /// Rotates, shifts, scales and shears.
    pub affine: Option<RandomAffine>,
    /// Changes brightness, contrast and saturation.
    pub colour: Option<ColourJitter>,
    /// Fills a rectangle of random size with one colour.
    pub erasing: Option<RandomErasing>,
    /// Fills a rectangle of fixed size with one colour.
    #[serde(default)]
    pub cutout: Option<Cutout>,
    /// Normalises each channel. Always applied, after all transforms, and also in evaluation.
    pub normalise: Normalise,
}

impl Default for Augmentation {
    fn default() -> Self {
        Self {
            flip: Some(Flip { probability: 0.5 }),
            pad_crop: Some(PadCrop { padding: 10 }),
            erasing: Some(RandomErasing::default()),
            ..Self::none()
        }
    }
}

macro_rules! setters {
    ($($set:ident $field:ident $transform:ident,)+) => {
        impl Augmentation {
            $(
                #[doc = concat!("Sets the [`", stringify!($transform), "`], or skips it with `None`.")]
                #[must_use]
                pub fn $set(self, $field: impl Into<Option<$transform>>) -> Self {
                    Self { $field: $field.into(), ..self }
                }
            )+
        }
    };
}

setters! {
    with_flip flip Flip,
    with_translation translation RandomTranslation2d,
    with_pad_crop pad_crop PadCrop,
    with_affine affine RandomAffine,
    with_colour colour ColourJitter,
    with_erasing erasing RandomErasing,
    with_cutout cutout Cutout,
}

impl Augmentation {
    /// Sets the [`Normalise`].
    #[must_use]
    pub fn with_normalise(self, normalise: Normalise) -> Self {
        Self { normalise, ..self }
    }

    /// No transforms, and [`Normalise::IMAGENET`].
    #[must_use]
    pub const fn none() -> Self {
        Self {
            flip: None,
            translation: None,
            pad_crop: None,
            affine: None,
            colour: None,
            erasing: None,
            cutout: None,
            normalise: Normalise::IMAGENET,
        }
    }

    /// Validates the augmentation for pictures of the size `input`.
    ///
    /// Besides the problems that [`validate`](Validate::validate) finds, this rejects a padding of
    /// [`PadCrop`] that is longer than the shorter side of the picture.
    pub fn validate_for(&self, input: InputSize, problems: &mut Problems) {
        self.validate(problems);
        if let Some(PadCrop { padding }) = self.pad_crop
            && padding <= InputSize::MAX_SIDE
        {
            let most = input.height.min(input.width);
            let expected = format_args!("0 to {most}, the shorter side of the input");
            problems.require("pad_crop.padding", padding <= most, expected, padding);
        }
    }

    /// The transforms that are not `None`, in the order in which they are applied.
    ///
    /// [`normalise`](Self::normalise) is not included, because it is applied after all transforms, including
    /// custom ones.
    ///
    /// # Panics
    /// If a value is outside the range that its field documents.
    #[must_use]
    pub fn transforms(&self) -> Vec<Arc<dyn Transform>> {
        fn part(part: Option<impl Transform + 'static>) -> Option<Arc<dyn Transform>> {
            part.map(|part| Arc::new(part) as Arc<dyn Transform>)
        }
        Problems::refuse("augmentation", |problems| self.validate(problems));
        let parts = [
            part(self.flip),
            part(self.translation),
            part(self.pad_crop),
            part(self.affine),
            part(self.colour),
            part(self.erasing),
            part(self.cutout),
        ];
        parts.into_iter().flatten().collect()
    }
}

impl Validate for Augmentation {
    fn validate(&self, problems: &mut Problems) {
        problems.nested("flip", &self.flip);
        problems.nested("translation", &self.translation);
        problems.nested("pad_crop", &self.pad_crop);
        problems.nested("affine", &self.affine);
        problems.nested("colour", &self.colour);
        problems.nested("erasing", &self.erasing);
        problems.nested("cutout", &self.cutout);
        problems.nested("normalise", &self.normalise);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transforms_are_in_the_order_of_the_fields() {
        let all = Augmentation {
            translation: Some(RandomTranslation2d { probability: 0.5 }),
            affine: Some(RandomAffine::IDENTITY),
            colour: Some(ColourJitter {
                brightness: 0.1,
                contrast: 0.1,
                saturation: 0.1,
            }),
            cutout: Some(Cutout::default()),
            ..Augmentation::default()
        };
        let names = all.transforms().into_iter().map(|part| {
            let text = format!("{part:?}");
            text.split(' ').next().unwrap_or_default().to_owned()
        });
        assert_eq!(
            names.collect::<Vec<_>>(),
            [
                "Flip",
                "RandomTranslation2d",
                "PadCrop",
                "RandomAffine",
                "ColourJitter",
                "RandomErasing",
                "Cutout"
            ]
        );
        assert!(Augmentation::none().transforms().is_empty());
    }

    #[test]
    fn a_saved_augmentation_is_read_back_and_an_unknown_field_is_rejected() {
        let text = serde_json::to_string(&Augmentation::default()).unwrap();
        assert!(text.contains(r#""pad_crop":{"padding":10}"#), "{text}");
        let read = serde_json::from_str::<Augmentation>;
        assert_eq!(read(&text).unwrap(), Augmentation::default());
        assert!(read(&text.replace("flip", "flop")).is_err());
    }

    #[test]
    #[should_panic(expected = "augmentation: flip.probability: expected 0 to 1, found 1.5")]
    fn a_probability_above_1_panics() {
        let augmentation = Augmentation {
            flip: Some(Flip { probability: 1.5 }),
            ..Augmentation::none()
        };
        let _ = augmentation.transforms();
    }

    #[test]
    #[should_panic(
        expected = "erasing.area: expected two fractions with 0 < min <= max <= 1, found 0.4 and 0.02"
    )]
    fn a_smallest_area_above_the_largest_panics() {
        let erasing = RandomErasing {
            area: (0.4, 0.02),
            ..RandomErasing::default()
        };
        let augmentation = Augmentation {
            erasing: Some(erasing),
            ..Augmentation::none()
        };
        let _ = augmentation.transforms();
    }
}
