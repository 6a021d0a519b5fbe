//! The task of semantic segmentation: images with a label for every pixel.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use reid_core::Seed;
use reid_data::{
    loader::LoaderConfig,
    segmentation::{CropLoader, LabelEncoding, PixelBatch, PixelSplits},
};
use reid_nn::{
    Precision,
    segmentation::{LabelMaps, PixelModel, PixelNetwork},
};

use super::{EpochBatches, Evaluation, Task};
use crate::{
    error::Error,
    learner::{SegmentationLearner, StepOutput},
    recipe::SegmentationRecipe,
    segmenter::Segmenter,
};

/// Semantic segmentation: crops of images with a label for every pixel.
///
/// A model is evaluated by the mean intersection over union (mIoU) of the validation images.
/// [`Trainer::segmentation`](crate::Trainer::segmentation) creates it.
#[derive(Debug)]
pub struct PixelTask<'a> {
    splits: &'a PixelSplits,
    encoding: LabelEncoding,
    loader: CropLoader,
    /// The number of batches of an epoch.
    batches: usize,
    segmenter: Segmenter,
    precision: Precision,
    device: Device,
}

impl<'a> PixelTask<'a> {
    pub(crate) fn new<N: PixelNetwork>(
        recipe: &SegmentationRecipe<N>,
        splits: &'a PixelSplits,
        encoding: &LabelEncoding,
        loading: LoaderConfig,
        device: &Device,
    ) -> Self {
        let samples = splits.train.clone();
        let (crop, sampling) = (recipe.crop, recipe.sampling);
        let loader = CropLoader::new(samples, encoding.clone(), recipe.seed, crop, sampling);
        Self {
            splits,
            encoding: encoding.clone(),
            loader: loader.with_config(loading),
            batches: sampling.batches,
            segmenter: Segmenter::from_recipe(recipe),
            precision: recipe.precision,
            device: device.clone(),
        }
    }

    /// The images of a batch on the autodiff device, `[batch, 3, height, width]`.
    fn images(&self, batch: &PixelBatch) -> Tensor<4> {
        let [count, height, width] = batch.shape;
        let data = TensorData::new(batch.images.clone(), [count, 3, height, width]);
        let images = Tensor::from_data(data, &self.device.clone().autodiff());
        self.precision.cast(images)
    }
}

impl<M: PixelModel> Task<SegmentationLearner<M>> for PixelTask<'_> {
    type Batch = PixelBatch;

    fn epoch(&self, epoch: usize, first: usize) -> Result<EpochBatches<PixelBatch>, Error> {
        let count = self.batches;
        let rest = self.loader.epoch_from(epoch, first.min(count));
        Ok(EpochBatches { count, rest })
    }

    fn files<'b>(&'b self, batch: &'b PixelBatch) -> Vec<&'b Path> {
        let samples = batch.samples.iter();
        samples.map(|sample| sample.image.as_path()).collect()
    }

    fn training_step(
        &self,
        learner: &SegmentationLearner<M>,
        batch: &PixelBatch,
        seed: Seed,
    ) -> StepOutput {
        let device = self.device.clone().autodiff();
        let labels = LabelMaps::new(batch.labels.clone(), batch.shape, &device);
        learner.training_step(self.images(batch), &labels, seed)
    }

    fn forward_train(&self, learner: &SegmentationLearner<M>, batch: &PixelBatch, seed: Seed) {
        let _ = learner.model.forward_train(self.images(batch), seed);
    }

    fn is_evaluated(&self) -> bool {
        !self.splits.val.is_empty()
    }

    fn evaluate(&self, model: &M) -> Result<Evaluation, Error> {
        let (samples, encoding) = (&self.splits.val, &self.encoding);
        let report =
            self.segmenter
                .evaluate(&model.evaluation(), samples, encoding, &self.device)?;
        Ok(Evaluation {
            segmentation: Some(report),
            ..Evaluation::default()
        })
    }
}
