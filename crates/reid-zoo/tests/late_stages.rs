//! Networks whose branches have their own late stages, with the weights of a whole `ResNet`.

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    tensor::{Device, Tensor},
};
use reid_core::{InputSize, Seed};
use reid_nn::{
    BlockConfig, Init, Network,
    attention::FncChannelConfig,
    backbone::{LateStages, ResNetConfig, SplitPoint},
    head::ReducedBnNeckConfig,
};
use reid_zoo::{FncConfig, MgnConfig};

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
fn assert_copies(expected: &LateStages, copies: &[&LateStages]) {
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
fn a_configuration_needs_a_split_point() {
    let mut json = serde_json::to_value(fnc()).expect("plain data");
    json.as_object_mut().expect("an object").remove("split");
    let error = serde_json::from_value::<FncConfig<()>>(json).expect_err("no split");
    assert!(
        error.to_string().contains("missing field `split`"),
        "{error}"
    );
}
