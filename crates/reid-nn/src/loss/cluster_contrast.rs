//! Cluster contrast: `InfoNCE` against a memory of centroids (Dai et al., Cluster Contrast for Unsupervised
//! Person Re-Identification, ACCV 2022, arXiv:2103.11568).

use std::{cmp::Reverse, collections::BTreeMap};

use burn::{
    config::Config,
    module::Module,
    nn::Initializer,
    tensor::{Device, IndexingUpdateOp, Int, Tensor, activation::log_softmax},
};
use reid_core::Problems;
use serde::{Deserialize, Serialize};

use crate::{
    criterion::{Criterion, CriterionConfig, NamedLoss},
    distance,
    head::{OutputShape, ReidOutput},
    init::Init,
    norm::RunningStatistic,
    precision::widened,
    targets::Targets,
};

/// The images of a batch by which the centroid of their cluster is updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CentroidUpdate {
    /// Each image of the cluster, one after the other in the order of the batch.
    EachImage,
    /// Only the image that is least similar to the centroid; the first one of equally similar images.
    HardestImage,
}

/// Configuration of [`ClusterContrast`], whose documentation has an example.
#[derive(Config, Debug)]
pub struct ClusterContrastConfig {
    /// The weight m of the old centroid in an update, from 0 to 1; 0.1 in the authors' code.
    #[config(default = 0.1)]
    pub momentum: f64,
    /// The temperature τ of the similarities, from 0.001 to 1000; 0.05 in the paper.
    #[config(default = 0.05)]
    pub temperature: f64,
    /// The images by which a centroid is updated; each image by default.
    #[config(default = "CentroidUpdate::EachImage")]
    pub update: CentroidUpdate,
}

/// Contrasts the embeddings of a batch with a memory that holds the centroid of every cluster.
///
/// ```text
/// x = embedding / ‖embedding‖
/// L = mean_i( -log( exp(x_i · c_{id_i} / τ) / Σ_k exp(x_i · c_k / τ) ) )
/// then, for the images i of the batch:  c ← m·c + (1 - m)·x_i,  c ← c/‖c‖      c = c_{id_i}
/// ```
///
/// Centroids are not trained. They are updated after the loss is computed, and only if the criterion is on
/// an autodiff device, as the running statistics of batch normalisation are. They are saved with the
/// criterion. Copies are independent; see [`RunningStatistic`].
///
/// The centroids of a new criterion are random directions. Training without labels replaces them by the
/// means of the clusters ([`set_centroids`](Self::set_centroids)).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::Seed;
/// use reid_nn::{Criterion, CriterionConfig, Init, OutputShape, ReidOutput, Targets};
/// use reid_nn::loss::ClusterContrastConfig;
///
/// let device = Device::default().autodiff();
/// let init = Init::new(Seed::new(1), &device);
/// let config = ClusterContrastConfig::new().with_temperature(1.0).with_momentum(0.5);
/// let criterion = config.init(&OutputShape::single(2, 2), &init);
/// criterion.set_centroids(Tensor::from_data([[5.0, 0.0], [0.0, 5.0]], &device));
///
/// let embedding = Tensor::<2>::from_data([[0.0, 3.0]], &device);
/// let output = ReidOutput::single(embedding.clone(), embedding);
/// let loss = criterion.forward(&output, &Targets::new(&[0], &device));
/// // The similarities are 0 and 1: ln(e⁰ + e¹) - 0.
/// assert!((loss.into_scalar::<f32>() - 1.313_262).abs() < 1e-5);
/// // The centroid (1, 0) has moved to the direction of (½, ½).
/// let first: Vec<f32> = criterion.centroids.value().narrow(0, 0, 1).into_data().iter().collect();
/// assert!(first.iter().all(|value| (value - 0.5_f32.sqrt()).abs() < 1e-6));
/// ```
#[derive(Module, Debug)]
pub struct ClusterContrast {
    /// The centroids, `[clusters, dimensions]`, each of length 1.
    pub centroids: RunningStatistic<2>,
    momentum: f64,
    temperature: f64,
    #[module(skip)]
    update: CentroidUpdate,
}

impl CriterionConfig for ClusterContrastConfig {
    type Criterion = ClusterContrast;

    fn init(&self, output: &OutputShape, init: &Init<'_>) -> ClusterContrast {
        Problems::refuse("a cluster contrast loss", |problems| {
            self.validate(problems);
        });
        let normal = Initializer::Normal {
            mean: 0.0,
            std: 1.0,
        };
        let shape = [output.classes, output.embedding];
        let directions = init.tensor(shape, &normal, shape).val().detach();
        ClusterContrast {
            centroids: RunningStatistic::new(distance::unit(directions)),
            momentum: self.momentum,
            temperature: self.temperature,
            update: self.update,
        }
    }

    fn validate(&self, problems: &mut Problems) {
        problems.number("momentum", self.momentum, 0.0..=1.0);
        problems.number("temperature", self.temperature, 1e-3..=1e3);
    }
}

impl ClusterContrast {
    /// Replaces the centroids by these vectors, such as the means of the embeddings of each cluster, scaled
    /// to length 1.
    ///
    /// # Shapes
    /// - `means`: `[clusters, dimensions]`
    ///
    /// # Panics
    /// If the criterion was built for another shape.
    pub fn set_centroids(&self, means: Tensor<2>) {
        let old = self.centroids.value();
        assert_eq!(
            means.dims(),
            old.dims(),
            "the cluster contrast loss was built for centroids of shape {:?} and got {:?}",
            old.dims(),
            means.dims()
        );
        let means = means.without_autodiff().to_device(&old.device());
        // The sum uses autodiff if the old centroids do, so that the criterion still trains or evaluates.
        let unit = distance::unit(means).cast(old.dtype());
        self.centroids.set(old.zeros_like() + unit);
    }

    /// Updates the centroids of the clusters of a batch. `images` are those of each cluster, in the order
    /// of the updates.
    fn update_centroids(&self, unit: Tensor<2>, images: BTreeMap<usize, Vec<usize>>) {
        // Clusters with many images come first, so that the k-th updates are of the first clusters in the
        // list.
        let mut clusters: Vec<(usize, Vec<usize>)> = images.into_iter().collect();
        clusters.sort_by_key(|(_, images)| Reverse(images.len()));
        let old = self.centroids.value();
        let device = old.device();
        let unit = unit.detach().cast(old.dtype());

        let rows = indices(clusters.iter().map(|(cluster, _)| *cluster), &device);
        let before = old.clone().select(0, rows.clone());
        let mut after = before.clone();
        let updates = clusters.first().map_or(0, |(_, images)| images.len());
        for update in 0..updates {
            let images = clusters.iter().map_while(|(_, images)| images.get(update));
            let images: Vec<usize> = images.copied().collect();
            let moving = images.len();
            let towards = unit.clone().select(0, indices(images.into_iter(), &device));
            let moved = after.clone().narrow(0, 0, moving) * self.momentum
                + towards * (1.0 - self.momentum);
            let moved = distance::unit(moved);
            after = match clusters.len() - moving {
                0 => moved,
                rest => Tensor::cat(vec![moved, after.narrow(0, moving, rest)], 0),
            };
        }
        // c - c is exactly 0, so the sum is exactly the new centroid. Not all backends can assign rows.
        let updated = old
            .select_assign(0, rows.clone(), before.neg(), IndexingUpdateOp::Add)
            .select_assign(0, rows, after, IndexingUpdateOp::Add);
        self.centroids.set(updated);
    }
}

impl Criterion for ClusterContrast {
    fn uses_logits(&self) -> bool {
        false
    }

    fn losses(&self, output: &ReidOutput, targets: &Targets) -> Vec<NamedLoss> {
        let centroids = self.centroids.value();
        let is_training = centroids.device().is_autodiff();
        let ([clusters, built], [images, found]) = (centroids.dims(), output.embedding.dims());
        assert_eq!(
            built, found,
            "the cluster contrast loss was built for embeddings of {built} dimensions and got {found}"
        );
        targets.check_classes(clusters);
        let unit = distance::unit(widened(output.embedding.clone()));
        let centroids = centroids.cast(unit.dtype());
        let similarity = unit.clone().matmul(centroids.transpose());
        let labels = targets.labels.clone().reshape([images, 1]);
        let own = similarity.clone().gather(1, labels.clone()).detach();
        let log_probability = log_softmax(similarity / self.temperature, 1);
        let loss = log_probability.gather(1, labels).mean().neg();
        if is_training {
            let mut images = by_cluster(&targets.on_host());
            if self.update == CentroidUpdate::HardestImage {
                let own: Vec<f64> = own.into_data().iter::<f64>().collect();
                for images in images.values_mut() {
                    let all = images.iter().copied();
                    let hardest = all.min_by(|&a, &b| own[a].total_cmp(&own[b]));
                    *images = hardest.into_iter().collect();
                }
            }
            self.update_centroids(unit, images);
        }
        vec![NamedLoss::new("cluster contrast", loss)]
    }
}

/// The images of each cluster, by ascending index.
fn by_cluster(labels: &[usize]) -> BTreeMap<usize, Vec<usize>> {
    let mut clusters: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (image, &label) in labels.iter().enumerate() {
        clusters.entry(label).or_default().push(image);
    }
    clusters
}

fn indices(values: impl Iterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let index = |value| i32::try_from(value).expect("an index must be below 2³¹");
    let values: Vec<i32> = values.map(index).collect();
    Tensor::from_data(values.as_slice(), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    const CENTROIDS: [[f32; 2]; 3] = [[1.0, 0.0], [0.0, 1.0], [-0.6, 0.8]];
    const EMBEDDINGS: [[f32; 2]; 4] = [[0.0, 2.0], [3.0, 4.0], [-5.0, 0.0], [4.0, -3.0]];
    const LABELS: [usize; 4] = [0, 1, 0, 0];

    fn criterion(config: &ClusterContrastConfig, device: &Device) -> ClusterContrast {
        let criterion = config.init(&OutputShape::single(2, 3), &fixtures::init(device));
        criterion.set_centroids(Tensor::from_data(CENTROIDS, device));
        criterion
    }

    fn loss(criterion: &ClusterContrast, device: &Device) -> f32 {
        let embedding = Tensor::<2>::from_data(EMBEDDINGS, device);
        let output = ReidOutput::single(embedding.clone(), embedding);
        let loss = criterion.forward(&output, &Targets::new(&LABELS, device));
        loss.into_scalar()
    }

    fn read(criterion: &ClusterContrast) -> Vec<f32> {
        criterion.centroids.value().into_data().iter().collect()
    }

    /// Moves a centroid by a weight of 0.25 for the old one towards unit vectors, one after the other.
    fn moved(mut centroid: [f32; 2], towards: &[[f32; 2]]) -> [f32; 2] {
        for vector in towards {
            let sum = [0, 1].map(|axis| 0.25 * centroid[axis] + 0.75 * vector[axis]);
            centroid = sum.map(|value| value / sum[0].hypot(sum[1]));
        }
        centroid
    }

    fn expect_centroids(found: &[f32], expected: [[f32; 2]; 3]) {
        for (found, expected) in found.iter().zip(expected.concat()) {
            assert!((found - expected).abs() < 1e-6, "{found}, {expected}");
        }
    }

    #[test]
    fn centroids_move_in_the_order_of_the_batch_and_others_stay() {
        let device = Device::default().autodiff();
        let config = ClusterContrastConfig::new().with_momentum(0.25);
        let criterion = criterion(&config, &device);
        let (before, copy) = (read(&criterion), criterion.clone());
        loss(&criterion, &device);
        // Images 0, 2 and 3 are of cluster 0, image 1 of cluster 1.
        let first = moved(CENTROIDS[0], &[[0.0, 1.0], [-1.0, 0.0], [0.8, -0.6]]);
        let second = moved(CENTROIDS[1], &[[0.6, 0.8]]);
        let found = read(&criterion);
        expect_centroids(&found, [first, second, CENTROIDS[2]]);
        assert_eq!(
            found[4..],
            before[4..],
            "no image of the batch is of cluster 2"
        );
        assert_eq!(read(&copy), before, "a copy is independent");
    }

    #[test]
    fn the_hardest_image_moves_its_centroid_once() {
        let device = Device::default().autodiff();
        let config = ClusterContrastConfig::new()
            .with_momentum(0.25)
            .with_update(CentroidUpdate::HardestImage);
        let criterion = criterion(&config, &device);
        loss(&criterion, &device);
        // Of the similarities 0, -1 and 0.8 with (1, 0), that of image 2 is the lowest.
        let first = moved(CENTROIDS[0], &[[-1.0, 0.0]]);
        let second = moved(CENTROIDS[1], &[[0.6, 0.8]]);
        expect_centroids(&read(&criterion), [first, second, CENTROIDS[2]]);
    }

    #[test]
    fn an_evaluation_has_the_same_loss_and_moves_no_centroid() {
        let device = Device::default();
        let config = ClusterContrastConfig::new();
        let evaluated = criterion(&config, &device);
        let before = read(&evaluated);
        let found = loss(&evaluated, &device);
        assert_eq!(read(&evaluated), before);
        let training = device.autodiff();
        let trained = criterion(&config, &training);
        assert!((found - loss(&trained, &training)).abs() < 1e-6 * found);
        assert_ne!(read(&trained), before);
    }

    #[test]
    fn labels_of_a_tensor_move_the_same_centroids() {
        let device = Device::default().autodiff();
        let config = ClusterContrastConfig::new();
        let [one, other] = [0; 2].map(|_| criterion(&config, &device));
        loss(&one, &device);
        let embedding = Tensor::<2>::from_data(EMBEDDINGS, &device);
        let output = ReidOutput::single(embedding.clone(), embedding);
        let labels = Targets::new(&LABELS, &device).labels;
        let _ = other.forward(&output, &labels.into());
        assert_eq!(read(&one), read(&other));
    }

    #[test]
    #[should_panic(expected = "built for embeddings of 2 dimensions and got 3")]
    fn another_dimension_panics() {
        let device = Device::default();
        let criterion = criterion(&ClusterContrastConfig::new(), &device);
        let embedding = Tensor::<2>::ones([1, 3], &device);
        let output = ReidOutput::single(embedding.clone(), embedding);
        let _ = criterion.forward(&output, &Targets::new(&[0], &device));
    }

    #[test]
    #[should_panic(
        expected = "a cluster contrast loss: momentum: expected 0 to 1, found 1.5\n\
                    temperature: expected 0.001 to 1000, found 0"
    )]
    fn invalid_hyper_parameters_panic() {
        let config = ClusterContrastConfig::new()
            .with_momentum(1.5)
            .with_temperature(0.0);
        let _ = config.init(
            &OutputShape::single(2, 3),
            &fixtures::init(&Device::default()),
        );
    }
}
