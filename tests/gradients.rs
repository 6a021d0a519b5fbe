//! Compares the gradients of every block, head and criterion with finite differences.
//!
//! The tests run in double precision if the device supports it, and otherwise in single precision with a
//! larger tolerance. The device's default dtype is not changed, so the tests also check that parts keep the
//! dtype of their input. Weights and inputs come from the formula (`tests/formula`), so they are the same in
//! every run.

use std::{collections::BTreeMap, sync::LazyLock};

use burn::{
    module::{Module, ModuleMapper, Param},
    nn::conv::Conv2dConfig,
    tensor::{DType, Device, Tensor, TensorData},
};
use reid::{
    core::{FeatureShape, Seed},
    nn::{
        Block, BlockConfig, Criterion, CriterionConfig, Head, HeadConfig, Init, OutputShape,
        ReidModel, ReidOutput, Targets, TrainingStep,
        attention::{
            CbamChannelConfig, CbamSpatialConfig, ChannelGate, Combine, CombineGates,
            FncChannelConfig, FncSpatialConfig, FullyConnectedChannelConfig,
            FullyConnectedSpatialConfig, NonLocalConfig, ParallelConfig, ResizedConfig,
            RgaChannelConfig, RgaSpatialConfig, Similarity, SqueezeExcitationConfig, Terms,
        },
        backbone::{
            Ibn, InstanceNormed, LateStagesConfig, MaxPool, ResNetConfig, ResidualBlockConfig,
            ResidualKind, SplitPoint, Stem,
        },
        batch_drop::BatchDrop,
        convolution,
        cut_mix::{CutMix, Patches},
        distance::Distance,
        head::{
            BlockThenHeadConfig, BnNeckConfig, BranchConfig, BranchedHeadConfig, FncBranches,
            FncHeadConfig, LinearBnReluHeadConfig, MgnHeadConfig, PooledHeadConfig,
            ReducedBnNeckConfig, StripeHeadConfig,
        },
        loss::{
            BatchHardTripletConfig, CenterLossConfig, IdentityLossConfig, Margin, Reduction,
            Smoothing, WeightedConfig,
        },
        norm::BatchNormConfig,
        pool::PoolConfig,
    },
};

use formula::{INPUT, ModulePath, UNIT};

mod formula;

/// The number of elements per tensor to check, besides the element with the largest gradient.
const COORDINATES: usize = 5;

/// The settings of finite differences on the device under test.
struct Precision {
    device: Device,
    dtype: DType,
    /// The step sizes, tried until one agrees: kinks such as ReLU's spoil large steps, rounding spoils small
    /// ones.
    steps: &'static [f64],
    /// The tolerance, relative to the largest gradient of a tensor.
    tolerance: f64,
}

static PRECISION: LazyLock<Precision> = LazyLock::new(|| {
    let device = Device::default();
    let has_double = device.supports_dtype(DType::F64);
    let (steps, tolerance): (&[f64], _) = if has_double {
        (&[1e-6], 1e-5)
    } else {
        (&[1e-3, 1e-2, 2e-4, 5e-2, 5e-5], 2e-2)
    };
    Precision {
        device: device.autodiff(),
        dtype: if has_double { DType::F64 } else { DType::F32 },
        steps,
        tolerance,
    }
});

fn device() -> &'static Device {
    &PRECISION.device
}

// ------------------------------------------------------------------------------------ the method

/// The gradients from the backward pass, with respect to the input and to each parameter.
struct Derivatives {
    input: Vec<f64>,
    parameters: BTreeMap<String, Vec<f64>>,
}

impl Derivatives {
    /// The reference magnitude for the tolerance of a gradient that is zero up to rounding: a twentieth of
    /// the largest gradient.
    fn least(&self) -> f64 {
        let all = self.parameters.values().flatten().chain(&self.input);
        all.fold(0.0_f64, |max, gradient| max.max(gradient.abs())) / 20.0
    }
}

/// Checks the gradients of a loss with respect to its input and to every trained parameter.
fn check<M: Module, const D: usize>(
    module: M,
    shape: [usize; D],
    loss: impl Fn(&M, Tensor<D>) -> Tensor<1>,
) {
    let module = filled(module);
    let derivatives = back_propagated(&module, shape, &loss);
    check_input(&derivatives, &module, shape, &loss);
    check_parameters(&derivatives, &module, shape, &loss);
}

fn filled<M: Module>(module: M) -> M {
    formula::filled(module, str::to_owned, PRECISION.dtype)
}

fn tensor<const D: usize>(name: &str, shape: [usize; D], bounds: formula::Bounds) -> Tensor<D> {
    formula::tensor(name, shape, bounds, (device(), PRECISION.dtype))
}

fn back_propagated<M: Module, const D: usize>(
    module: &M,
    shape: [usize; D],
    loss: &impl Fn(&M, Tensor<D>) -> Tensor<1>,
) -> Derivatives {
    let leaf = tensor("input", shape, INPUT).require_grad();
    let gradients = loss(module, leaf.clone()).backward();
    let input = leaf
        .grad(&gradients)
        .expect("the loss depends on its input");
    let parameters = formula::gradients(module, &gradients).into_iter();
    let parameters = parameters.map(|(path, gradient)| {
        let unreached = || panic!("the loss does not reach {path}");
        let gradient = gradient.unwrap_or_else(unreached);
        (path, gradient)
    });
    Derivatives {
        input: formula::read(input),
        parameters: parameters.collect(),
    }
}

fn check_input<M: Module, const D: usize>(
    derivatives: &Derivatives,
    module: &M,
    shape: [usize; D],
    loss: &impl Fn(&M, Tensor<D>) -> Tensor<1>,
) {
    let input = ("input", &*derivatives.input);
    compare(input, 0.0, |index, change| {
        let input = tensor("input", shape, INPUT) + one_hot(shape, index, change);
        value(loss(module, input))
    });
}

fn check_parameters<M: Module, const D: usize>(
    derivatives: &Derivatives,
    module: &M,
    shape: [usize; D],
    loss: &impl Fn(&M, Tensor<D>) -> Tensor<1>,
) {
    for (path, gradient) in &derivatives.parameters {
        let vanishes = formula::vanishes(path, gradient.len());
        let least = if vanishes { derivatives.least() } else { 0.0 };
        compare((path, gradient), least, |index, change| {
            let mut nudge = Nudge {
                module_path: ModulePath::default(),
                path,
                index,
                change,
            };
            let nudged = module.clone().map(&mut nudge);
            value(loss(&nudged, tensor("input", shape, INPUT)))
        });
    }
}

/// Compares a gradient with central differences at its largest element and at a few random elements.
fn compare((name, gradient): (&str, &[f64]), least: f64, nudged: impl Fn(usize, f64) -> f64) {
    let Precision {
        steps, tolerance, ..
    } = *PRECISION;
    let magnitude = |index: &usize| gradient[*index].abs();
    let largest = (0..gradient.len()).max_by(|a, b| magnitude(a).total_cmp(&magnitude(b)));
    let largest = largest.expect("a tensor with elements");
    let allowed = magnitude(&largest).max(least) * tolerance;
    assert!(
        allowed > 0.0,
        "{name}: expected a gradient that is not zero everywhere"
    );

    let random = formula::values(&format!("coordinate.{name}"), [0.0, 1.0], COORDINATES);
    let random = random.iter().map(|&unit| index_at(unit, gradient.len()));
    for index in random.chain([largest]) {
        let found = gradient[index];
        let mut differences = Vec::new();
        let agrees = steps.iter().any(|&step| {
            let difference = (nudged(index, step) - nudged(index, -step)) / (2.0 * step);
            differences.push(difference);
            (found - difference).abs() <= allowed
        });
        assert!(
            agrees,
            "{name}[{index}]: the backward pass gives {found}, finite differences give {differences:?}"
        );
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a value in [0, 1) times a length is an index"
)]
fn index_at(unit: f32, length: usize) -> usize {
    (f64::from(unit) * length as f64) as usize
}

fn value(loss: Tensor<1>) -> f64 {
    loss.into_scalar()
}

fn one_hot<const D: usize>(shape: [usize; D], index: usize, value: f64) -> Tensor<D> {
    let mut values = vec![0.0; shape.iter().product()];
    values[index] = value;
    Tensor::from_data(TensorData::new(values, shape), (device(), PRECISION.dtype))
}

/// Adds `change` to one element of one parameter.
struct Nudge<'a> {
    module_path: ModulePath,
    path: &'a str,
    index: usize,
    change: f64,
}

impl ModuleMapper for Nudge<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.module_path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.module_path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.module_path.path() != self.path {
            return param;
        }
        let (id, value) = (param.id, param.val());
        let shape = self.module_path.pytorch_shape(value.dims());
        let change = one_hot(shape, self.index, self.change);
        let nudged = value + self.module_path.transposed(change);
        // The sum is not a leaf of the graph, and only a leaf can be a parameter.
        param.transform_for_load(nudged.inner().autodiff(), id)
    }
}

/// Reduces a tensor to a scalar that depends on every element.
fn project<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let weights = self::tensor("probe", tensor.dims(), UNIT);
    (tensor * weights).sum()
}

// ---------------------------------------------------------------------------------------- blocks

const MAP: FeatureShape = FeatureShape::new(4, 4, 3);

fn check_block(config: &impl BlockConfig, input: FeatureShape) {
    let shape = [3, input.channels, input.height, input.width];
    let block = config.init(input, &Init::new(Seed::new(1), device()));
    check(block, shape, |block, features| {
        project(block.forward(features))
    });
}

fn residual<I>(kind: ResidualKind, stride: usize, inside: I) -> ResidualBlockConfig<I> {
    ResidualBlockConfig {
        kind,
        planes: 4,
        hidden: 4,
        groups: 1,
        stride,
        instance: InstanceNormed::None,
        inside,
    }
}

/// A network with one block per stage and 4 channels after the stem.
fn resnet(kind: ResNetConfig) -> ResNetConfig {
    ResNetConfig {
        blocks: [1; 4],
        width: 4,
        ..kind
    }
}

fn gate() -> SqueezeExcitationConfig {
    SqueezeExcitationConfig::new().with_reduction(2)
}

#[test]
fn the_empty_block() {
    check_block(&(), MAP);
}

#[test]
fn further_attention() {
    for merge in [Combine::Multiply, Combine::Add] {
        check_block(&FncSpatialConfig::new().with_combine(merge), MAP);
        let channel = FncChannelConfig::new().with_hidden(4).with_groups(2);
        let channel = channel.with_combine(merge);
        check_block(&channel.clone().with_gate(ChannelGate::Vector), MAP);
        check_block(&channel, MAP);
    }
}

#[test]
fn instance_normalised_blocks() {
    for instance in [InstanceNormed::Half, InstanceNormed::Sum] {
        let block = residual(ResidualKind::Bottleneck, 2, ());
        check_block(&ResidualBlockConfig { instance, ..block }, MAP);
    }
    let network = resnet(ResNetConfig::resnet50()).with_ibn(Ibn::B);
    check_block(&network, FeatureShape::new(3, 32, 32));
}

#[test]
fn squeeze_excitation() {
    check_block(&gate(), MAP);
}

#[test]
fn relation_aware_attention() {
    for terms in [Terms::Both, Terms::Relation, Terms::Visual] {
        let (spatial, channel) = rga();
        check_block(&spatial.with_terms(terms), MAP);
        check_block(&channel.with_terms(terms), MAP);
    }
    check_block(&rga(), MAP);
}

fn rga() -> (RgaSpatialConfig, RgaChannelConfig) {
    (
        RgaSpatialConfig::new().with_s1(2).with_s2(2),
        RgaChannelConfig::new().with_s1(2).with_s2(2),
    )
}

#[test]
fn gates_side_by_side_and_of_another_size() {
    let (spatial, channel) = rga();
    for fusion in [CombineGates::Product, CombineGates::Mean] {
        let both = ParallelConfig::new(spatial.clone(), channel.clone());
        check_block(&both.with_combine(fusion), MAP);
    }
    check_block(&ResizedConfig::new([2, 2], spatial), MAP);
}

#[test]
fn channel_and_spatial_gates() {
    check_block(&CbamChannelConfig::new().with_reduction(2), MAP);
    for normalised in [true, false] {
        check_block(&CbamSpatialConfig::new().with_normalised(normalised), MAP);
    }
    check_block(&FullyConnectedChannelConfig::new().with_reduction(2), MAP);
    check_block(&FullyConnectedSpatialConfig::new().with_reduction(2), MAP);
}

#[test]
fn non_local_blocks() {
    for similarity in [Similarity::EmbeddedGaussian, Similarity::DotProduct] {
        check_block(&NonLocalConfig::new().with_similarity(similarity), MAP);
    }
}

#[test]
fn residual_blocks() {
    check_block(&residual(ResidualKind::Basic, 1, ()), MAP);
    check_block(&residual(ResidualKind::Basic, 2, gate()), MAP);
    check_block(&residual(ResidualKind::Bottleneck, 1, gate()), MAP);
    check_block(&residual(ResidualKind::Bottleneck, 2, ()), MAP);
}

#[test]
fn chains_stages_and_absent_blocks() {
    check_block(&(gate(), residual(ResidualKind::Basic, 2, ())), MAP);
    check_block(&vec![gate(), gate()], MAP);
    check_block(&Some(gate()), MAP);
    check_block(&None::<SqueezeExcitationConfig>, MAP);
}

#[test]
fn a_small_stem_and_grouped_bottlenecks() {
    let config = resnet(ResNetConfig::resnet50()).with_stem(Stem::Small);
    check_block(
        &config.with_groups(2, 32).with_last_stride(1),
        FeatureShape::new(3, 8, 8),
    );
}

#[test]
fn a_large_stem_and_sockets() {
    let config = resnet(ResNetConfig::resnet18()).with_stem(Stem::Large(MaxPool::Ceil));
    let config = config.inside(gate()).after(&[2, 4], gate());
    check_block(&config, FeatureShape::new(3, 32, 24));
}

#[test]
fn batch_normalisation() {
    let norm = || BatchNormConfig::new(4).init(device());
    check(norm(), [3, 4, 2, 2], |norm, map| project(norm.forward(map)));
    check(norm(), [5, 4], |norm, features| {
        project(norm.forward(features))
    });
    // Frozen, it uses its running statistics, and only the input has a gradient.
    check(norm().freeze(), [3, 4, 2, 2], |norm, map| {
        project(norm.forward(map))
    });
}

#[test]
fn strided_pointwise_convolution() {
    let config = Conv2dConfig::new([4, 6], [1, 1])
        .with_stride([2, 2])
        .with_groups(2);
    let conv = config.init(device());
    check(conv, [2, 4, 5, 4], |conv, map| {
        project(convolution::apply(conv, map))
    });
}

#[test]
fn pooling() {
    for config in [PoolConfig::Average, PoolConfig::Max, PoolConfig::GEM] {
        let pool = config.init(device());
        check(pool, [2, 3, 3, 2], |pool, map| project(pool.forward(map)));
    }
}

// ----------------------------------------------------------------------------------------- heads

fn step(labels: &[usize]) -> TrainingStep<'_> {
    TrainingStep::new(labels, Seed::new(1))
}

fn check_head(config: &impl HeadConfig) {
    let head = config.init(MAP, 3, &Init::new(Seed::new(1), device()));
    check(head, [4, 4, 4, 3], |head, features| {
        let output = head.forward_train(features, step(&[0, 1, 2, 0]));
        let outputs = output.features.into_iter().chain(output.logits);
        outputs.fold(project(output.embedding), |sum, output| {
            sum + project(output)
        })
    });
}

#[test]
fn bn_neck() {
    check_head(&BnNeckConfig::new());
    check_head(&BnNeckConfig::new().with_pool(PoolConfig::GEM));
}

#[test]
fn pooled_head() {
    check_head(&PooledHeadConfig::new());
    check_head(&PooledHeadConfig::new().with_pool(PoolConfig::Max));
}

#[test]
fn branched_heads() {
    let patches = Patches {
        height: 2,
        width: 1,
    };
    let mix = CutMix::new().with_patches(patches).with_cut(2);
    let branches = vec![
        BranchConfig::cut_mix(3, mix.clone()),
        BranchConfig::drop(2, BatchDrop::new().with_height(0.5)),
        BranchConfig::cut_mix(3, mix),
    ];
    let config = BranchedHeadConfig::new().with_global(3);
    check_head(&config.with_branches(branches));
    check_head(
        &LinearBnReluHeadConfig::new()
            .with_dimensions(3)
            .with_pool(PoolConfig::GEM),
    );
}

#[test]
fn heads_after_blocks() {
    let block = FncSpatialConfig::new();
    let head = ReducedBnNeckConfig::new().with_dimensions(3);
    check_head(&BlockThenHeadConfig { block, head });
    let stripes = StripeHeadConfig::new().with_stripes(2).with_dimensions(3);
    check_head(&stripes);
}

#[test]
fn heads_with_late_stages() {
    let network = resnet(ResNetConfig::resnet18()).with_last_stride(1);
    let split = SplitPoint { stage: 4, block: 0 };
    let late_stages = LateStagesConfig { network, split };
    let neck = ReducedBnNeckConfig::new().with_dimensions(3);
    let branches = FncBranches::new()
        .with_spatial_neck(neck.clone())
        .with_channel(FncChannelConfig::new().with_hidden(4).with_groups(2))
        .with_channel_neck(neck);
    check_head(&FncHeadConfig {
        late_stages: Some(late_stages.clone()),
        branches,
    });
    let stripe_head = StripeHeadConfig::new().with_dimensions(2);
    let branches = vec![stripe_head.clone(), stripe_head.with_stripes(2)];
    check_head(&MgnHeadConfig {
        late_stages,
        branches,
    });
}

#[test]
fn heads_side_by_side() {
    let max = PooledHeadConfig::new().with_pool(PoolConfig::Max);
    check_head(&(BnNeckConfig::new(), PooledHeadConfig::new(), max));
}

// -------------------------------------------------------------------------------------- criteria

/// Class labels: three, two, two and one images of a class.
const LABELS: [usize; 8] = [0, 0, 0, 1, 1, 2, 2, 3];

/// The shape of features and of logits: 8 images, 4 dimensions or classes.
const FEATURES: [usize; 2] = [8, 4];

fn targets() -> Targets {
    Targets::new(&LABELS, device())
}

/// Two branches whose features and logits are four functions of one tensor.
fn two_branches(features: &Tensor<2>) -> ReidOutput {
    let branch = |features: Tensor<2>, factor| {
        ReidOutput::single(features.clone(), features.flip([1]) * factor)
    };
    branch(features.clone(), 1.5).concat(branch(features.clone().tanh(), -0.5))
}

fn shape_of_two_branches() -> OutputShape {
    let [_, width] = FEATURES;
    OutputShape::single(width, width).concat(OutputShape::single(width, width))
}

fn check_criterion(config: &impl CriterionConfig) {
    let criterion = config.init(&shape_of_two_branches(), &Init::new(Seed::new(1), device()));
    check(criterion, FEATURES, |criterion, features| {
        criterion.forward(&two_branches(&features), &targets())
    });
}

#[test]
fn identity_loss() {
    for form in [Smoothing::AllClasses, Smoothing::OtherClasses] {
        for smoothing in [0.0, 0.1] {
            let config = IdentityLossConfig::new().with_form(form);
            check_criterion(&config.with_smoothing(smoothing));
        }
    }
}

#[test]
fn batch_hard_triplet() {
    for margin in [Margin::Hard(0.3), Margin::Soft] {
        for distance in [Distance::Euclidean, Distance::Cosine] {
            for reduction in [Reduction::Mean, Reduction::Sum] {
                let config = BatchHardTripletConfig::new().with_margin(margin);
                let config = config.with_distance(distance).with_reduction(reduction);
                check_criterion(&config);
            }
        }
    }
}

#[test]
fn center_loss() {
    // The gradient of the features includes the weight of the loss; the gradient of the centres does not.
    let shape = shape_of_two_branches();
    let with_weight = |weight| {
        let config = CenterLossConfig::new().with_weight(weight);
        let mut criterion = config.init(&shape, &Init::new(Seed::new(1), device()));
        for (branch, centers) in criterion.centers.iter_mut().enumerate() {
            let values = tensor(&format!("centers.{branch}"), centers.dims(), INPUT);
            *centers = Param::from_tensor(values);
        }
        criterion
    };
    let loss = |criterion: &_, features: Tensor<2>| {
        Criterion::forward(criterion, &two_branches(&features), &targets())
    };
    let light = with_weight(0.25);
    let derivatives = back_propagated(&light, FEATURES, &loss);
    check_input(&derivatives, &light, FEATURES, &loss);
    check_parameters(&derivatives, &with_weight(1.0), FEATURES, &loss);
}

#[test]
fn sums_of_criteria() {
    let (identity, triplet) = (IdentityLossConfig::new(), BatchHardTripletConfig::new());
    check_criterion(&WeightedConfig {
        weight: 2.5,
        criterion: identity.clone(),
    });
    check_criterion(&(identity.clone(), triplet.clone()));
    check_criterion(&(Some(triplet.clone()), None::<IdentityLossConfig>));
    check_criterion(&vec![triplet.clone().with_margin(Margin::Soft), triplet]);
}

// ----------------------------------------------------------------------------------------- whole

#[test]
fn a_model_and_its_losses() {
    let size = reid::core::InputSize::new(16, 8);
    let backbone = resnet(ResNetConfig::resnet50()).with_stem(Stem::Small);
    let heads = (
        BnNeckConfig::new(),
        PooledHeadConfig::new().with_pool(PoolConfig::GEM),
    );
    let model = ReidModel::new(
        &backbone,
        &heads,
        size,
        4,
        &Init::new(Seed::new(1), device()),
    );
    let losses = WeightedConfig {
        weight: 0.5,
        criterion: (IdentityLossConfig::new(), BatchHardTripletConfig::new()),
    };
    let criterion = losses.init(
        &heads.output(backbone.output(size.rgb()), 4),
        &Init::new(Seed::new(1), device()),
    );
    check(
        (model, criterion),
        [8, 3, 16, 8],
        |(model, criterion), images| {
            let output = model.forward_train(images, step(&LABELS));
            criterion.forward(&output, &targets())
        },
    );
}
