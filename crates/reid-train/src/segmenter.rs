//! Computes the classes of all pixels of whole images, and compares them with label maps.

use std::slice;

use burn::tensor::{Device, Tensor, TensorData};
use reid_core::InputSize;
use reid_data::{
    segmentation::{LabelEncoding, PixelSample, whole_images},
    transform::Normalise,
};
use reid_eval::{ConfusionMatrix, SegmentationReport};
use reid_nn::{
    Precision,
    segmentation::{PixelModel, PixelNetwork, SlidingWindow},
};

use crate::{error::Error, recipe::SegmentationRecipe};

/// Computes the classes of all pixels of whole images, at once or in windows.
///
/// ```
/// use burn::tensor::Device;
/// use reid_core::{InputSize, Seed};
/// use reid_data::{segmentation::{LabelEncoding, PixelSample}, transform::Normalise};
/// use reid_nn::{Init, backbone::ResNetConfig};
/// use reid_nn::segmentation::{DecodeHeadConfig, SegmentationConfig};
/// use reid_train::Segmenter;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("1.png");
/// # image::GrayImage::new(40, 32).save(&path)?;
/// let head = DecodeHeadConfig::plain().with_channels(4);
/// let config = SegmentationConfig::new(ResNetConfig::resnet18().with_width(2), head);
/// let device = Device::default();
/// let model = config.init(InputSize::new(32, 40), 3, &Init::new(Seed::new(1), &device));
///
/// let samples = [PixelSample::new(&path, &path)];
/// let segmenter = Segmenter::new(Normalise::IMAGENET);
/// let report = segmenter.evaluate(&model.evaluation(), &samples, &LabelEncoding::classes(3), &device)?;
/// assert_eq!(report.pixels, 40 * 32);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Segmenter {
    normalise: Normalise,
    window: Option<SlidingWindow>,
    precision: Precision,
    /// Whether the model fits no image that is smaller than the window.
    needs_whole_windows: bool,
}

/// The classes of an image, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentedImage {
    /// The class of every pixel in the label map, or 255: `[height, width]`.
    pub labels: Vec<u8>,
    /// The class of every pixel that the model predicts, `[height, width]`.
    pub predictions: Vec<u8>,
}

impl Segmenter {
    /// A segmenter of whole images with this normalisation, in single precision.
    #[must_use]
    pub const fn new(normalise: Normalise) -> Self {
        Self {
            normalise,
            window: None,
            precision: Precision::Single,
            needs_whole_windows: false,
        }
    }

    /// The segmenter for the evaluation of a recipe: its normalisation, windows and precision.
    #[must_use]
    pub fn from_recipe<N: PixelNetwork>(recipe: &SegmentationRecipe<N>) -> Self {
        Self {
            normalise: recipe.crop.normalise,
            window: recipe.window,
            precision: recipe.precision,
            needs_whole_windows: recipe.network.fits_one_size(),
        }
    }

    /// Averages the probabilities of windows, or with `None` computes the whole image at once.
    #[must_use]
    pub const fn with_window(self, window: Option<SlidingWindow>) -> Self {
        Self { window, ..self }
    }

    /// Computes the class of every pixel of an image. The model must be in evaluation mode
    /// (`model.evaluation()`), on `device`, which is without autodiff.
    ///
    /// # Errors
    /// - if a file cannot be read, or a value of the label map is not in the encoding
    /// - if the network of the recipe fits only the size of the windows, and the image is smaller
    ///
    /// # Panics
    /// If the stride of the window is out of range, or the model has more than 256 classes.
    pub fn segment<M: PixelModel>(
        &self,
        model: &M,
        sample: &PixelSample,
        encoding: &LabelEncoding,
        device: &Device,
    ) -> Result<SegmentedImage, Error> {
        let batch = whole_images(slice::from_ref(sample), encoding, self.normalise)?;
        let [count, height, width] = batch.shape;
        if let (true, Some(window)) = (self.needs_whole_windows, &self.window) {
            let found = InputSize::new(height, width);
            if height < window.size.height || width < window.size.width {
                return Err(too_small(sample, window.size, found));
            }
        }
        let data = TensorData::new(batch.images, [count, 3, height, width]);
        let images = self.precision.cast(Tensor::from_data(data, device));
        let scores = match &self.window {
            None => model.forward(images),
            Some(window) => window.probabilities(&images, |images| model.forward(images)),
        };
        let predictions = scores.argmax(1).into_data();
        Ok(SegmentedImage {
            labels: batch.labels,
            predictions: predictions.iter::<u8>().collect(),
        })
    }

    /// Computes the mean intersection over union (mIoU) of samples. Images may differ in size.
    ///
    /// # Errors
    /// As [`segment`](Self::segment), and if no pixel has a label, or a prediction is not a class of the
    /// encoding.
    ///
    /// # Panics
    /// As [`segment`](Self::segment).
    pub fn evaluate<M: PixelModel>(
        &self,
        model: &M,
        samples: &[PixelSample],
        encoding: &LabelEncoding,
        device: &Device,
    ) -> Result<SegmentationReport, Error> {
        let mut matrix = ConfusionMatrix::new(encoding.count().max(1));
        for sample in samples {
            let image = self.segment(model, sample, encoding, device)?;
            matrix.add(&image.labels, &image.predictions)?;
        }
        Ok(matrix.report()?)
    }
}

fn too_small(sample: &PixelSample, window: InputSize, found: InputSize) -> Error {
    let expected = format!("an image of at least {window}, the size of the windows");
    let (path, found) = (sample.image.clone(), found.to_string());
    let error = reid_data::Error::Entry {
        path,
        expected,
        found,
    };
    error.into()
}
