//! Samplers: which images make a batch.
//!
//! | part | a batch is |
//! |---|---|
//! | [`IdentitySampler`] | P identities with K images each, for losses that compare images |
//! | [`RandomSampler`] | any images, for classification alone |
//!
//! A sampler of one's own is a struct with one function, [`Sampler::batches`].

use std::{fmt, sync::Arc};

use reid_core::{Sample, Seed};

use crate::Error;

mod identity;
mod random;

pub use identity::{EpochDefinition, IdentitySampler};
pub use random::RandomSampler;

/// Chooses which images make the batches of an epoch.
///
/// ```
/// use reid_core::{Identity, Sample, Seed};
/// use reid_data::{Error, sampler::Sampler};
///
/// /// All images in their order, in batches of a fixed size.
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
    /// The batches of one epoch, as indices into `samples`.
    ///
    /// The result must depend on nothing but the arguments and the sampler's own settings: a run that
    /// is resumed asks again for the epoch that it was in, and expects the same batches. Training gives
    /// every epoch a seed of its own, `seed.named("sampler").at(epoch)`.
    ///
    /// The loader panics for an index that is not that of a sample, for the index of an image that does not
    /// say whom it shows ([`Identity::is_labelled`](reid_core::Identity::is_labelled)), and for a batch
    /// without images.
    ///
    /// # Errors
    /// If the samples do not make a batch: [`Error::TooFewIdentities`], [`Error::TooFewImages`], or
    /// [`Error::Sampling`] with a reason of one's own.
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
