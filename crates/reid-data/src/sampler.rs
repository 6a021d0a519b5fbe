//! Samplers, which choose the images of each training batch.
//!
//! | sampler | batches |
//! |---|---|
//! | [`IdentitySampler`] | P identities with K images each, for losses that compare images |
//! | [`SourceSampler`] | the same, with equally many identities of each merged dataset |
//! | [`RandomSampler`] | shuffled images, for training with a classification loss only |
//!
//! A custom sampler implements one function, [`Sampler::batches`].

use std::{fmt, sync::Arc};

use reid_core::{Sample, Seed};

use crate::Error;

mod cameras;
mod identity;
mod random;
mod source;

pub use identity::{EpochDefinition, IdentitySampler};
pub use random::RandomSampler;
pub use source::SourceSampler;

/// A sampler, which chooses the images of each batch of an epoch.
///
/// ```
/// use reid_core::{Identity, Sample, Seed};
/// use reid_data::{Error, sampler::Sampler};
///
/// /// All images in their order, in batches of a fixed size; the last batch may be smaller.
/// #[derive(Debug)]
/// struct InOrder {
///     batch_size: usize,
/// }
///
/// impl Sampler for InOrder {
///     fn batches(&self, samples: &[Sample], _seed: Seed) -> Result<Vec<Vec<usize>>, Error> {
///         if self.batch_size == 0 {
///             return Err(Error::Sampling { reason: "a batch of 0 images".into() });
///         }
///         let indices: Vec<usize> = (0..samples.len()).collect();
///         Ok(indices.chunks(self.batch_size).map(<[usize]>::to_vec).collect())
///     }
/// }
///
/// let samples = vec![Sample::new("a.jpg", Identity::new(1)); 5];
/// let batches = InOrder { batch_size: 2 }.batches(&samples, Seed::new(1))?;
/// assert_eq!(batches, [vec![0, 1], vec![2, 3], vec![4]]);
/// # Ok::<(), Error>(())
/// ```
pub trait Sampler: fmt::Debug + Send + Sync {
    /// Returns the batches of one epoch, each as indices into `samples`.
    ///
    /// The result must depend only on the arguments and the sampler's settings: a resumed run requests the
    /// interrupted epoch again and expects the same batches. Training passes a different seed for each epoch,
    /// `seed.named("sampler").at(epoch)`.
    ///
    /// [`TrainLoader`](crate::loader::TrainLoader) panics if a batch is empty, if an index is out of range,
    /// or if the sample has no known identity ([`Identity::is_labelled`](reid_core::Identity::is_labelled) is
    /// false).
    ///
    /// # Errors
    /// If the samples are not enough for a batch: [`Error::TooFewIdentities`], [`Error::TooFewImages`], or
    /// [`Error::Sampling`] with a custom reason.
    fn batches(&self, samples: &[Sample], seed: Seed) -> Result<Vec<Vec<usize>>, Error>;
}

impl<S: Sampler + ?Sized> Sampler for Box<S> {
    fn batches(&self, samples: &[Sample], seed: Seed) -> Result<Vec<Vec<usize>>, Error> {
        (**self).batches(samples, seed)
    }
}

impl<S: Sampler + ?Sized> Sampler for Arc<S> {
    fn batches(&self, samples: &[Sample], seed: Seed) -> Result<Vec<Vec<usize>>, Error> {
        (**self).batches(samples, seed)
    }
}
