//! Ensembles: the concatenated embeddings of several models.

use burn::{
    module::{Module, ModuleDisplay},
    tensor::{Device, Tensor},
};

use crate::{
    block::Block,
    grad_cam::{GradCam, Target},
    head::{Head, ReidOutput, TrainingStep},
    model::ReidModel,
    similarity_map::EmbeddingTerms,
};

/// Computes embeddings of images: a model, or an ensemble of models.
///
/// Implement it for a model of another kind, so that an extractor or an embedder can use it:
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_nn::{Embed, pool};
///
/// /// The mean colour of an image.
/// struct MeanColour;
///
/// impl Embed for MeanColour {
///     fn embed(&self, images: Tensor<4>) -> Tensor<2> {
///         pool::average(images)
///     }
/// }
///
/// let images = Tensor::ones([2, 3, 8, 4], &Device::default());
/// assert_eq!(MeanColour.embed(images).dims(), [2, 3]);
/// ```
pub trait Embed: Sync {
    /// Computes the embeddings of images.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    /// - result: `[batch, dimensions]`
    fn embed(&self, images: Tensor<4>) -> Tensor<2>;

    /// Computes the class scores of images in evaluation mode, before the softmax: the mean over the
    /// classifiers of the model. `None` if there is no single model, as in an ensemble.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    /// - result: `[batch, classes]`, on a plain device
    fn logits(&self, images: Tensor<4>) -> Option<Tensor<2>> {
        let _ = images;
        None
    }

    /// Computes [Grad-CAM](GradCam) of the class with the highest score in the first branch, on the feature map
    /// that the head gets. `None` if there is no single head, as in an ensemble.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    /// - result: `[batch, rows, columns]`, on a plain device
    fn grad_cam(&self, images: Tensor<4>) -> Option<Tensor<3>> {
        let _ = images;
        None
    }

    /// Splits the embeddings of images into one term per position of the feature map that the head pools, for
    /// [similarity maps](crate::similarity_map). `None` if the model cannot.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    fn embedding_terms(&self, images: Tensor<4>) -> Option<EmbeddingTerms> {
        let _ = images;
        None
    }

    /// The device of the parameters, if it is known. Images must be on the same hardware.
    fn device(&self) -> Option<Device> {
        None
    }
}

impl<E: Embed + ?Sized> Embed for Box<E> {
    fn embed(&self, images: Tensor<4>) -> Tensor<2> {
        (**self).embed(images)
    }

    fn logits(&self, images: Tensor<4>) -> Option<Tensor<2>> {
        (**self).logits(images)
    }

    fn grad_cam(&self, images: Tensor<4>) -> Option<Tensor<3>> {
        (**self).grad_cam(images)
    }

    fn embedding_terms(&self, images: Tensor<4>) -> Option<EmbeddingTerms> {
        (**self).embedding_terms(images)
    }

    fn device(&self) -> Option<Device> {
        (**self).device()
    }
}

/// A model that can be trained: it has an output for criteria, and a version for evaluation. A
/// [`ReidModel`], which has an example, is one for every backbone and head.
pub trait Model: Embed + Module + ModuleDisplay + 'static {
    /// Computes the output of a training step.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    fn forward_train(&self, images: Tensor<4>, step: TrainingStep<'_>) -> ReidOutput;

    /// Returns the model with batch normalisation folded into convolutions.
    #[must_use]
    fn fold_batch_norm(self) -> Self;

    /// Copies the model for evaluation: without gradients, with running statistics, and with batch
    /// normalisation folded into convolutions.
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

    fn logits(&self, images: Tensor<4>) -> Option<Tensor<2>> {
        Some(self.logits(images))
    }

    fn grad_cam(&self, images: Tensor<4>) -> Option<Tensor<3>> {
        let features = self.valid().backbone.forward(images.without_autodiff());
        Some(GradCam::new().maps(&self.head, features, Target::Highest))
    }

    fn embedding_terms(&self, images: Tensor<4>) -> Option<EmbeddingTerms> {
        let features = self.valid().backbone.forward(images.without_autodiff());
        Some(EmbeddingTerms::of(&self.head, features))
    }

    fn device(&self) -> Option<Device> {
        self.devices().into_iter().next()
    }
}

/// Concatenates the embeddings of several models that take images of one size. Embeddings that are already
/// computed are concatenated with `reid_eval::Embeddings::concat`.
///
/// ```text
/// f = [f₁, f₂, …]     or     [f₁/‖f₁‖, f₂/‖f₂‖, …]       [batch, dimensions₁ + dimensions₂ + …]
/// ```
///
/// With embeddings normalised to length 1, all models have equal influence on distances. Without
/// normalisation, a model with longer embeddings has more. The ensemble of FNC and BFE (Liu et al., AI City
/// 2020, Table 4) is an example; the paper does not say whether embeddings are normalised.
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
    /// The models: a tuple of two to four, or a `Vec` of one type.
    pub models: M,
    /// Whether the embedding of each model is normalised to length 1. A flip test averages afterwards, so a
    /// model whose embeddings of an image and its mirror image differ has slightly less influence.
    pub normalised: bool,
}

impl<M> Ensemble<M> {
    fn scale(&self, embedding: Tensor<2>) -> Tensor<2> {
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

    fn scale_terms(&self, terms: EmbeddingTerms) -> EmbeddingTerms {
        if self.normalised { terms.unit() } else { terms }
    }
}

impl<D: Embed> Embed for Ensemble<Vec<D>> {
    /// # Panics
    /// If there is no model.
    fn embed(&self, images: Tensor<4>) -> Tensor<2> {
        assert!(
            !self.models.is_empty(),
            "an ensemble needs at least 1 model, found none"
        );
        let models = self.models.iter();
        let embeddings = models.map(|model| self.scale(model.embed(images.clone())));
        Tensor::cat(embeddings.collect(), 1)
    }

    fn embedding_terms(&self, images: Tensor<4>) -> Option<EmbeddingTerms> {
        let terms = self.models.iter().map(|model| {
            let terms = model.embedding_terms(images.clone())?;
            Some(self.scale_terms(terms))
        });
        let terms: Option<Vec<_>> = terms.collect();
        terms?.into_iter().reduce(EmbeddingTerms::concat)
    }

    fn device(&self) -> Option<Device> {
        self.models.iter().find_map(D::device)
    }
}

macro_rules! tuple_of_models {
    ($($name:ident $index:tt),+) => {
        impl<$($name: Embed),+> Embed for Ensemble<($($name,)+)> {
            fn embed(&self, images: Tensor<4>) -> Tensor<2> {
                let embeddings = vec![
                    $(self.scale(self.models.$index.embed(images.clone()))),+
                ];
                Tensor::cat(embeddings, 1)
            }

            fn embedding_terms(&self, images: Tensor<4>) -> Option<EmbeddingTerms> {
                let terms = vec![
                    $(self.scale_terms(self.models.$index.embedding_terms(images.clone())?)),+
                ];
                terms.into_iter().reduce(EmbeddingTerms::concat)
            }

            fn device(&self) -> Option<Device> {
                let devices = [$(self.models.$index.device()),+];
                devices.into_iter().flatten().next()
            }
        }
    };
}

tuple_of_models!(A 0, B 1);
tuple_of_models!(A 0, B 1, C 2);
tuple_of_models!(A 0, B 1, C 2, D 3);

#[cfg(test)]
mod tests {
    use reid_core::InputSize;

    use super::*;
    use crate::{backbone::ResNetConfig, head::PooledHeadConfig};

    #[test]
    fn lists_and_tuples_concatenate_in_order() {
        let (device, size) = (Device::default(), InputSize::new(32, 16));
        let init = crate::fixtures::init(&device);
        let model = |index, width| {
            let backbone = ResNetConfig::resnet18().with_width(width);
            ReidModel::new(
                &backbone,
                &PooledHeadConfig::new(),
                size,
                3,
                &init.at(index),
            )
        };
        let models = vec![model(0, 2), model(1, 4), model(2, 2)];
        let images = Tensor::<4>::ones([1, 3, 32, 16], &device);
        let expected: Vec<f32> = models
            .iter()
            .flat_map(|model| read(model.embed(images.clone())))
            .collect();
        let [one, two, three] = [0, 1, 2].map(|at| models[at].clone());
        let normalised = false;
        let list = Ensemble { models, normalised };
        assert_eq!(read(list.embed(images.clone())), expected);
        let models = (one, two, three);
        let tuple = Ensemble { models, normalised };
        assert_eq!(read(tuple.embed(images)), expected);
        assert_eq!(
            (list.device(), tuple.device()),
            (Some(device.clone()), Some(device))
        );
    }

    fn read(embeddings: Tensor<2>) -> Vec<f32> {
        embeddings.into_data().try_to_vec().expect("f32 values")
    }

    #[test]
    #[should_panic(expected = "at least 1 model, found none")]
    fn an_empty_ensemble_panics() {
        let models = Vec::<ReidModel<crate::backbone::ResNet, crate::head::BnNeck>>::new();
        let ensemble = Ensemble {
            models,
            normalised: true,
        };
        let _ = ensemble.embed(Tensor::ones([1, 3, 8, 8], &Device::default()));
    }
}
