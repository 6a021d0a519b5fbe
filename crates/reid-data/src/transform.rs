//! Transforms: what is done to a picture before the network sees it.
//!
//! | part | what it does |
//! |---|---|
//! | [`Flip`] | mirrors left and right |
//! | [`PadCrop`] | pads with black and crops back: shifts |
//! | [`RandomTranslation2d`] | enlarges and crops back: zooms and shifts |
//! | [`RandomAffine`] | turns, shifts, scales and shears |
//! | [`ColourJitter`] | changes brightness, contrast and saturation |
//! | [`RandomErasing`] | paints over a rectangle |
//! | [`Cutout`] | paints over a rectangle of fixed size |
//! | [`Normalise`] | centres and scales each colour |
//!
//! [`Augmentation`] names which of them a recipe uses. A part of one's own is a struct with one
//! function, [`Transform::apply`]; tuples, vectors and options of parts are parts.

use std::{fmt, sync::Arc};

use reid_core::Stream;

mod augmentation;
mod colour_jitter;
mod cutout;
mod draw;
mod flip;
mod normalise;
mod pad_crop;
mod picture;
mod random_affine;
mod random_erasing;
mod random_translation_2d;

pub use augmentation::Augmentation;
pub use colour_jitter::ColourJitter;
pub use cutout::Cutout;
pub use flip::Flip;
pub use normalise::Normalise;
pub use pad_crop::PadCrop;
pub use picture::Picture;
pub use random_affine::RandomAffine;
pub use random_erasing::RandomErasing;
pub use random_translation_2d::RandomTranslation2d;

/// A change to a picture, at random or not.
///
/// ```
/// use reid_core::{Seed, Stream};
/// use reid_data::transform::{Flip, Picture, Transform};
///
/// /// Swaps black and white.
/// #[derive(Debug)]
/// struct Invert;
///
/// impl Transform for Invert {
///     fn apply(&self, picture: &mut Picture, _stream: &mut Stream) {
///         picture.values.iter_mut().for_each(|value| *value = 1.0 - *value);
///     }
/// }
///
/// let mut picture = Picture::new(1, 2, vec![0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
/// let chain = (Invert, Flip { probability: 1.0 });
/// chain.apply(&mut picture, &mut Seed::new(1).stream());
/// assert_eq!(picture.values, [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
/// ```
pub trait Transform: fmt::Debug + Send + Sync {
    /// Changes the picture, drawing whatever is random from `stream` alone.
    fn apply(&self, picture: &mut Picture, stream: &mut Stream);
}

impl<T: Transform + ?Sized> Transform for Box<T> {
    fn apply(&self, picture: &mut Picture, stream: &mut Stream) {
        (**self).apply(picture, stream);
    }
}

impl<T: Transform + ?Sized> Transform for Arc<T> {
    fn apply(&self, picture: &mut Picture, stream: &mut Stream) {
        (**self).apply(picture, stream);
    }
}

/// A part that may be absent.
impl<T: Transform> Transform for Option<T> {
    fn apply(&self, picture: &mut Picture, stream: &mut Stream) {
        if let Some(transform) = self {
            transform.apply(picture, stream);
        }
    }
}

/// One part after the other.
impl<T: Transform> Transform for Vec<T> {
    fn apply(&self, picture: &mut Picture, stream: &mut Stream) {
        for transform in self {
            transform.apply(picture, stream);
        }
    }
}

/// Implements [`Transform`] for a tuple of parts: one after the other.
macro_rules! chain {
    ($($part:ident)*) => {
        /// One part after the other.
        impl<$($part: Transform),*> Transform for ($($part,)*) {
            fn apply(&self, picture: &mut Picture, stream: &mut Stream) {
                #[expect(non_snake_case, reason = "a tuple's parts are named by their types")]
                let ($($part,)*) = self;
                $($part.apply(picture, stream);)*
            }
        }
    };
}

chain!(A);
chain!(A B);
chain!(A B C);
chain!(A B C D);
chain!(A B C D E);
chain!(A B C D E F);

/// Nothing happens.
impl Transform for () {
    fn apply(&self, _picture: &mut Picture, _stream: &mut Stream) {}
}

#[cfg(test)]
mod tests {
    use reid_core::Seed;

    use super::*;

    /// Appends its digit to a number.
    #[derive(Debug)]
    struct Digit(f32);

    impl Transform for Digit {
        fn apply(&self, picture: &mut Picture, _stream: &mut Stream) {
            let digit = self.0;
            picture
                .values
                .iter_mut()
                .for_each(|v| *v = *v * 10.0 + digit);
        }
    }

    #[test]
    fn chains_run_from_first_to_last() {
        let parts: Vec<Box<dyn Transform>> = vec![Box::new(Digit(4.0)), Box::new(Digit(5.0))];
        let chain = (
            (),
            Digit(1.0),
            (Digit(2.0), Some(Digit(3.0))),
            None::<Digit>,
            parts,
        );
        let mut picture = Picture::new(1, 1, vec![0.0; 3]);
        chain.apply(&mut picture, &mut Seed::new(0).stream());
        assert_eq!(picture.values, [12345.0; 3]);
    }
}
