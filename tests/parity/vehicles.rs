//! Compares the parts of vehicle re-identification with reference values from
//! `tests/golden/make_vehicles.py`: backbones, FNC's attention and branches, stripe heads and optimizers.

use burn::{
    module::{Module, Param},
    optim::{GradientsParams, ModuleOptimizer, Optimizer, SgdConfig, momentum::MomentumConfig},
    tensor::{DType, Device, Tensor},
};
use reid::{
    core::{FeatureShape, Seed},
    nn::{
        Block, BlockConfig, Criterion, CriterionConfig, Head, HeadConfig, Init, ReidOutput,
        attention::{
            ChannelGate, Combine, FncChannel, FncChannelConfig, FncSpatialConfig,
            SqueezeExcitationConfig,
        },
        backbone::{Ibn, LateStagesConfig, ResNetConfig, ResidualKind, SplitPoint, Stem},
        head::{
            FncBranches, FncHead, FncHeadConfig, ReducedBnNeck, ReducedBnNeckConfig, StripeHead,
            StripeHeadConfig,
        },
        loss::{IdentityLossConfig, Reduction, TripletLossConfig},
    },
    train::{Lookahead, OptimizerConfig, Radam, WeightDecay},
};

use crate::formula::{self, INPUT, UNIT};
use crate::golden::{
    self, Checker, DOUBLE, GRADIENT, Golden, OUTPUT, ROUNDING, STATISTIC,
    network::{both_modes, torchvision, whole},
    part::{compare, gradient_meets},
};

const CHECKERS: [Checker; 9] = [
    ("fnc", fnc),
    ("further_attention", further_attention),
    ("granules", stripe_head),
    ("ibn_a", |golden| {
        whole(golden, &ResNetConfig::resnet50().with_ibn(Ibn::A), half);
    }),
    ("ibn_b", |golden| {
        whole(golden, &ResNetConfig::resnet50().with_ibn(Ibn::B), sum);
    }),
    ("ranger", optimizers),
    ("resnet101", |golden| {
        whole(golden, &ResNetConfig::resnet101(), torchvision);
    }),
    ("se_resnext101", |golden| {
        whole(golden, &ResNetConfig::se_resnext101(), cadene);
    }),
    ("se_resnext50", |golden| {
        both_modes(golden, &ResNetConfig::se_resnext50(), cadene);
    }),
];

#[test]
fn every_known_golden_file_agrees() {
    golden::check_files(&CHECKERS);
}

// --------------------------------------------------------------------------------------- naming

/// Maps the path of a parameter to its name in Cadene's state dict.
fn cadene(path: &str) -> String {
    let path = path.replace("head.classifier", "last_linear");
    match path.strip_prefix("backbone.") {
        Some(stem) if stem.starts_with("conv1") || stem.starts_with("bn1") => {
            format!("layer0.{stem}")
        }
        Some(rest) => rest.to_owned(),
        None => path,
    }
}

/// Maps the path of a parameter to its name in IBN-Net-a, which normalises half of the channels per image.
fn half(path: &str) -> String {
    let path = torchvision(path);
    let early = ["layer1.", "layer2.", "layer3."];
    if early.iter().any(|stage| path.starts_with(stage)) {
        path.replace(".bn1.", ".bn1.BN.")
            .replace(".in1.", ".bn1.IN.")
    } else {
        path
    }
}

/// Maps the path of a parameter to its name in IBN-Net-b, which normalises residual sums per image.
fn sum(path: &str) -> String {
    let path = torchvision(path).replace(".in_sum.", ".IN.");
    match path.strip_prefix("in1.") {
        Some(kind) => format!("bn1.{kind}"),
        None => path,
    }
}

// ---------------------------------------------------------------------------------------- parts

fn further_attention(golden: &Golden) {
    let device = Device::default().autodiff();
    let map = FeatureShape::new(16, 4, 3);
    let spatial = FncSpatialConfig::new();
    for (part, merge) in [("sab", Combine::Multiply), ("sab_add", Combine::Add)] {
        let config = spatial.clone().with_combine(merge);
        let block = filled(
            part,
            config.init(map, &Init::new(Seed::new(1), &device)),
            DType::F32,
        );
        compare(golden, part, block, Block::forward);
    }
    let squeeze = SqueezeExcitationConfig::new().with_reduction(4);
    let channel = FncChannelConfig::new()
        .with_hidden(8)
        .with_groups(4)
        .with_squeeze(squeeze);
    for (part, config) in [
        ("cab", channel.clone()),
        ("cab_vector", channel.clone().with_gate(ChannelGate::Vector)),
        ("cab_add", channel.with_combine(Combine::Add)),
    ] {
        let block: FncChannel = filled(
            part,
            config.init(map, &Init::new(Seed::new(1), &device)),
            DType::F32,
        );
        compare(golden, part, block, Block::forward);
    }
    let config = ReducedBnNeckConfig::new().with_dimensions(6);
    reduced_neck(
        golden,
        config.init(map, 5, &Init::new(Seed::new(1), &device)),
    );
}

/// Replaces the parameters of a part by values of the formula. The frozen bias of the neck stays 0.
fn filled<M: Module>(part: &str, module: M, dtype: DType) -> M {
    let name = |path: &str| format!("{part}.{}", path.replace("bottleneck.bias", "frozen"));
    formula::filled(module, name, dtype)
}

fn reduced_neck(golden: &Golden, head: ReducedBnNeck) {
    let device = Device::default().autodiff();
    let key = |name: &str| format!("reduced_neck.{name}");
    let head = filled("reduced_neck", head, DType::F32);
    let options = (&device, DType::F32);
    let input = formula::tensor(&key("input"), [4, 16, 4, 3], INPUT, options).require_grad();
    let meets = |mode: &str, output: &ReidOutput| {
        golden.meets(
            &key(&format!("features.{mode}")),
            output.features[0].clone(),
            OUTPUT,
        );
        golden.meets(
            &key(&format!("embedding.{mode}")),
            output.embedding.clone(),
            OUTPUT,
        );
        golden.meets(
            &key(&format!("logits.{mode}")),
            output.logits[0].clone(),
            OUTPUT,
        );
    };
    meets("eval", &head.valid().forward(input.clone().inner()));
    let output = head.forward(input.clone());
    meets("train", &output);
    let weights = |name: &str| golden.tensor::<2>(&key(name), &device);
    let ReidOutput {
        features, logits, ..
    } = output;
    let loss = (features[0].clone() * weights("grad_features")).sum()
        + (logits[0].clone() * weights("grad_logits")).sum();
    let gradients = loss.backward();
    let gradient = input.grad(&gradients).expect("the input's gradient");
    golden.meets(&key("grad.input"), gradient, GRADIENT);
    for (path, gradient) in formula::gradients(&head, &gradients) {
        let name = key(&format!("grad.{path}"));
        gradient_meets(
            golden,
            &name,
            &path,
            &gradient.unwrap_or_default(),
            ROUNDING,
        );
    }
    golden.meets_statistics(&head, |path| key(&format!("state_after.{path}")), STATISTIC);
}

fn stripe_head(golden: &Golden) {
    let device = Device::default().autodiff();
    let config = StripeHeadConfig::new().with_stripes(3).with_dimensions(6);
    let mut head: StripeHead = config.init(
        FeatureShape::new(16, 6, 3),
        5,
        &Init::new(Seed::new(1), &device),
    );
    // The reference has no bias before the normalisation.
    for part in std::iter::once(&mut head.whole).chain(&mut head.stripes) {
        part.reduction.bias = None;
    }
    let head = filled("granules", head, DType::F32);
    let input = formula::tensor(
        "granules.input",
        [4, 16, 6, 3],
        INPUT,
        (&device, DType::F32),
    );
    let input = input.require_grad();
    let parts = ["whole", "stripes.0", "stripes.1", "stripes.2"];
    let features_by_part = |output: &ReidOutput| {
        let embedding = output.embedding.clone();
        let features: Vec<Tensor<2>> = (0..4)
            .map(|index| embedding.clone().narrow(1, 6 * index, 6))
            .collect();
        features
    };
    let meets = |mode: &str, output: &ReidOutput| {
        let logits = output.logits.iter();
        for ((part, features), logits) in parts.iter().zip(features_by_part(output)).zip(logits) {
            golden.meets(&format!("{part}.features.{mode}"), features, OUTPUT);
            golden.meets(&format!("{part}.logits.{mode}"), logits.clone(), OUTPUT);
        }
    };
    meets("eval", &head.valid().forward(input.clone().inner()));
    let output = head.forward(input.clone());
    meets("train", &output);
    let weights = |name: String| golden.tensor::<2>(&name, &device);
    let logits = output.logits.iter();
    let losses = parts.iter().zip(features_by_part(&output)).zip(logits);
    let losses = losses.map(|((part, features), logits)| {
        (features * weights(format!("{part}.grad_features"))).sum()
            + (logits.clone() * weights(format!("{part}.grad_logits"))).sum()
    });
    let gradients = losses.reduce(Tensor::add).expect("four parts").backward();
    let gradient = input.grad(&gradients).expect("the input's gradient");
    golden.meets("grad.input", gradient, GRADIENT);
    for (path, gradient) in formula::gradients(&head, &gradients) {
        let name = format!("grad.{path}");
        gradient_meets(
            golden,
            &name,
            &path,
            &gradient.unwrap_or_default(),
            ROUNDING,
        );
    }
    golden.meets_statistics(&head, |path| format!("state_after.{path}"), STATISTIC);
}

// ------------------------------------------------------------------------------------------ FNC

/// Builds FNC's head for feature maps of 64 x 6 x 4, split after the first block of stage 3.
fn fnc_head(classes: usize, device: &Device) -> FncHead<reid::nn::attention::SqueezeExcitation> {
    let mut network = ResNetConfig::resnet50()
        .with_width(4)
        .with_groups(4, 64)
        .with_last_stride(1)
        .with_stem(Stem::Small)
        .inside(SqueezeExcitationConfig::new());
    network.kind = ResidualKind::Bottleneck;
    network.blocks = [1, 1, 2, 2];
    // Four groups, each with a quarter of the planes, have as many hidden channels as planes.
    network.width_per_group = 16;
    let branches = FncBranches::new()
        .with_spatial_neck(ReducedBnNeckConfig::new().with_dimensions(24))
        .with_channel(FncChannelConfig::new().with_hidden(32).with_groups(8))
        .with_channel_neck(ReducedBnNeckConfig::new().with_dimensions(12));
    let split = SplitPoint { stage: 3, block: 1 };
    let late_stages = Some(LateStagesConfig { network, split });
    FncHeadConfig {
        late_stages,
        branches,
    }
    .init(
        FeatureShape::new(64, 6, 4),
        classes,
        &Init::new(Seed::new(1), device),
    )
}

/// Compares FNC's embedding, losses and running statistics; in double precision also the gradient of every
/// parameter.
fn fnc(golden: &Golden) {
    let device = Device::default().autodiff();
    let double = device.supports_dtype(DType::F64);
    let dtypes = if double {
        &[DType::F32, DType::F64][..]
    } else {
        &[DType::F32]
    };
    for &dtype in dtypes {
        fnc_step(golden, &device, dtype);
    }
    if !double {
        golden.skip(|name| name.starts_with("grad"));
    }
}

/// The name of a parameter in the golden file, where the two branches have names.
fn branch_name(path: &str) -> String {
    let named = [("branches.0.", "spatial."), ("branches.1.", "channel.")];
    let branch = named.iter().find_map(|(index, name)| {
        let rest = path.strip_prefix(index)?;
        Some(format!("{name}{rest}"))
    });
    branch.unwrap_or_else(|| path.to_owned())
}

fn fnc_step(golden: &Golden, device: &Device, dtype: DType) {
    let frozen = |path: &str| path.replace("bottleneck.bias", "frozen");
    let name = |path: &str| format!("fnc.{}", frozen(&branch_name(path)));
    let head = formula::filled(fnc_head(5, device), name, dtype);
    let options = (device, dtype);
    let input = formula::tensor("fnc.input", [8, 64, 6, 4], INPUT, options).require_grad();
    let embedding = head.valid().forward(input.clone().inner()).embedding;
    golden.meets("eval.descriptor", embedding, OUTPUT);

    let output = head.forward(input.clone());
    for (index, branch) in ["spatial", "channel"].into_iter().enumerate() {
        let key = |kind: &str| format!("train.{kind}.{branch}");
        golden.meets(&key("features"), output.features[index].clone(), OUTPUT);
        golden.meets(&key("logits"), output.logits[index].clone(), OUTPUT);
    }
    let shape = reid::nn::OutputShape::new(36, vec![24, 12], 5);
    let identity = IdentityLossConfig::new()
        .with_smoothing(0.1)
        .init(&shape, &Init::new(Seed::new(1), device));
    let triplet = TripletLossConfig::new().with_reduction(Reduction::Sum);
    let triplet = triplet.init(&shape, &Init::new(Seed::new(1), device));
    let targets = golden.integers("labels", device).into();
    let identities = identity.losses(&output, &targets);
    let triplets = triplet.losses(&output, &targets);
    let branches = ["spatial", "channel"].into_iter();
    for (branch, (identity, triplet)) in branches.zip(identities.iter().zip(&triplets)) {
        golden.meets(
            &format!("loss.identity.{branch}"),
            identity.value.clone(),
            OUTPUT,
        );
        golden.meets(
            &format!("loss.triplet.{branch}"),
            triplet.value.clone(),
            OUTPUT,
        );
    }
    let add = |losses: Vec<reid::nn::NamedLoss>| {
        let values = losses.into_iter().map(|loss| loss.value);
        values.reduce(Tensor::add).expect("two branches")
    };
    let total = add(identities) * 2.0 + add(triplets);
    golden.meets("loss.total", total.clone(), OUTPUT);
    let gradients = total.backward();
    let state = |path: &str| format!("state_after.{}", branch_name(path));
    golden.meets_known_statistics(&head, state, STATISTIC);
    if dtype == DType::F64 {
        let gradient = input.grad(&gradients).expect("the input's gradient");
        golden.meets("grad.input", gradient, DOUBLE);
        golden.meets_gradients(&head, &gradients, branch_name, DOUBLE);
    }
}

// ----------------------------------------------------------------------------------- optimizers

fn optimizers(golden: &Golden) {
    let radam = |decay| Radam {
        decay: WeightDecay::Coupled(decay),
        ..Radam::default()
    };
    walk(golden, "radam", radam(0.0), 0.01);
    walk(golden, "radam_coupled", radam(5e-4), 0.01);
    let decoupled = Radam {
        beta1: 0.95,
        epsilon: 1e-5,
        decay: WeightDecay::Decoupled(5e-4),
        ..Radam::default()
    };
    walk(golden, "radam_decoupled", decoupled, 0.01);
    let momentum = MomentumConfig::new().with_dampening(0.0);
    let sgd = SgdConfig::new().with_momentum(Some(momentum)).build();
    walk(golden, "lookahead_sgd", Lookahead::new(sgd), 0.1);
    let plain = Radam {
        decay: WeightDecay::Decoupled(0.0),
        ..decoupled
    };
    walk(golden, "ranger", Lookahead::new(plain), 0.01);
    walk_scaled(
        golden,
        "ranger_small",
        Lookahead::new(plain).into(),
        0.01,
        2.0_f64.powi(-14),
    );
    walk_scaled(
        golden,
        "ranger_decay",
        OptimizerConfig::ranger().init(),
        0.01,
        1.0,
    );
}

fn walk(golden: &Golden, name: &str, optimizer: impl Optimizer, rate: f64) {
    walk_scaled(golden, name, ModuleOptimizer::from(optimizer), rate, 1.0);
}

fn walk_scaled(golden: &Golden, name: &str, mut optimizer: ModuleOptimizer, rate: f64, scale: f64) {
    let device = Device::default().autodiff();
    let start = golden.tensor::<1>("parameter", &device);
    let shape: [usize; 1] = start.dims();
    let mut weights = vec![Param::from_tensor(start)];
    for step in 1..=200 {
        let key = format!("optim.grad.{step}");
        let plain = device.clone().inner();
        let gradient = formula::tensor::<1>(&key, shape, UNIT, (&plain, DType::F32)) * scale;
        let mut gradients = GradientsParams::new();
        gradients.register(weights[0].id, gradient);
        weights = optimizer.step(rate, weights, gradients);
        let key = format!("{name}.{step}");
        if golden.has(&key) {
            golden.meets(&key, weights[0].val(), OUTPUT);
        }
    }
}
