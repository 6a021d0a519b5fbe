//! New runs of each task.

use burn::tensor::Device;
use reid_core::Splits;
use reid_data::{
    loader::{AttributeClasses, LoaderConfig},
    segmentation::{LabelEncoding, PixelSplits},
};
use reid_nn::{
    Criterion, CriterionConfig, Model, Network,
    segmentation::{PixelModel, PixelNetwork},
};
use serde::{Serialize, de::DeserializeOwned};

use super::Trainer;
use crate::{
    checkpoint::Fingerprint,
    error::Error,
    learner::{Learner, ReidLearner, SegmentationLearner, Slot},
    recipe::{Recipe, SegmentationRecipe, images},
    run::Run,
    settings::Settings,
    task::{ImageTask, PixelTask},
    teacher::TeacherLosses,
};

impl<'a, M: Model, C: Criterion> Trainer<'a, ReidLearner<M, C>> {
    /// A new run with the network and the losses of the recipe. The weights are drawn from its seed.
    /// `device` is without autodiff; the learner is on its autodiff counterpart.
    ///
    /// # Errors
    /// [`Error::Recipe`] lists all settings that are invalid by themselves, for the device or for the data.
    pub fn new<N, L>(
        recipe: &Recipe<N, L>,
        splits: &'a Splits,
        loading: LoaderConfig,
        device: &Device,
    ) -> Result<Self, Error>
    where
        N: Network<Model = M>,
        L: CriterionConfig<Criterion = C> + Clone + Serialize + DeserializeOwned,
    {
        let warnings = recipe.validate_settings(splits, device)?;
        let (mut run, task) = image_run(recipe, splits, loading, device)?;
        run.stages = recipe.network.stage_paths();
        let learner = ReidLearner::build(recipe, task.classes().len(), device);
        Self::of_run(run, Slot::new(learner, task), warnings)
    }
}

impl<'a, L: Learner> Trainer<'a, L> {
    /// A new run with a custom learner, which must be on the autodiff counterpart of `device`. The network
    /// and the losses of the recipe are not built. They are saved, and must be the same when the run
    /// resumes. If a loss of the recipe uses a teacher, the run needs [one](Self::with_teacher).
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`Error::Recipe`] if no parameter of the learner requires a gradient.
    pub fn with_learner<N, C>(
        recipe: &Recipe<N, C>,
        splits: &'a Splits,
        learner: L,
        loading: LoaderConfig,
        device: &Device,
    ) -> Result<Self, Error>
    where
        N: Network,
        C: CriterionConfig + Clone + Serialize + DeserializeOwned,
    {
        let warnings = recipe.validate_settings(splits, device)?;
        let (mut run, mut task) = image_run(recipe, splits, loading, device)?;
        task.has_own_learner = true;
        run.stages = recipe.network.stage_paths();
        run.note("learner", std::any::type_name::<L>().to_owned());
        Self::of_run(run, Slot::new(learner, task), warnings)
    }
}

impl<'a, M: PixelModel> Trainer<'a, SegmentationLearner<M>, PixelTask<'a>> {
    /// A new run of semantic segmentation with the network and the loss of the recipe. The weights are drawn
    /// from its seed. `encoding` maps the values of the label maps to classes. `device` is without autodiff;
    /// the learner is on its autodiff counterpart.
    ///
    /// ```
    /// use burn::tensor::Device;
    /// use reid_core::InputSize;
    /// use reid_data::{loader::LoaderConfig, segmentation::{LabelEncoding, pairs}};
    /// use reid_nn::backbone::ResNetConfig;
    /// use reid_nn::segmentation::{DecodeHeadConfig, PixelLoss, SegmentationConfig};
    /// use reid_synthetic::StreetsConfig;
    /// use reid_train::{SegmentationRecipe, Trainer};
    ///
    /// let folder = tempfile::tempdir()?;
    /// StreetsConfig::new().with_train(2).with_val(1).write(folder.path())?;
    /// let (splits, encoding) = (pairs::load(folder.path())?, LabelEncoding::classes(4));
    ///
    /// let head = DecodeHeadConfig::plain().with_channels(4);
    /// let network = SegmentationConfig::new(ResNetConfig::resnet18().with_width(2), head);
    /// let mut recipe = SegmentationRecipe::ocnet("toy", network);
    /// (recipe.classes, recipe.losses) = (4, PixelLoss::new());
    /// recipe.crop.size = InputSize::new(33, 33);
    /// (recipe.sampling.images, recipe.sampling.batches, recipe.epochs) = (2, 1, 1);
    ///
    /// let (loading, device) = (LoaderConfig::default(), Device::default());
    /// let trainer = Trainer::segmentation(&recipe, &splits, &encoding, loading, &device)?;
    /// let outcome = trainer.run(&mut ())?;
    /// assert_eq!(outcome.segmentation.expect("validation images").classes.len(), 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Recipe`] lists all settings that are invalid by themselves, for the device or for the data.
    pub fn segmentation<N: PixelNetwork<Model = M>>(
        recipe: &SegmentationRecipe<N>,
        splits: &'a PixelSplits,
        encoding: &LabelEncoding,
        loading: LoaderConfig,
        device: &Device,
    ) -> Result<Self, Error> {
        recipe.validate(splits, encoding, device)?;
        let samples: Vec<_> = splits.train.iter().chain(&splits.val).collect();
        let images = samples.iter().map(|sample| sample.image.as_path());
        let data = Fingerprint::of_pixels(&splits.train, encoding);
        let mut run = Run::new(recipe, Settings::from(recipe), data, images.collect())?;
        (run.label_maps, run.stages) = (samples, recipe.network.stage_paths());
        let task = PixelTask::new(recipe, splits, encoding, loading, device);
        let learner = SegmentationLearner::build(recipe, device);
        Self::of_run(run, Slot::new(learner, task), Vec::new())
    }
}

/// A run of re-identification or classification, and its task.
fn image_run<'a, N, L>(
    recipe: &Recipe<N, L>,
    splits: &'a Splits,
    loading: LoaderConfig,
    device: &Device,
) -> Result<(Run<'a>, ImageTask<'a>), Error>
where
    N: Serialize + DeserializeOwned,
    L: CriterionConfig + Serialize + DeserializeOwned,
{
    let data = Fingerprint::of_samples(&splits.train);
    let mut run = Run::new(recipe, Settings::from(recipe), data, images(splits))?;
    let losses = TeacherLosses::new(&recipe.losses, run.state.recipe["losses"].clone());
    let task = ImageTask::new(recipe, losses, splits, loading, device);
    run.state.classes = task.classes().clone();
    run.state.attribute_classes = AttributeClasses::from_samples(&splits.train);
    Ok((run, task))
}
