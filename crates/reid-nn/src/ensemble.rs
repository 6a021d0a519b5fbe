//! Ensemble: several models described as one.

use burn::{
    module::{Module, ModuleDisplay},
    tensor::Tensor,
};

use crate::{
    block::Block,
    head::{Head, ReidOutput, TrainingStep},
    model::ReidModel,
};

/// Whatever describes images: a model, or several side by side.
pub trait Embed {
    /// The descriptors of images, `[batch, dimensions]`.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    fn embed(&self, images: Tensor<4>) -> Tensor<2>;
}

/// A model that is trained: it has outputs for a criterion, and a form for evaluation.
pub trait Model: Embed + Module + ModuleDisplay + 'static {
    /// The outputs of a training step.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    fn forward_train(&self, images: Tensor<4>, step: TrainingStep<'_>) -> ReidOutput;

    /// The same model with batch normalisation folded into convolutions.
    #[must_use]
    fn fold_batch_norm(self) -> Self;

    /// The model as it is evaluated: without gradients, by running statistics, batch normalisation folded into
    /// convolutions.
    #[must_use]
    fn evaluation(&self) -> Self {
        self.valid().fold_batch_norm()
    }
}

impl<B: Block, H: Head> Model for ReidModel<B, H> {
    fn forward_train(&self, images: Tensor<4>, step: TrainingStep<'_>) -> ReidOutput {
        self.forward_train(images, step)
    }

    fn fold_batch_norm(self) -> Self {
        self.fold_batch_norm()
    }
}

impl<B: Block, H: Head> Embed for ReidModel<B, H> {
    fn embed(&self, images: Tensor<4>) -> Tensor<2> {
        self.embed(images)
    }
}

/// The descriptors of several models side by side, for models that take images of one size. Descriptors
/// that are already computed go side by side with `reid_eval::Embeddings::beside`.
///
/// ```text
/// f = [f₁, f₂, …]     or     [f₁/‖f₁‖, f₂/‖f₂‖, …]       [batch, dimensions₁ + dimensions₂ + …]
/// ```
///
/// With models at length 1 none counts more than another; without, one whose descriptors are long
/// does. The second model system of FNC (Liu et al., AI City 2020, Table 4) is FNC and BFE side by side, where the
/// paper names no scale.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Embed, Ensemble, Init, ReidModel, backbone::ResNetConfig};
/// use reid_nn::head::{BnNeckConfig, PooledHeadConfig};
///
/// let (device, size) = (Device::default(), InputSize::new(32, 16));
/// let init = Init::new(Seed::new(1), &device);
/// let backbone = ResNetConfig::resnet18().with_width(8);
/// let one = ReidModel::new(&backbone, &BnNeckConfig::new(), size, 3, &init);
/// let two = ReidModel::new(&backbone, &PooledHeadConfig::new(), size, 3, &init);
/// let both = Ensemble { models: (one, two), normalised: true };
/// let embeddings = both.embed(Tensor::ones([2, 3, 32, 16], &device));
/// assert_eq!(embeddings.dims(), [2, 64 + 64]);
/// // Each half has length 1.
/// let squared = embeddings.square().sum().into_scalar::<f32>();
/// assert!((squared - 4.0).abs() < 1e-4);
/// ```
#[derive(Clone, Debug)]
pub struct Ensemble<M> {
    /// The models: a tuple of two to four, or a list of one kind.
    pub models: M,
    /// Whether each descriptor is scaled to length 1. A flip test takes the mean behind that, so a model
    /// whose two views of an image differ counts a little less.
    pub normalised: bool,
}

impl<M> Ensemble<M> {
    fn scaled(&self, embedding: Tensor<2>) -> Tensor<2> {
        if !self.normalised {
            return embedding;
        }
        let length = embedding
            .clone()
            .square()
            .sum_dim(1)
            .clamp_min(1e-24)
            .sqrt();
        embedding / length
    }
}

impl<D: Embed> Embed for Ensemble<Vec<D>> {
    /// # Panics
    /// If there is no model.
    fn embed(&self, images: Tensor<4>) -> Tensor<2> {
        assert!(
            !self.models.is_empty(),
            "an ensemble has at least 1 model, found none"
        );
        let models = self.models.iter();
        let described = models.map(|model| self.scaled(model.embed(images.clone())));
        Tensor::cat(described.collect(), 1)
    }
}

macro_rules! tuple_of_models {
    ($($name:ident $index:tt),+) => {
        impl<$($name: Embed),+> Embed for Ensemble<($($name,)+)> {
            fn embed(&self, images: Tensor<4>) -> Tensor<2> {
                let described = vec![
                    $(self.scaled(self.models.$index.embed(images.clone()))),+
                ];
                Tensor::cat(described, 1)
            }
        }
    };
}

tuple_of_models!(A 0, B 1);
tuple_of_models!(A 0, B 1, C 2);
tuple_of_models!(A 0, B 1, C 2, D 3);

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use reid_core::InputSize;

    use super::*;
    use crate::{backbone::ResNetConfig, head::PooledHeadConfig};

    #[test]
    fn lists_and_tuples_stand_side_by_side_in_order() {
        let (device, size) = (Device::default(), InputSize::new(32, 16));
        let init = crate::fixtures::init(&device);
        let model = |place, width| {
            let backbone = ResNetConfig::resnet18().with_width(width);
            ReidModel::new(
                &backbone,
                &PooledHeadConfig::new(),
                size,
                3,
                &init.at(place),
            )
        };
        let models = vec![model(0, 2), model(1, 4), model(2, 2)];
        let images = Tensor::<4>::ones([1, 3, 32, 16], &device);
        let alone: Vec<f32> = models
            .iter()
            .flat_map(|model| read(model.embed(images.clone())))
            .collect();
        let [one, two, three] = [0, 1, 2].map(|at| models[at].clone());
        let normalised = false;
        let list = Ensemble { models, normalised };
        assert_eq!(read(list.embed(images.clone())), alone);
        let models = (one, two, three);
        assert_eq!(read(Ensemble { models, normalised }.embed(images)), alone);
    }

    fn read(embeddings: Tensor<2>) -> Vec<f32> {
        embeddings.into_data().try_to_vec().expect("numbers")
    }

    #[test]
    #[should_panic(expected = "at least 1 model, found none")]
    fn no_model_is_refused() {
        let models = Vec::<ReidModel<crate::backbone::ResNet, crate::head::BnNeck>>::new();
        let ensemble = Ensemble {
            models,
            normalised: true,
        };
        let _ = ensemble.embed(Tensor::ones([1, 3, 8, 8], &Device::default()));
    }
}
