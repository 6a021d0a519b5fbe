//! Networks whose branches have their own late stages, with the weights of a whole `ResNet` or `OSNet`.

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    tensor::{Device, Tensor},
};
use reid_core::{InputSize, Seed};
use reid_nn::{
    BlockConfig, Init, Network,
    attention::{AttentionConfig, FncChannelConfig},
    backbone::{LateStages, OsNetConfig, ResNetConfig, SplitPoint},
    head::{BranchedHeadConfig, ReducedBnNeckConfig},
};
use reid_zoo::{
    Architecture, ArchitectureModel, FncConfig, LightMbnConfig, MgnConfig, OsNetBranchedConfig,
    OsNetFncConfig, weights,
};
use tempfile::tempdir;

const SIZE: InputSize = InputSize {
    height: 64,
    width: 32,
};

fn network() -> ResNetConfig {
    ResNetConfig::resnet18().with_width(4).with_last_stride(1)
}

fn fnc() -> FncConfig<()> {
    let mut config = FncConfig::from_network(network());
    let neck = ReducedBnNeckConfig::new().with_dimensions(6);
    config.branches.channel = FncChannelConfig::new().with_hidden(4).with_groups(2);
    (config.branches.spatial_neck, config.branches.channel_neck) = (neck.clone(), neck);
    config
}

fn mgn() -> MgnConfig {
    let mut config = MgnConfig::from_network(network());
    for branch in &mut config.branches {
        branch.dimensions = 6;
    }
    config.branches.truncate(2);
    config
}

/// The values and IDs of the parameters of a module, in order.
#[derive(Default)]
struct Parameters {
    values: Vec<Vec<f32>>,
    ids: Vec<ParamId>,
}

impl ModuleVisitor for Parameters {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let values = param.val().into_data().try_to_vec::<f32>();
        self.values.push(values.expect("floats"));
        self.ids.push(param.id);
    }
}

fn parameters<M: Module>(module: &M) -> Parameters {
    let mut found = Parameters::default();
    module.visit(&mut found);
    found
}

/// Asserts that all copies have the values of the expected late stages, and that no two share a parameter ID.
fn assert_copies<M: Module>(expected: &M, copies: &[&M]) {
    let expected = parameters(expected);
    let mut ids = Vec::new();
    for late_stages in copies {
        let found = parameters(*late_stages);
        assert_eq!(found.values, expected.values);
        ids.extend(found.ids);
    }
    let all = ids.len();
    ids.sort_by_key(ParamId::val);
    ids.dedup();
    assert_eq!(ids.len(), all, "two parameters have the same ID");
}

#[test]
fn branches_start_from_a_whole_network() {
    let device = Device::default().autodiff();
    let whole = network().init(SIZE.rgb(), &Init::new(Seed::new(3), &device));
    let split = SplitPoint { stage: 3, block: 1 };
    let (early_stages, late_stages) = whole.clone().split(split);

    let config = fnc();
    let mut model = config.init(SIZE, 3, &Init::new(Seed::new(1), &device));
    config.start_from(&mut model, whole.clone());
    assert_eq!(
        parameters(&model.backbone).values,
        parameters(&early_stages).values
    );
    let (spatial, channel) = &model.head.branches;
    let copies = [&spatial.block.0, &channel.block.0];
    let copies = copies.map(|late_stages| late_stages.as_ref().expect("separate"));
    assert_copies(&late_stages, &copies);

    let config = mgn();
    let mut model = config.init(SIZE, 3, &Init::new(Seed::new(1), &device));
    config.start_from(&mut model, whole);
    assert_eq!(
        parameters(&model.backbone).values,
        parameters(&early_stages).values
    );
    let copies: Vec<&LateStages> = model
        .head
        .branches
        .iter()
        .map(|branch| &branch.block)
        .collect();
    assert_copies(&late_stages, &copies);
}

#[test]
fn branches_start_from_a_whole_osnet() {
    let device = Device::default().autodiff();
    let network = OsNetConfig::x0_25().with_channels([4, 8, 12, 16]);
    let init = |seed| Init::new(Seed::new(seed), &device);
    let whole = network.init(SIZE.rgb(), &init(3));
    let mut config = LightMbnConfig::from_network(network);
    config.branches.dimensions = 6;
    let (early_stages, late_stages) = whole.clone().split(config.split);

    let mut model = config.init(SIZE, 3, &init(1));
    let (global, part, channel) = &model.head.branches;
    let copies = [&global.block.0, &part.block, &channel.block];
    assert_copies(copies[0], &copies);

    config.start_from(&mut model, whole);
    assert_eq!(
        parameters(&model.backbone).values,
        parameters(&early_stages).values
    );
    let (global, part, channel) = &model.head.branches;
    assert_copies(
        &late_stages,
        &[&global.block.0, &part.block, &channel.block],
    );
}

/// A network that is selected at run time loads a file into its backbone, whole or split.
#[test]
fn an_architecture_loads_a_whole_backbone() {
    let (folder, device) = (tempdir().expect("a folder"), Device::default().autodiff());
    let path = folder.path().join("backbone.safetensors");
    let init = |seed| Init::new(Seed::new(seed), &device);
    let built = |network: &Architecture| {
        let mut model = network.init(SIZE, 3, &init(1));
        network
            .load_backbone(&mut model, &path, SIZE, &init(2))
            .unwrap_or_else(|error| panic!("{error}"));
        model
    };
    let resnet = network().inside(None);
    let whole = resnet.init(SIZE.rgb(), &init(3));
    weights::save(&whole, &path).expect("saved");

    let mut baseline = Architecture::strong_baseline();
    if let Architecture::Baseline(config) = &mut baseline {
        config.backbone = resnet
            .clone()
            .after(&[], AttentionConfig::Chain(Vec::new()));
    }
    let ArchitectureModel::Baseline(model) = built(&baseline) else {
        panic!("another architecture");
    };
    assert_eq!(
        parameters(&model.backbone).values,
        parameters(&whole).values
    );
    let mut mgn = MgnConfig::from_network(resnet.clone());
    mgn.branches.truncate(2);
    let (early_stages, late_stages) = whole.clone().split(mgn.split);
    let ArchitectureModel::Mgn(model) = built(&mgn.into()) else {
        panic!("another architecture");
    };
    let found = parameters(&model.backbone).values;
    assert_eq!(found, parameters(&early_stages).values);
    let branches = model.head.branches.iter();
    let copies: Vec<_> = branches.map(|branch| &branch.block).collect();
    assert_copies(&late_stages, &copies);
    let fnc = FncConfig::from_network(resnet);
    let ArchitectureModel::Fnc(model) = built(&fnc.into()) else {
        panic!("another architecture");
    };
    let found = parameters(&model.backbone).values;
    assert_eq!(found, parameters(&early_stages).values);

    let osnet = OsNetConfig::x0_25().with_channels([4, 8, 12, 16]);
    let osnet = osnet.after(&[], AttentionConfig::Chain(Vec::new()));
    let whole = osnet.init(SIZE.rgb(), &init(3));
    weights::save(&whole, &path).expect("saved");
    let mut config = LightMbnConfig::from_network(osnet);
    config.branches.dimensions = 6;
    let (early_stages, late_stages) = whole.split(config.split);
    let ArchitectureModel::LightMbn(model) = built(&config.into()) else {
        panic!("another architecture");
    };
    let found = parameters(&model.backbone).values;
    assert_eq!(found, parameters(&early_stages).values);
    let (global, part, channel) = &model.head.branches;
    assert_copies(
        &late_stages,
        &[&global.block.0, &part.block, &channel.block],
    );
}

/// The same for the branches of other papers on an `OSNet`.
#[test]
fn branches_on_an_osnet_load_a_whole_backbone() {
    let (folder, device) = (tempdir().expect("a folder"), Device::default().autodiff());
    let path = folder.path().join("backbone.safetensors");
    let init = |seed| Init::new(Seed::new(seed), &device);
    let osnet = OsNetConfig::x0_25().with_channels([4, 8, 12, 16]);
    let osnet = osnet.after(&[], AttentionConfig::Chain(Vec::new()));
    let whole = osnet.init(SIZE.rgb(), &init(3));
    weights::save(&whole, &path).expect("saved");
    let load = |network: &Architecture| {
        let mut model = network.init(SIZE, 3, &init(1));
        let loaded = network.load_backbone(&mut model, &path, SIZE, &init(2));
        loaded.unwrap_or_else(|error| panic!("{error}"));
        model
    };

    let branched = OsNetBranchedConfig {
        backbone: osnet.clone(),
        head: BranchedHeadConfig::new().with_global(6),
    };
    let ArchitectureModel::OsNetBranched(model) = load(&branched.into()) else {
        panic!("another architecture");
    };
    let found = parameters(&model.backbone).values;
    assert_eq!(found, parameters(&whole).values);

    let mut config = OsNetFncConfig::from_network(osnet);
    config.branches = fnc().branches;
    let (early_stages, late_stages) = whole.clone().split(config.split.expect("separate"));
    let ArchitectureModel::OsNetFnc(model) = load(&config.clone().into()) else {
        panic!("another architecture");
    };
    let found = parameters(&model.backbone).values;
    assert_eq!(found, parameters(&early_stages).values);
    let (spatial, channel) = &model.head.branches;
    let copies = [&spatial.block.0, &channel.block.0];
    assert_copies(
        &late_stages,
        &copies.map(|copy| copy.as_ref().expect("separate")),
    );

    config.split = None;
    let ArchitectureModel::OsNetFnc(model) = load(&config.into()) else {
        panic!("another architecture");
    };
    let found = parameters(&model.backbone).values;
    assert_eq!(found, parameters(&whole).values);
}

#[test]
#[should_panic(expected = "expected a model of the architecture mgn, found another")]
fn a_model_of_another_architecture_panics() {
    let device = Device::default();
    let init = Init::new(Seed::new(1), &device);
    let baseline: Architecture = "resnet18".parse().expect("a name");
    let mut model = baseline.init(SIZE, 3, &init);
    let mgn: Architecture = MgnConfig::from_network(network().inside(None)).into();
    let _ = mgn.load_backbone(&mut model, "unread.pth", SIZE, &init);
}

#[test]
fn a_configuration_needs_a_split_point() {
    let mut json = serde_json::to_value(fnc()).expect("plain data");
    json.as_object_mut().expect("an object").remove("split");
    let error = serde_json::from_value::<FncConfig<()>>(json).expect_err("no split");
    assert!(
        error.to_string().contains("missing field `split`"),
        "{error}"
    );
}
