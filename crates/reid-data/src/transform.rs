//! Image transforms, applied to a picture before it is given to the network.
//!
//! | transform | effect |
//! |---|---|
//! | [`Flip`] | mirrors the picture left to right |
//! | [`PadCrop`] | pads with black and crops at random: a shift |
//! | [`RandomTranslation2d`] | enlarges by 1.125 and crops at random: a zoom and a shift |
//! | [`RandomAffine`] | rotates, shifts, scales and shears |
//! | [`ColourJitter`] | changes brightness, contrast and saturation |
//! | [`RandomErasing`] | fills a rectangle of random size with one colour |
//! | [`Cutout`] | fills a rectangle of fixed size with one colour |
//! | [`Normalise`] | subtracts the mean and divides by the standard deviation of each channel |
//!
//! [`Augmentation`] selects the transforms of a recipe. A custom transform implements one function,
//! [`Transform::apply`]. Tuples, vectors and options of transforms are transforms.

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

/// An image transform: changes a picture, at random or deterministically.
///
/// ```
/// use reid_core::{Seed, Stream};
/// use reid_data::transform::{Flip, Picture, Transform};
///
/// /// Inverts the picture.
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
    /// Changes the picture. All random numbers must come from `stream`.
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

/// Applies the transform if there is one.
impl<T: Transform> Transform for Option<T> {
    fn apply(&self, picture: &mut Picture, stream: &mut Stream) {
        if let Some(transform) = self {
            transform.apply(picture, stream);
        }
    }
}

/// Applies the transforms in order.
impl<T: Transform> Transform for Vec<T> {
    fn apply(&self, picture: &mut Picture, stream: &mut Stream) {
        for transform in self {
            transform.apply(picture, stream);
        }
    }
}

/// Implements [`Transform`] for a tuple of transforms, which are applied in order.
macro_rules! chain {
    ($($part:ident)*) => {
        /// Applies the transforms in order.
        impl<$($part: Transform),*> Transform for ($($part,)*) {
            fn apply(&self, picture: &mut Picture, stream: &mut Stream) {
                #[expect(non_snake_case, reason = "the variables have the names of their types")]
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

/// Changes nothing.
impl Transform for () {
    fn apply(&self, _picture: &mut Picture, _stream: &mut Stream) {}
}

#[cfg(test)]
mod tests {
    use reid_core::Seed;

    use super::*;

    /// Appends a decimal digit to each value.
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
