//! Cross-entropy of cosines with a margin: `ArcFace` (Deng et al., CVPR 2019, arXiv:1801.07698) and `CosFace`
//! (Wang et al., CVPR 2018, arXiv:1801.09414).

use std::f64::consts::{FRAC_PI_2, PI};

use burn::{
    config::Config,
    module::{Module, Param},
    nn::Initializer,
    tensor::{Bool, Int, Tensor, activation::log_softmax},
};
use reid_core::Problems;

use crate::{
    criterion::{self, Criterion, CriterionConfig, NamedLoss},
    distance::unit,
    head::{OutputShape, ReidOutput},
    init::Init,
    loss::{MAX_WEIGHT, MIN_SCALE},
    targets::Targets,
};

/// Configuration of [`ArcFace`], whose documentation has an example.
#[derive(Config, Debug)]
pub struct ArcFaceConfig {
    /// The scale s of the cosines, from 1e-6 to 1e6; 30 by default, 64 in the paper for faces.
    #[config(default = 30.0)]
    pub scale: f64,
    /// The margin m, an angle from 0 to π/2 in radians; 0.5 in the paper.
    #[config(default = 0.5)]
    pub margin: f64,
}

/// Configuration of [`CosFace`], whose documentation has an example.
#[derive(Config, Debug)]
pub struct CosFaceConfig {
    /// The scale s of the cosines, from 1e-6 to 1e6; 30 by default, 64 in the paper for faces.
    #[config(default = 30.0)]
    pub scale: f64,
    /// The margin m, a difference of cosines from 0 to 2; 0.35 in the paper.
    #[config(default = 0.35)]
    pub margin: f64,
}

/// Computes the cross-entropy of cosines between features and trained class weights, with a margin that is
/// added to the angle of the true class.
///
/// ```text
/// cos θ_ik = cos(f_i, w_k)
/// z_ik = s · cos θ_ik                          k ≠ id_i
///        s · cos(θ_ik + m)                     k = id_i and θ_ik < π - m
///        s · (cos θ_ik - m sin m)              k = id_i and θ_ik ≥ π - m
/// L = mean_i -ln softmax(z_i)_{id_i}
/// ```
///
/// Beyond `π - m`, `cos(θ + m)` would rise again, so that worse features would have a smaller loss. The last
/// case, as in the authors' code, falls with θ. Where the sine of θ is below 1e-6, its gradient is 0. Features
/// of length 0 have logits of 0 for the other classes.
///
/// The losses of branches are summed; each branch has its own class weights. They are trained by the
/// recipe's optimizer, unless a parameter group names them.
///
/// ```
/// use burn::{module::Param, tensor::{Device, Tensor}};
/// use reid_core::Seed;
/// use reid_nn::{Criterion, CriterionConfig, Init, OutputShape, ReidOutput, Targets, loss::ArcFaceConfig};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let config = ArcFaceConfig::new().with_scale(1.0).with_margin(0.5);
/// let mut criterion = config.init(&OutputShape::single(2, 2), &init);
/// criterion.weights[0] = Param::from_tensor(Tensor::from_data([[1.0, 0.0], [0.0, 1.0]], &device));
/// let features = Tensor::<2>::from_data([[3.0, 0.0]], &device);
/// let output = ReidOutput::single(features.clone(), features);
/// // The logits are cos(0 + 0.5) = 0.8776 and 0.
/// let loss = criterion.forward(&output, &Targets::new(&[0], &device));
/// assert!((loss.into_scalar::<f32>() - (1.0 + (-0.877_583_f32).exp()).ln()).abs() < 1e-5);
/// ```
#[derive(Module, Debug)]
pub struct ArcFace {
    /// The class weights of each branch, `[classes, dimensions]`, initialised from N(0, 0.01²).
    pub weights: Vec<Param<Tensor<2>>>,
    scale: f64,
    margin: f64,
}

/// Computes the cross-entropy of cosines between features and trained class weights, with a margin that is
/// subtracted from the cosine of the true class.
///
/// ```text
/// z_ik = s · (cos(f_i, w_k) - m · 1[k = id_i])
/// L = mean_i -ln softmax(z_i)_{id_i}
/// ```
///
/// The losses of branches are summed; each branch has its own class weights. They are trained by the
/// recipe's optimizer, unless a parameter group names them.
///
/// ```
/// use burn::{module::Param, tensor::{Device, Tensor}};
/// use reid_core::Seed;
/// use reid_nn::{Criterion, CriterionConfig, Init, OutputShape, ReidOutput, Targets, loss::CosFaceConfig};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let config = CosFaceConfig::new().with_scale(1.0).with_margin(0.25);
/// let mut criterion = config.init(&OutputShape::single(2, 2), &init);
/// criterion.weights[0] = Param::from_tensor(Tensor::from_data([[1.0, 0.0], [0.0, 1.0]], &device));
/// let features = Tensor::<2>::from_data([[3.0, 0.0]], &device);
/// let output = ReidOutput::single(features.clone(), features);
/// // The logits are 1 - 0.25 and 0.
/// let loss = criterion.forward(&output, &Targets::new(&[0], &device));
/// assert!((loss.into_scalar::<f32>() - (1.0 + (-0.75_f32).exp()).ln()).abs() < 1e-6);
/// ```
#[derive(Module, Debug)]
pub struct CosFace {
    /// The class weights of each branch, `[classes, dimensions]`, initialised from N(0, 0.01²).
    pub weights: Vec<Param<Tensor<2>>>,
    scale: f64,
    margin: f64,
}

impl CriterionConfig for ArcFaceConfig {
    type Criterion = ArcFace;

    fn init(&self, output: &OutputShape, init: &Init<'_>) -> ArcFace {
        Problems::refuse("ArcFace", |problems| self.validate(problems));
        ArcFace {
            weights: class_weights(output, init),
            scale: self.scale,
            margin: self.margin,
        }
    }

    fn validate(&self, problems: &mut Problems) {
        problems.number("scale", self.scale, MIN_SCALE..=MAX_WEIGHT);
        problems.number("margin", self.margin, 0.0..=FRAC_PI_2);
    }
}

impl CriterionConfig for CosFaceConfig {
    type Criterion = CosFace;

    fn init(&self, output: &OutputShape, init: &Init<'_>) -> CosFace {
        Problems::refuse("CosFace", |problems| self.validate(problems));
        CosFace {
            weights: class_weights(output, init),
            scale: self.scale,
            margin: self.margin,
        }
    }

    fn validate(&self, problems: &mut Problems) {
        problems.number("scale", self.scale, MIN_SCALE..=MAX_WEIGHT);
        problems.number("margin", self.margin, 0.0..=2.0);
    }
}

impl Criterion for ArcFace {
    fn uses_logits(&self) -> bool {
        false
    }

    fn losses(&self, output: &ReidOutput, targets: &Targets) -> Vec<NamedLoss> {
        let with_margin = |features, weights| add_angle(features, weights, self.margin);
        let weights = (&*self.weights, self.scale);
        class_margin("ArcFace", weights, output, targets, with_margin)
    }
}

impl Criterion for CosFace {
    fn uses_logits(&self) -> bool {
        false
    }

    fn losses(&self, output: &ReidOutput, targets: &Targets) -> Vec<NamedLoss> {
        let with_margin = |features, weights| cosines(features, weights) - self.margin;
        let weights = (&*self.weights, self.scale);
        class_margin("CosFace", weights, output, targets, with_margin)
    }
}

/// Draws the class weights of each branch, with a deviation of 0.01 as in the authors' code of `ArcFace`.
fn class_weights(output: &OutputShape, init: &Init<'_>) -> Vec<Param<Tensor<2>>> {
    let normal = Initializer::Normal {
        mean: 0.0,
        std: 0.01,
    };
    let weights = |&dimensions: &usize| {
        let shape = [output.classes, dimensions];
        init.tensor(shape, &normal, shape)
    };
    output.features.iter().map(weights).collect()
}

/// Computes the mean cross-entropy of the scaled cosines of each branch. `with_margin` computes those of the
/// true classes, `[batch, 1]`, from the features and the weights of these classes, all of length 1.
fn class_margin(
    name: &'static str,
    (weights, scale): (&[Param<Tensor<2>>], f64),
    output: &ReidOutput,
    targets: &Targets,
    with_margin: impl Fn(Tensor<2>, Tensor<2>) -> Tensor<2>,
) -> Vec<NamedLoss> {
    let (built, found) = (weights.len(), output.features.len());
    assert_eq!(
        built, found,
        "{name} was built for {built} branches and got {found}"
    );
    let [batch] = targets.labels.dims();
    let labels = targets.labels.clone().reshape([batch, 1]);
    let branches = weights.iter().zip(&output.features);
    let losses = branches.map(|(weights, features)| {
        let ([classes, built], [images, found]) = (weights.dims(), features.dims());
        assert_eq!(
            [images, found],
            [batch, built],
            "{name} was built for features of {built} dimensions and got {images}x{found} for {batch} labels"
        );
        targets.check_classes(classes);
        let weights = unit(weights.val().cast(features.dtype()));
        let features = unit(features.clone());
        let all = features.clone().matmul(weights.clone().transpose());
        let own = with_margin(features, weights.select(0, targets.labels.clone()));
        let shape = [batch, classes];
        let logits = all.mask_where(own_class(&labels, shape), own.expand(shape)) * scale;
        log_softmax(logits, 1)
            .gather(1, labels.clone())
            .mean()
            .neg()
    });
    criterion::by_branch(name, losses)
}

/// Whether a class is that of the image, `[batch, classes]`.
fn own_class(labels: &Tensor<2, Int>, shape: [usize; 2]) -> Tensor<2, Bool> {
    let [_, classes] = shape;
    let all = Tensor::<1, Int>::arange(0..classes.cast_signed() as i64, &labels.device());
    let all = all.cast(labels.dtype()).reshape([1, classes]);
    labels.clone().expand(shape).equal(all.expand(shape))
}

/// Computes the cosines of corresponding rows of length 1, `[batch, 1]`.
fn cosines(features: Tensor<2>, weights: Tensor<2>) -> Tensor<2> {
    (features * weights).sum_dim(1)
}

/// Computes `cos(θ + m)` of the angles θ between corresponding rows of length 1, or `cos θ - m sin m` beyond
/// `π - m`.
fn add_angle(features: Tensor<2>, weights: Tensor<2>, margin: f64) -> Tensor<2> {
    let (sine_of_margin, cosine_of_margin) = margin.sin_cos();
    let cosine = cosines(features.clone(), weights.clone());
    // For small angles, 1 - cos² θ would lose most digits. The lower bound keeps the gradient of the root
    // finite.
    let across = features - weights * cosine.clone();
    let sine = across.square().sum_dim(1).clamp_min(1e-12).sqrt();
    let added = cosine.clone() * cosine_of_margin - sine * sine_of_margin;
    let beyond = cosine.clone().lower_equal_elem((PI - margin).cos());
    added.mask_where(beyond, cosine - margin * sine_of_margin)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::fixtures;

    /// The logit of the true class falls from angle 0 to angle π, also around π - m.
    #[test]
    fn the_margin_is_monotone_in_the_angle() {
        let device = Device::default();
        for margin in [0.0, 0.1, 0.5, 1.0, FRAC_PI_2] {
            let angles = (0..=300_u16).map(|step| f64::from(step) * PI / 300.0);
            let values: Vec<f64> = angles
                .flat_map(|angle| [angle.cos(), angle.sin()])
                .collect();
            let features = Tensor::<1>::from_data(values.as_slice(), &device).reshape([301, 2]);
            let weights = Tensor::<2>::from_data([[1.0, 0.0]], &device).expand([301, 2]);
            let found = add_angle(features, weights, margin).into_data();
            let found: Vec<f64> = found.iter::<f64>().collect();
            assert!((found[0] - margin.cos()).abs() < 1e-5, "{}", found[0]);
            let falls = found.is_sorted_by(|one, next| *next < one + 1e-6);
            assert!(falls, "margin {margin}: {found:?}");
        }
    }

    fn finite(config: &impl CriterionConfig, features: Tensor<2>) {
        let device = Device::default().autodiff();
        let features = Tensor::from_inner(features).require_grad();
        let criterion = config.init(&OutputShape::single(2, 2), &fixtures::init(&device));
        let output = ReidOutput::single(features.clone(), features.clone());
        let loss = criterion.forward(&output, &Targets::new(&[0, 0, 1], &device));
        let gradient = features.grad(&loss.clone().backward()).expect("a gradient");
        let sum = gradient.abs().sum() + loss.inner().abs();
        assert!(sum.into_scalar::<f32>().is_finite());
    }

    #[test]
    fn long_and_short_features_have_finite_values_and_gradients() {
        for scale in [MIN_SCALE, MAX_WEIGHT] {
            for length in [0.0, 1e-15, 1e15] {
                let features = Tensor::full([3, 2], length, &Device::default());
                finite(&ArcFaceConfig::new().with_scale(scale), features.clone());
                finite(&CosFaceConfig::new().with_scale(scale), features);
            }
        }
    }

    #[test]
    #[should_panic(expected = "ArcFace: scale: expected 0.000001 to 1000000, found 0\n\
                    margin: expected 0 to 1.5707963267948966, found 28.6")]
    fn a_margin_in_degrees_panics() {
        let config = ArcFaceConfig::new().with_scale(0.0).with_margin(28.6);
        let _ = config.init(
            &OutputShape::single(2, 2),
            &fixtures::init(&Device::default()),
        );
    }

    #[test]
    #[should_panic(expected = "CosFace was built for 1 branches and got 2")]
    fn other_branches_panic() {
        let device = Device::default();
        let config = CosFaceConfig::new();
        let criterion = config.init(&OutputShape::single(2, 2), &fixtures::init(&device));
        let output =
            ReidOutput::single(Tensor::ones([1, 2], &device), Tensor::ones([1, 2], &device));
        let _ = criterion.forward(&output.clone().concat(output), &Targets::new(&[0], &device));
    }
}
