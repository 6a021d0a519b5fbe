//! Compares networks, blocks and losses with reference values from other implementations.
//!
//! The references are the golden files of [`CHECKERS`], in the folder `REID_GOLDENS` or by default in
//! `tests/golden`, whose `README.md` documents them. `-- --nocapture` prints the differences of each file.

use std::collections::BTreeSet;

use burn::{
    module::{Module, Param},
    optim::GradientsParams,
    tensor::{DType, Device, Tensor},
};
use reid::{
    core::{FeatureShape, Seed},
    nn::{
        Block, BlockConfig, Criterion, CriterionConfig, Head, HeadConfig, Init, OutputShape,
        ReidOutput, Targets, TrainingStep,
        attention::{
            CbamChannelConfig, CbamSpatialConfig, CombineGates, FullyConnectedChannelConfig,
            FullyConnectedSpatialConfig, NonLocalConfig, ParallelConfig, RgaChannel,
            RgaChannelConfig, RgaSpatial, RgaSpatialConfig, Similarity, SqueezeExcitationConfig,
            Terms,
        },
        backbone::{ResNetConfig, ResidualBlockConfig, ResidualKind},
        cut_mix::{CutMix, MixPartner, PartnerGradient, Patches},
        distance::Distance,
        grad_cam::{CamMethod, ClosedForm, GradCam, Target},
        head::{
            AugmentConfig, AugmentTrace, BnNeckConfig, BranchConfig, BranchedHeadConfig, CamSource,
            LinearBnReluHeadConfig, PooledHeadConfig, TracedOutput,
        },
        loss::{
            CenterLossConfig, CentroidUpdate, ClusterContrastConfig, IdentityLossConfig, Margin,
            MultiSimilarityConfig, Reduction, Smoothing, TripletLossConfig,
        },
        pool::{Pool, PoolConfig},
    },
    train::OptimizerConfig,
};

use formula::{INPUT, UNIT};
use golden::{
    Checker, GRADIENT, Golden, OUTPUT, ROUNDING, STATISTIC,
    network::{self, Classifier, torchvision},
    part::{compare, filled_part, gradient_meets, part_input},
};

mod cifar;
#[path = "../formula/mod.rs"]
mod formula;
#[path = "../golden/mod.rs"]
mod golden;
mod light;
mod losses;
mod segmentation;
mod similarity;
mod vehicles;

/// The checkers by prefix of the file name; the first prefix that a name begins with applies.
const CHECKERS: [Checker; 15] = [
    ("attention", attention),
    ("blocks", blocks),
    ("center", center),
    ("cluster_contrast", cluster_contrast),
    ("grad_cam", grad_cam),
    ("losses", losses),
    ("metric", losses),
    ("multi_similarity", losses),
    ("optim", optimizers),
    ("progressive", progressive),
    ("resnet18", |golden| {
        network::both_modes(golden, &ResNetConfig::resnet18(), torchvision);
    }),
    ("resnet50_stride1", |golden| {
        let config = ResNetConfig::resnet50().with_last_stride(1);
        network::both_modes(golden, &config, torchvision);
    }),
    ("resnet50", |golden| {
        network::whole(golden, &ResNetConfig::resnet50(), torchvision);
    }),
    ("resnext50_32x4d", |golden| {
        network::both_modes(golden, &ResNetConfig::resnext50(), torchvision);
    }),
    ("rga_", rga),
];

const LOSS: f64 = 1e-5;
const LOSS_GRADIENT: f64 = 1e-5;

#[test]
fn every_known_golden_file_agrees() {
    golden::check_files(&CHECKERS);
}

#[test]
fn the_formula_is_the_documented_one() {
    let values = formula::values("input", INPUT, 24_576);
    let found = [values[0], values[1], values[24_575]].map(f32::to_bits);
    let documented = [-1.438_786_7_f32, -1.757_442_2, 0.506_024_36];
    assert_eq!(found, documented.map(f32::to_bits));
}

#[test]
fn folded_normalisation_gives_the_same_logits() {
    let device = Device::default();
    let options = (&device, DType::F32);
    let plain = network::classifier(&ResNetConfig::resnet50(), 10, torchvision, options);
    let images = network::images(4, options);
    let logits = |model: &Classifier| model.forward(images.clone()).logits.remove(0);
    let expected = logits(&plain);
    let difference = expected.clone() - logits(&plain.fold_batch_norm());
    let relative = (difference.abs().max() / expected.abs().max()).into_scalar::<f32>();
    assert!(
        relative < 1e-5,
        "the relative difference is {relative:.1e}, expected below 1e-5"
    );
}

// --------------------------------------------------------------------------------------- blocks

/// Compares outputs and gradients of each part in a file.
fn blocks(golden: &Golden) {
    let device = Device::default().autodiff();
    let names = golden.names().filter_map(|name| name.split_once('.'));
    for part in names.map(|(part, _)| part).collect::<BTreeSet<_>>() {
        let [_, channels, height, width] = golden.shape(&format!("{part}.grad.input"));
        let input = FeatureShape::new(channels, height, width);
        match part {
            "basic" => residual(golden, part, ResidualKind::Basic),
            "bottleneck" => residual(golden, part, ResidualKind::Bottleneck),
            "se" => {
                let [hidden, _, _, _] = golden.shape("se.grad.fc1.weight");
                let config = SqueezeExcitationConfig::new().with_reduction(channels / hidden);
                compare(
                    golden,
                    part,
                    config.init(input, &Init::new(Seed::new(1), &device)),
                    Block::forward,
                );
            }
            "gem" => {
                let pool = PoolConfig::GEM.init(&device);
                compare(golden, part, pool, Pool::forward);
            }
            "bnneck" => bn_neck(golden, input, &device),
            other => golden.fail(format!("{other}: no checker for this part")),
        }
    }
}

fn residual(golden: &Golden, part: &str, kind: ResidualKind) {
    let [_, from, height, width] = golden.shape(&format!("{part}.grad.input"));
    let [_, to, reduced, _] = golden.shape(&format!("{part}.output.eval"));
    let planes = to / kind.expansion();
    let config = ResidualBlockConfig {
        stride: height / reduced,
        ..ResidualBlockConfig::new(kind, planes)
    };
    let input = FeatureShape::new(from, height, width);
    let block = config.init(
        input,
        &Init::new(Seed::new(1), &Device::default().autodiff()),
    );
    compare(golden, part, block, Block::forward);
}

fn bn_neck(golden: &Golden, input: FeatureShape, device: &Device) {
    let [_, classes] = golden.shape("bnneck.output.eval");
    let mut head = BnNeckConfig::new().init(input, classes, &Init::new(Seed::new(1), device));
    // The file also has the gradient of the bias, which the head does not train.
    head.bottleneck.bias = head.bottleneck.bias.set_require_grad(true);

    let evaluated = filled_part("bnneck", head.clone()).valid();
    let output = evaluated.forward(part_input(golden, "bnneck", device).inner());
    golden.meets("bnneck.embedding.eval", output.embedding, OUTPUT);
    golden.meets("bnneck.features", output.features[0].clone(), OUTPUT);
    compare(golden, "bnneck", head, |head, features| {
        head.forward(features).logits.remove(0)
    });
}

// ------------------------------------------------------------------- Grad-CAM and feature CutMix

/// Compares CAMs with those of pytorch-grad-cam, by autodiff and in closed form.
fn grad_cam(golden: &Golden) {
    let device = Device::default();
    let reduced = || LinearBnReluHeadConfig::new().with_dimensions(6);
    maps(golden, "pooled", &PooledHeadConfig::new(), &device);
    maps(golden, "bnneck", &BnNeckConfig::new(), &device);
    maps(golden, "reduced", &reduced(), &device);
    maps(
        golden,
        "reduced_max",
        &reduced().with_pool(PoolConfig::Max),
        &device,
    );
    maps(
        golden,
        "reduced_gem",
        &reduced().with_pool(PoolConfig::GEM),
        &device,
    );
}

fn maps<C>(golden: &Golden, part: &str, config: &C, device: &Device)
where
    C: HeadConfig<Head: ClosedForm>,
{
    let [images, classes] = golden.shape(&format!("{part}.logits"));
    let head = filled_part(
        part,
        config.init(
            FeatureShape::new(8, 4, 3),
            classes,
            &Init::new(Seed::new(1), device),
        ),
    );
    let shape = [images, 8, 4, 3];
    let features = formula::tensor(&format!("{part}.input"), shape, INPUT, (device, DType::F32));
    let logits = head.forward(features.clone()).logits.remove(0);
    golden.meets(&format!("{part}.logits"), logits, OUTPUT);
    let labels = golden.integers("labels", device);
    for (kind, target) in [
        ("label", Target::Labels(&labels)),
        ("highest", Target::Highest),
    ] {
        for (name, method) in [
            ("grad_cam", CamMethod::GradCam),
            ("hires_cam", CamMethod::HiResCam),
            ("layer_cam", CamMethod::LayerCam),
        ] {
            let cam = GradCam::new().with_method(method);
            let maps = cam.maps(&head, features.clone(), target);
            golden.meets(&format!("{part}.{name}.{kind}"), maps, OUTPUT);
        }
        let closed = head.grad_cam(features.clone(), target);
        golden.meets(&format!("{part}.grad_cam.{kind}"), closed, OUTPUT);
    }
}

/// Compares one training step of the progressive head: masks, losses, running statistics and every gradient.
fn progressive(golden: &Golden) {
    let mix = || {
        let patches = Patches {
            height: 3,
            width: 2,
        };
        CutMix::new().with_patches(patches).with_cut(3)
    };
    let positive = mix().with_partner(MixPartner::Positive);
    let stopped = mix().with_partner_gradient(PartnerGradient::Stopped);
    for cam_source in [CamSource::ClosedForm, CamSource::Autodiff] {
        progressive_step(golden, "negative", &mix(), cam_source);
        progressive_step(golden, "positive", &positive, cam_source);
        progressive_step(golden, "stopped", &stopped, cam_source);
    }
}

fn progressive_step(golden: &Golden, part: &str, mix: &CutMix, cam_source: CamSource) {
    let device = Device::default().autodiff();
    let key = |name: &str| format!("{part}.{name}");
    let branch = |dimensions| BranchConfig {
        dimensions,
        augment: AugmentConfig::CutMix {
            mix: mix.clone(),
            cam_source,
        },
    };
    let config = BranchedHeadConfig::new()
        .with_global(7)
        .with_branches(vec![branch(6), branch(5)]);
    let shape: [usize; 4] = golden.shape(&key("grad.input"));
    let [_, channels, height, width] = shape;
    let map = FeatureShape::new(channels, height, width);
    // All parts have the same weights and input.
    let name = |path: &str| format!("progressive.{path}");
    let head = formula::filled(
        config.init(map, 3, &Init::new(Seed::new(1), &device)),
        name,
        DType::F32,
    );
    let options = (&device, DType::F32);
    let input = formula::tensor("progressive.input", shape, INPUT, options).require_grad();

    let step = TrainingStep::new(&[0, 0, 1, 1, 2, 2], Seed::new(1));
    let traced = head.forward_traced(input.clone(), step);
    mixes_meet(golden, part, &traced);
    let loss = losses_meet(golden, part, &traced.output, &config.output(map, 3));

    let gradients = loss.backward();
    let gradient = input.grad(&gradients).expect("the input's gradient");
    golden.meets(&key("grad.input"), gradient, GRADIENT);
    for (path, gradient) in formula::gradients(&head, &gradients) {
        let (name, gradient) = (key(&format!("grad.{path}")), gradient.unwrap_or_default());
        // Batch normalisation over six rows divides by small standard deviations.
        gradient_meets(golden, &name, &path, &gradient, 5.0 * ROUNDING);
    }
    golden.meets_statistics(&head, |path| key(&format!("state_after.{path}")), STATISTIC);
}

/// Compares CAMs, cut patches, donors, and the outputs of the branches.
fn mixes_meet(golden: &Golden, part: &str, traced: &TracedOutput) {
    for (branch, trace) in (1..).zip(&traced.traces) {
        let AugmentTrace::CutMix { map, mixed } = trace else {
            panic!("expected a branch with feature CutMix");
        };
        let key = |name: &str| format!("{part}.{name}.{branch}");
        golden.meets(&key("map"), map.clone(), OUTPUT);
        golden.meets(&key("cut"), mixed.cut.clone().float(), 0.0);
        let partners: Vec<f64> = mixed.partners.iter().map(|&index| index as f64).collect();
        golden.compare(&key("donors"), &partners, 0.0);
    }
    let ReidOutput {
        features, logits, ..
    } = &traced.output;
    for (branch, (features, logits)) in features.iter().zip(logits).enumerate() {
        let key = |name: &str| format!("{part}.{name}.{branch}");
        golden.meets(&key("features"), features.clone(), OUTPUT);
        golden.meets(&key("logits"), logits.clone(), OUTPUT);
    }
}

/// Compares the losses of each branch and returns the sum of all of them.
fn losses_meet(golden: &Golden, part: &str, output: &ReidOutput, shape: &OutputShape) -> Tensor<1> {
    let device = output.embedding.device();
    let losses = (
        IdentityLossConfig::new().with_smoothing(0.1),
        TripletLossConfig::new().with_margin(Margin::Soft),
    );
    let criterion = losses.init(shape, &Init::new(Seed::new(1), &device));
    let losses = criterion.losses(output, &golden.integers("labels", &device).into());
    let named = |name: String| {
        let loss = losses.iter().find(|loss| *loss.name == *name);
        let loss = loss.unwrap_or_else(|| panic!("expected a loss with the name {name}"));
        loss.value.clone().inner().into_scalar::<f64>()
    };
    for branch in 0..output.logits.len() {
        let pair = ["identity", "triplet"].map(|kind| named(format!("{kind} {branch}")));
        golden.compare(&format!("{part}.losses.{branch}"), &pair, LOSS);
    }
    let values = losses.into_iter().map(|loss| loss.value);
    values.reduce(Tensor::add).expect("losses")
}

// ------------------------------------------------------------------------------------ attention

/// Compares attention blocks with implementations written from their papers.
fn attention(golden: &Golden) {
    let names = golden.names().filter_map(|name| name.split_once('.'));
    for part in names.map(|(part, _)| part).collect::<BTreeSet<_>>() {
        let non_local = NonLocalConfig::new();
        let (spatial, channel) = rga_configs(4);
        let parallel = ParallelConfig::new(spatial.clone(), channel.clone());
        match part {
            "cbam_channel" => block(golden, part, &CbamChannelConfig::new().with_reduction(4)),
            "cbam_spatial" => block(golden, part, &CbamSpatialConfig::new()),
            "cbam_spatial_plain" => {
                block(
                    golden,
                    part,
                    &CbamSpatialConfig::new().with_normalised(false),
                );
            }
            "fc_channel" => {
                let config = FullyConnectedChannelConfig::new().with_reduction(4);
                block(golden, part, &config);
            }
            "fc_spatial" => {
                let config = FullyConnectedSpatialConfig::new().with_reduction(4);
                block(golden, part, &config);
            }
            "non_local_gaussian" => block(golden, part, &non_local),
            "non_local_dot" => {
                let config = non_local.with_similarity(Similarity::DotProduct);
                block(golden, part, &config);
            }
            "rga_spatial" => block(golden, part, &spatial),
            "rga_channel" => block(golden, part, &channel),
            "rga_spatial_relation" => block(golden, part, &spatial.with_terms(Terms::Relation)),
            "rga_spatial_visual" => block(golden, part, &spatial.with_terms(Terms::Visual)),
            "rga_channel_relation" => block(golden, part, &channel.with_terms(Terms::Relation)),
            "rga_channel_visual" => block(golden, part, &channel.with_terms(Terms::Visual)),
            "rga_spatial_channel" => block(golden, part, &(spatial, channel)),
            "rga_channel_spatial" => block(golden, part, &(channel, spatial)),
            "rga_parallel_product" => block(golden, part, &parallel),
            "rga_parallel_mean" => block(golden, part, &parallel.with_combine(CombineGates::Mean)),
            other => golden.fail(format!("{other}: no checker for this part")),
        }
    }
}

fn block(golden: &Golden, part: &str, config: &impl BlockConfig) {
    let [_, channels, height, width] = golden.shape(&format!("{part}.grad.input"));
    let input = FeatureShape::new(channels, height, width);
    let block = config.init(
        input,
        &Init::new(Seed::new(1), &Device::default().autodiff()),
    );
    compare(golden, part, block, Block::forward);
}

fn rga_configs(ratio: usize) -> (RgaSpatialConfig, RgaChannelConfig) {
    (
        RgaSpatialConfig::new().with_s1(ratio).with_s2(ratio),
        RgaChannelConfig::new().with_s1(ratio).with_s2(ratio),
    )
}

/// Compares relation-aware attention with its authors' module: once as implemented here (factorised), and
/// once with the relation map computed in full, as published.
fn rga(golden: &Golden) {
    golden.skip(|name| name.ends_with("num_batches_tracked"));
    let [_, channels, height, width] = golden.shape("input");
    let input = FeatureShape::new(channels, height, width);
    let ratio = golden.metadata("ratio").parse().expect("a number");
    let (spatial, channel) = rga_configs(ratio);
    let device = Device::default().autodiff();
    let by_position = |block: &RgaSpatial, x: Tensor<4>| x.clone() * block.relations(x).gate;
    let by_channel = |block: &RgaChannel, x: Tensor<4>| x.clone() * block.relations(x).gate;
    match [golden.metadata("spatial"), golden.metadata("channel")] {
        ["True", "True"] => {
            let block = (spatial, channel).init(input, &Init::new(Seed::new(1), &device));
            authors(golden, block.clone(), Block::forward);
            authors(golden, block, |(spatial, channel), x| {
                by_channel(channel, by_position(spatial, x))
            });
        }
        ["True", _] => {
            let block = spatial.init(input, &Init::new(Seed::new(1), &device));
            authors(golden, block.clone(), Block::forward);
            authors(golden, block, by_position);
        }
        _ => {
            let block = channel.init(input, &Init::new(Seed::new(1), &device));
            authors(golden, block.clone(), Block::forward);
            authors(golden, block, by_channel);
        }
    }
}

/// Compares a block with the authors': outputs in evaluation and in training, all gradients and running
/// statistics.
fn authors<B: Block>(golden: &Golden, block: B, forward: impl Fn(&B, Tensor<4>) -> Tensor<4>) {
    let device = Device::default().autodiff();
    let both = golden.has("state.gx_spatial.0.weight") && golden.has("state.gx_channel.0.weight");
    let single = if golden.has("state.gx_spatial.0.weight") {
        "spatial"
    } else {
        "channel"
    };
    let key = |kind: &str, path: &str| {
        let (part, path) = match path.split_once('.') {
            Some(("0", path)) if both => ("spatial", path),
            Some(("1", path)) if both => ("channel", path),
            _ => (single, path),
        };
        let path = path.trim_start_matches("nodes.");
        let (layer, rest) = path.split_once('.').expect("a layer and its parameter");
        match (layer, rest.split_once('.')) {
            ("w1", _) => format!("{kind}.W_{part}.{rest}"),
            ("w2", Some(("0", rest))) => format!("{kind}.W_{part}.3.{rest}"),
            ("w2", Some((_, rest))) => format!("{kind}.W_{part}.4.{rest}"),
            ("psi", _) => format!("{kind}.gx_{part}.{rest}"),
            ("varphi", _) => format!("{kind}.gg_{part}.{rest}"),
            _ => format!("{kind}.{layer}_{part}.{rest}"),
        }
    };
    let block = golden.loaded(block, |path| key("state", path));
    let input = golden.tensor::<4>("input", &device).require_grad();
    let evaluated = forward(&block.valid(), input.clone().inner());
    golden.meets("output.eval", evaluated, OUTPUT);

    let output = forward(&block, input.clone());
    golden.meets("output.train", output.clone(), OUTPUT);
    golden.meets_statistics(&block, |path| key("state_after", path), STATISTIC);
    let weights = golden.tensor::<4>("grad_output", &device);
    let gradients = (output * weights).sum().backward();
    let gradient = input.grad(&gradients).expect("the input's gradient");
    golden.meets("grad.input", gradient, GRADIENT);
    for (path, gradient) in formula::gradients(&block, &gradients) {
        let name = key("grad", &path);
        gradient_meets(
            golden,
            &name,
            &path,
            &gradient.unwrap_or_default(),
            ROUNDING,
        );
    }
}

// --------------------------------------------------------------------------------------- losses

/// Compares triplet, multi-similarity and identity losses; the name of a loss gives its hyper-parameters.
fn losses(golden: &Golden) {
    for key in golden.names() {
        let Some(name) = key.strip_suffix(".loss") else {
            continue;
        };
        if name.starts_with("triplet") {
            loss(golden, name, "features", &triplet(name));
        } else if name.starts_with("multi_similarity") {
            let number = |word| number_after(name, word).expect("a number in the name");
            let config = MultiSimilarityConfig::new().with_margin(number("margin"));
            let config = config.with_negative_scale(number("negative"));
            loss(golden, name, "features", &config);
        } else if let Some(smoothing) = number_after(name, "label_smooth_others") {
            let config = IdentityLossConfig::new().with_form(Smoothing::OtherClasses);
            loss(golden, name, "logits", &config.with_smoothing(smoothing));
        } else if let Some(smoothing) = number_after(name, "label_smooth") {
            let config = IdentityLossConfig::new().with_smoothing(smoothing);
            loss(golden, name, "logits", &config);
        } else {
            golden.fail(format!("{name}: no checker for this loss"));
        }
    }
}

/// Parses the name of a triplet loss: `triplet.[euclidean|cosine].{margin0.3|soft}.[mean|sum]`.
fn triplet(name: &str) -> TripletLossConfig {
    let mut config = TripletLossConfig::new();
    config.margin = number_after(name, "margin").map_or(Margin::Soft, Margin::Hard);
    let parts: Vec<_> = name.split('.').collect();
    if parts.contains(&"cosine") {
        config.distance = Distance::Cosine;
    }
    if parts.contains(&"sum") {
        config.reduction = Reduction::Sum;
    }
    config
}

/// Parses the number after a word: 0.3 after `margin` in `triplet.margin0.3.sum`.
fn number_after(name: &str, word: &str) -> Option<f64> {
    let (_, rest) = name.split_once(word)?;
    let end = rest.find(|c: char| c != '.' && !c.is_ascii_digit());
    rest[..end.unwrap_or(rest.len())]
        .trim_end_matches('.')
        .parse()
        .ok()
}

/// Compares a loss and its gradient with respect to `input`.
fn loss(golden: &Golden, name: &str, input: &str, config: &impl CriterionConfig) {
    let device = Device::default().autodiff();
    let leaf = golden.tensor::<2>(input, &device).require_grad();
    let targets = Targets::from(golden.integers("labels", &device));
    let [_, width] = leaf.dims();
    let criterion = config.init(
        &OutputShape::single(width, width),
        &Init::new(Seed::new(1), &device),
    );
    let loss = criterion.forward(&ReidOutput::single(leaf.clone(), leaf.clone()), &targets);
    golden.meets(&format!("{name}.loss"), loss.clone(), LOSS);

    let gradient = leaf.grad(&loss.backward()).expect("the input's gradient");
    let short = format!("{name}.grad");
    let key = if golden.has(&short) {
        short
    } else {
        format!("{short}.{input}")
    };
    golden.meets(&key, gradient, LOSS_GRADIENT);
}

/// Compares cluster contrast over several training steps: the loss and its gradient, and the centroids after
/// each step.
fn cluster_contrast(golden: &Golden) {
    let device = Device::default().autodiff();
    let [clusters, width] = golden.shape("centroids");
    for (name, update) in [
        ("each", CentroidUpdate::EachImage),
        ("hardest", CentroidUpdate::HardestImage),
    ] {
        let criterion = ClusterContrastConfig::new().with_update(update).init(
            &OutputShape::single(width, clusters),
            &Init::new(Seed::new(1), &device),
        );
        criterion.set_centroids(golden.tensor("centroids", &device));
        let steps = (0..).take_while(|step| golden.has(&format!("features.{step}")));
        for step in steps {
            let features = golden.tensor::<2>(&format!("features.{step}"), &device);
            let leaf = features.require_grad();
            let labels = golden.integers(&format!("labels.{step}"), &device);
            let output = ReidOutput::single(leaf.clone(), leaf.clone());
            let loss = criterion.forward(&output, &labels.into());
            golden.meets(&format!("{name}.{step}.loss"), loss.clone(), LOSS);
            let gradient = leaf.grad(&loss.backward()).expect("the input's gradient");
            golden.meets(&format!("{name}.{step}.grad"), gradient, LOSS_GRADIENT);
            let centroids = criterion.centroids.value();
            golden.meets(&format!("{name}.{step}.centroids"), centroids, STATISTIC);
        }
    }
}

/// Compares center loss. Its weight scales the loss and the gradient of the features, not that of the
/// centres.
fn center(golden: &Golden) {
    let device = Device::default().autodiff();
    let [classes, width] = golden.shape("centers");
    for weight in [1.0, 5e-4] {
        let config = CenterLossConfig::new().with_weight(weight);
        let mut criterion = config.init(
            &OutputShape::single(width, classes),
            &Init::new(Seed::new(1), &device),
        );
        let centers = golden.tensor::<2>("centers", &device);
        criterion.centers[0] = Param::from_tensor(centers);
        let leaf = golden.tensor::<2>("features", &device).require_grad();
        let output = ReidOutput::single(leaf.clone(), leaf.clone());
        let loss = criterion.forward(&output, &golden.integers("labels", &device).into());
        golden.meets("center.loss", loss.clone() / weight, LOSS);

        let gradients = loss.backward();
        let features = leaf.grad(&gradients).expect("the features' gradient");
        golden.meets("center.grad.features", features / weight, LOSS_GRADIENT);
        let centers = criterion.centers[0].val().grad(&gradients);
        let centers = centers.expect("the centres' gradient");
        golden.meets("center.grad.centers", centers, LOSS_GRADIENT);
    }
}

// ----------------------------------------------------------------------------------- optimizers

/// Compares Adam and SGD after a number of steps from the same start with the same gradients.
fn optimizers(golden: &Golden) {
    let sgd = |nesterov| OptimizerConfig::Sgd {
        momentum: 0.9,
        nesterov,
        weight_decay: 1e-4,
    };
    optimizer(golden, "adam", OptimizerConfig::adam(), 0.01);
    optimizer(golden, "sgd", sgd(false), 0.1);
    optimizer(golden, "sgd_nesterov", sgd(true), 0.1);
}

fn optimizer(golden: &Golden, name: &str, config: OptimizerConfig, rate: f64) {
    let device = Device::default().autodiff();
    let start = golden.tensor::<1>("parameter", &device);
    let shape: [usize; 1] = start.dims();
    let mut weights = vec![Param::from_tensor(start)];
    let mut optimizer = config.init();
    for step in 1..=50 {
        let key = format!("optim.grad.{step}");
        let plain = device.clone().inner();
        let gradient = formula::tensor::<1>(&key, shape, UNIT, (&plain, DType::F32));
        let mut gradients = GradientsParams::new();
        gradients.register(weights[0].id, gradient);
        weights = optimizer.step(rate, weights, gradients);
        let key = format!("{name}.{step}");
        if golden.has(&key) {
            golden.meets(&key, weights[0].val(), OUTPUT);
        }
    }
}
