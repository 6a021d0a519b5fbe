//! The export of a segmentation model or of its run.

use std::path::Path;

use burn::tensor::Device;
use reid_core::{InputSize, Problems};
use reid_data::transform::Normalise;
use reid_nn::{Init, segmentation::PixelNetwork};
use reid_train::{Checkpoints, SegmentationRecipe};
use reid_zoo::Embedder;

use super::{encoded, images, preparation, write};
use crate::{
    error::Error,
    graph::{Graph, Scope},
    model::LowerPixelModel,
};

/// How images are prepared for a segmentation model. It is written into the file; see the
/// [metadata](crate#metadata). [`export_segmentation`] has an example.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct SegmentationExportConfig {
    /// The size of the images, and of the logits.
    pub input: InputSize,
    /// The mean and the standard deviation by which images are normalised before the network.
    pub normalise: Normalise,
}

impl SegmentationExportConfig {
    /// The configuration for images of this size, with the normalisation of `ImageNet`.
    #[must_use]
    pub const fn new(input: InputSize) -> Self {
        Self {
            input,
            normalise: Normalise::IMAGENET,
        }
    }

    /// The configuration of a recipe: the size of its crops, and its normalisation.
    #[must_use]
    pub const fn from_recipe<N>(recipe: &SegmentationRecipe<N>) -> Self {
        Self {
            input: recipe.crop.size,
            normalise: recipe.crop.normalise,
        }
    }

    /// Sets the size of the images.
    #[must_use]
    pub const fn with_input(self, input: InputSize) -> Self {
        Self { input, ..self }
    }

    /// Sets the normalisation of the images.
    #[must_use]
    pub const fn with_normalise(self, normalise: Normalise) -> Self {
        Self { normalise, ..self }
    }
}

/// Writes a segmentation model as an ONNX file, in evaluation mode, from images to the logits of their
/// pixels. The auxiliary head is omitted.
///
/// The file is for images of one size, because the averages over grids, `RoIAlign` and the scales of the
/// resizing are constants of this size. Write a file for each size, or compute larger images in windows. The
/// file appears completely or not at all. Exporting needs memory for three copies of the parameters.
///
/// ```
/// use burn::tensor::Device;
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Init, backbone::ResNetConfig};
/// use reid_onnx::{SegmentationExportConfig, export_segmentation};
/// use reid_zoo::segmentation;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("deeplab.onnx");
/// let mut config = segmentation::deeplab_v3(ResNetConfig::resnet50().with_width(2));
/// config.head.context.channels = 4;
/// let (input, device) = (InputSize::new(48, 64), Device::default());
/// let model = config.init(input, 19, &Init::new(Seed::new(1), &device));
/// export_segmentation(&model, &SegmentationExportConfig::new(input), &path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If a part of the model cannot be exported, if the file would have more than 2 GiB, or if it cannot be
/// written.
///
/// # Panics
/// If the model was built for another input size and has weights that fit only that size.
pub fn export_segmentation<M: LowerPixelModel>(
    model: &M,
    config: &SegmentationExportConfig,
    path: impl AsRef<Path>,
) -> Result<(), Error> {
    write(path.as_ref(), segmentation_to_onnx(model, config)?)
}

/// Writes a trained segmentation model as an ONNX file. `run` is a run or a checkpoint whose network is an
/// `N`, such as a [`SegmentationConfig`](reid_nn::segmentation::SegmentationConfig).
///
/// The images have the size `input`, or that of the crops of the run if it is `None`. Their normalisation is
/// that of the run.
///
/// ```no_run
/// use reid_core::InputSize;
/// use reid_nn::segmentation::{PyramidPoolingConfig, SegmentationConfig};
///
/// type PspNet = SegmentationConfig<PyramidPoolingConfig>;
/// let whole = InputSize::new(1024, 2048);
/// reid_onnx::export_segmentation_run::<PspNet>("run/best", Some(whole), "pspnet.onnx")?;
/// # Ok::<(), reid_onnx::Error>(())
/// ```
///
/// # Errors
/// - If the run cannot be opened, or its network is not an `N`.
/// - If the network does not fit the size of the images, or fits only that of the crops.
/// - As [`export_segmentation`].
pub fn export_segmentation_run<N>(
    run: impl AsRef<Path>,
    input: Option<InputSize>,
    path: impl AsRef<Path>,
) -> Result<(), Error>
where
    N: PixelNetwork<Model: LowerPixelModel>,
{
    let checkpoint = Embedder::find_checkpoint(run)?;
    let device = Device::default();
    let opened = || -> Result<_, reid_train::Error> {
        let recipe: SegmentationRecipe<N> = Checkpoints::segmentation_recipe(&checkpoint)?;
        recipe.check()?;
        let init = Init::empty(&device);
        let (crop, classes) = (recipe.crop.size, recipe.classes);
        let model = recipe.network.init(crop, classes, &init);
        Ok((Checkpoints::load_model(&checkpoint, model)?, recipe))
    };
    let (model, recipe) = opened().map_err(reid_zoo::Error::Run)?;
    let mut config = SegmentationExportConfig::from_recipe(&recipe);
    if let Some(input) = input {
        check_size(&recipe, input)?;
        config = config.with_input(input);
    }
    export_segmentation(&model, &config, path)
}

/// Checks that the network of a recipe accepts images of this size.
fn check_size<N: PixelNetwork>(
    recipe: &SegmentationRecipe<N>,
    input: InputSize,
) -> Result<(), Error> {
    let (crop, mut problems) = (recipe.crop.size, Problems::new());
    if recipe.network.fits_one_size() && input != crop {
        let expected = format!("{crop}, the size of the crops, which is the only one that fits");
        problems.require("input", false, expected, input);
    } else if problems.nested("input", &input) {
        problems.at("network", |problems| {
            recipe.network.validate_network(input, problems);
        });
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(reid_zoo::Error::Network { problems }.into())
    }
}

/// Returns the bytes of the ONNX file that [`export_segmentation`] writes.
///
/// # Errors
/// If a part of the model cannot be exported, or if the file would have more than 2 GiB.
///
/// # Panics
/// As [`export_segmentation`].
pub fn segmentation_to_onnx<M: LowerPixelModel>(
    model: &M,
    config: &SegmentationExportConfig,
) -> Result<Vec<u8>, Error> {
    let mut graph = Graph::default();
    let images = images(config.input);
    let model = model.evaluation();
    let logits = model.lower_pixels(&mut Scope::new(&mut graph), &images)?;
    let [classes, _, _] = logits.dims;
    let mut metadata = preparation(config.input, config.normalise);
    metadata.push(("classes", classes.to_string()));
    encoded(graph.finish(&images, "logits", &logits), metadata)
}

#[cfg(test)]
mod tests {
    use reid_nn::{
        attention::RgaSpatialConfig,
        backbone::ResNetConfig,
        segmentation::{DecodeHeadConfig, SegmentationConfig},
    };

    use super::*;

    #[test]
    fn a_network_that_fits_one_size_is_exported_only_for_it() {
        let head = DecodeHeadConfig::plain().with_channels(8);
        let head = head.with_attention(RgaSpatialConfig::new());
        let network = SegmentationConfig::new(ResNetConfig::resnet18().with_width(4), head);
        let mut recipe = SegmentationRecipe::ocnet("toy", network);
        let crop = InputSize::new(33, 33);
        recipe.crop.size = crop;
        assert!(check_size(&recipe, crop).is_ok());
        let error = check_size(&recipe, InputSize::new(65, 33)).expect_err("another size");
        let expected = "input: expected 33x33, the size of the crops, which is the only one that fits, \
                        found 65x33";
        assert!(error.to_string().contains(expected), "{error}");
    }
}
