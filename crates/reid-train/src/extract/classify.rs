//! Classifies test images.

use burn::tensor::Device;
use reid_core::Sample;
use reid_data::loader::Classes;
use reid_eval::Classification;
use reid_nn::Embed;

use super::{Extractor, images};
use crate::error::Error;

impl Extractor {
    /// Classifies samples with a model, which must be in evaluation mode, on a device without autodiff
    /// (`model.valid()`). `classes` are those of the training identities. With a flip test, the scores of
    /// each image and its mirror image are averaged.
    ///
    /// ```
    /// use burn::tensor::Device;
    /// use reid_core::{Identity, InputSize, Sample, Seed};
    /// use reid_data::{loader::{Classes, LoaderConfig}, transform::Normalise};
    /// use reid_nn::{Init, ReidModel, backbone::ResNetConfig, head::PooledHeadConfig};
    /// use reid_train::Extractor;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("1.png");
    /// # image::RgbImage::new(8, 8).save(&path)?;
    /// let (device, size) = (Device::default(), InputSize::new(8, 8));
    /// let init = Init::new(Seed::new(1), &device);
    /// let model = ReidModel::new(&ResNetConfig::cifar(8), &PooledHeadConfig::new(), size, 2, &init);
    /// let extractor = Extractor::new(size, Normalise::CIFAR, LoaderConfig::default());
    /// let samples = [1, 2].map(|identity| Sample::new(&path, Identity::new(identity)));
    /// let classes = Classes::from_identities(samples.iter().map(|sample| sample.identity));
    /// let results = extractor.classify(&model, &samples, &classes, &device)?;
    /// assert_eq!((results.images(), results.error()), (2, 0.5)); // both images are the same
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// - [`Error::NoTestImages`] if there are no samples
    /// - [`Error::OtherClass`] if the identity of a sample is not among the classes
    /// - [`Error::NoClassifier`] if the model has no class scores
    /// - if an image cannot be read, or a score is not finite
    ///
    /// # Panics
    /// If the model has another number of classes.
    pub fn classify(
        &self,
        model: &dyn Embed,
        samples: &[Sample],
        classes: &Classes,
        device: &Device,
    ) -> Result<Classification, Error> {
        if samples.is_empty() {
            return Err(Error::NoTestImages);
        }
        let mut labels = Vec::with_capacity(samples.len());
        for sample in samples {
            let label = classes.class(sample.identity);
            labels.push(label.ok_or_else(|| Error::OtherClass {
                image: sample.path.clone(),
                identity: sample.identity,
                classes: classes.len(),
            })?);
        }
        let mut results = Classification::new(classes.len());
        for batch in self.loader.batches(samples, self.batch_size(device)) {
            let batch = batch?;
            let done = results.images();
            let labels = &labels[done..done + batch.identities.len()];
            let images = self.precision.cast(images(batch, device));
            let scores = if self.flip_test {
                let mirrored = model.logits(images.clone().flip([3]));
                let scores = model.logits(images);
                scores.zip(mirrored).map(|(one, other)| (one + other) / 2)
            } else {
                model.logits(images)
            };
            let scores = scores.ok_or(Error::NoClassifier)?;
            let scores = scores.into_data().convert::<f32>();
            let scores: Vec<f32> = scores.iter::<f32>().collect();
            results.add(&scores, labels)?;
            (self.progress.0)(results.images(), samples.len());
        }
        Ok(results)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;
    use reid_core::{Identity, InputSize};
    use reid_data::{loader::LoaderConfig, transform::Normalise};

    use super::*;

    /// Scores the three classes by the mean of red, green and blue.
    struct Colours;

    impl Embed for Colours {
        fn embed(&self, images: Tensor<4>) -> Tensor<2> {
            images.flatten::<3>(2, 3).mean_dim(2).squeeze_dim(2)
        }

        fn logits(&self, images: Tensor<4>) -> Option<Tensor<2>> {
            Some(self.embed(images))
        }
    }

    /// A model without a classifier.
    struct Plain;

    impl Embed for Plain {
        fn embed(&self, images: Tensor<4>) -> Tensor<2> {
            Colours.embed(images)
        }
    }

    /// Images of red, green and blue, of the identities 5, 7 and 5, in batches of 2.
    #[test]
    fn classes_are_those_of_the_training_identities() {
        let folder = tempfile::tempdir().expect("a folder");
        let colours = [([255, 0, 0], 5), ([0, 255, 0], 7), ([0, 0, 255], 5)];
        let sample = |(index, (colour, identity)): (usize, ([u8; 3], i64))| {
            let path = folder.path().join(format!("{index}.png"));
            let image = image::RgbImage::from_pixel(4, 4, image::Rgb(colour));
            image.save(&path).expect("saved");
            Sample::new(path, Identity::new(identity))
        };
        let samples: Vec<Sample> = colours.into_iter().enumerate().map(sample).collect();
        let classes = Classes::from_identities([5, 7, 9].map(Identity::new));
        let normalise = Normalise {
            mean: [0.0; 3],
            std: [1.0; 3],
        };
        let size = InputSize::new(4, 4);
        let extractor = Extractor::new(size, normalise, LoaderConfig::default()).with_batch_size(2);
        let device = Device::default();
        for extractor in [extractor.clone(), extractor.clone().with_flip_test()] {
            let results = extractor.classify(&Colours, &samples, &classes, &device);
            let results = results.expect("three images");
            assert_eq!(results.labels(), [0, 1, 0]);
            assert_eq!(results.predictions(), [0, 1, 2]);
        }
        let error = |model: &dyn Embed, samples: &[Sample], classes| {
            let results = extractor.classify(model, samples, classes, &device);
            results.expect_err("refused").to_string()
        };
        let few = Classes::from_identities([7, 9].map(Identity::new));
        let other = error(&Colours, &samples, &few);
        let expected = "0.png: expected an identity of one of the 2 classes, found 5";
        assert!(other.ends_with(expected), "{other}");
        assert_eq!(
            error(&Colours, &[], &classes),
            "there are no test images, expected at least 1"
        );
        assert!(error(&Plain, &samples, &classes).contains("has no class scores"));
    }
}
