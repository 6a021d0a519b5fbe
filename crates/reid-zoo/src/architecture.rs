//! Architectures: the networks of this crate as one enum, so that a network can be selected at run time.

use std::{fmt, path::Path};

use burn::{
    module::{
        Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
    },
    tensor::{Device, Tensor},
};
use reid_core::{InputSize, Problems, strict};
use reid_nn::{
    BlockConfig, Embed, Init, Model, Network, OutputShape, ReidModel, ReidOutput, StagePaths,
    TrainingStep,
    attention::{Attention, AttentionConfig, SqueezeExcitation, SqueezeExcitationConfig},
    backbone::{DenseNet, DenseNetConfig, ResNet, ResNetConfig},
    head::{BnNeck, BnNeckConfig, BranchedHead, BranchedHeadConfig, PooledHead, PooledHeadConfig},
    similarity_map::EmbeddingTerms,
    traversal,
};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::Value;

use self::legacy::legacy_name;
use crate::{
    Fnc, FncConfig, LightMbn, LightMbnConfig, Mgn, MgnConfig, MobileNetReid, MobileNetReidConfig,
    NetworkConfig, OsNetBranched, OsNetBranchedConfig, OsNetFnc, OsNetFncConfig, OsNetReid,
    OsNetReidConfig, RgaConfig, RgaResNet50, weights::load_backbone,
};

mod legacy;

/// Squeeze-and-excitation inside the residual blocks of a network, or none.
type Inside = Option<SqueezeExcitationConfig>;

macro_rules! architectures {
    ($($(#[doc = $doc:literal])+ $name:ident($key:literal, $config:ty, $model:ty),)+) => {
        /// The configuration of any network of this crate, for a network that is selected at run time.
        ///
        /// It can be the `network` of a recipe. [`Embedder::open`](crate::Embedder::open) opens checkpoints of such
        /// runs.
        ///
        /// As JSON it is an object with one field, named after the architecture, such as `baseline`. Networks in
        /// recipes of version 0.1 have no such name and are recognised by their fields.
        ///
        /// ```
        /// use burn::tensor::{Device, Tensor};
        /// use reid_core::{InputSize, Seed};
        /// use reid_nn::{Embed, Init, Network, attention::RgaSpatialConfig};
        /// use reid_zoo::Architecture;
        ///
        /// let mut network = Architecture::strong_baseline();
        /// if let Architecture::Baseline(baseline) = &mut network {
        ///     let backbone = baseline.backbone.clone().with_width(8);
        ///     baseline.backbone = backbone.and_after(&[3, 4], RgaSpatialConfig::new().into());
        /// }
        /// let (size, device) = (InputSize::new(64, 32), Device::default());
        /// let model = network.init(size, 751, &Init::new(Seed::new(1), &device));
        /// assert_eq!(model.embed(Tensor::ones([1, 3, 64, 32], &device)).dims(), [1, 256]);
        /// ```
        #[derive(Clone, Debug, Serialize)]
        #[non_exhaustive]
        pub enum Architecture {
            $($(#[doc = $doc])+ #[serde(rename = $key)] $name($config),)+
        }

        /// A model of an [`Architecture`].
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        #[expect(clippy::large_enum_variant, reason = "a program has few models, whose tensors are far larger")]
        pub enum ArchitectureModel {
            $($(#[doc = $doc])+ $name($model),)+
        }

        impl<'de> Deserialize<'de> for Architecture {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let mut network = Value::deserialize(deserializer)?;
                if let Some(name) = legacy_name(&network) {
                    network = Value::Object([(name.to_owned(), network)].into_iter().collect());
                }
                let Some((name, config)) = network.as_object().and_then(only) else {
                    return Err(D::Error::custom(EXPECTED));
                };
                match name {
                    $($key => parse(config).map(Self::$name).map_err(D::Error::custom),)+
                    other => Err(D::Error::custom(format_args!(
                        "unknown architecture `{other}`, expected one of {}",
                        [$(concat!("`", $key, "`")),+].join(", ")
                    ))),
                }
            }
        }

        impl Network for Architecture {
            type Model = ArchitectureModel;

            fn init(&self, input: InputSize, classes: usize, init: &Init<'_>) -> ArchitectureModel {
                match self {
                    $(Self::$name(config) => {
                        ArchitectureModel::$name(config.init(input, classes, init))
                    })+
                }
            }

            fn output(&self, input: InputSize, classes: usize) -> OutputShape {
                match self {
                    $(Self::$name(config) => config.output(input, classes),)+
                }
            }

            fn validate_network(&self, input: InputSize, problems: &mut Problems) {
                match self {
                    $(Self::$name(config) => {
                        problems.at($key, |problems| config.validate_network(input, problems));
                    })+
                }
            }

            fn stage_paths(&self) -> StagePaths {
                match self { $(Self::$name(config) => config.stage_paths(),)+ }
            }
        }

        /// Each parameter has the same name as in the architecture's own model, such as [`Mgn`]. Files of weights
        /// can be loaded into both.
        impl Module for ArchitectureModel {
            fn collect_devices(&self, devices: Devices) -> Devices {
                match self { $(Self::$name(model) => model.collect_devices(devices),)+ }
            }

            fn fork(self, device: &Device) -> Self {
                match self { $(Self::$name(model) => Self::$name(model.fork(device)),)+ }
            }

            fn to_device(self, device: &Device) -> Self {
                match self { $(Self::$name(model) => Self::$name(model.to_device(device)),)+ }
            }

            fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
                match self { $(Self::$name(model) => traversal::visit(model, visitor),)+ }
            }

            fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
                match self { $(Self::$name(model) => Self::$name(traversal::map(model, mapper)),)+ }
            }

            fn valid(&self) -> Self {
                match self { $(Self::$name(model) => Self::$name(model.valid()),)+ }
            }

            fn train(self) -> Self {
                match self { $(Self::$name(model) => Self::$name(model.train()),)+ }
            }

            fn materialize(self) -> Self {
                match self { $(Self::$name(model) => Self::$name(model.materialize()),)+ }
            }
        }

        impl ModuleDisplayDefault for ArchitectureModel {
            fn content(&self, content: Content) -> Option<Content> {
                match self { $(Self::$name(model) => model.content(content),)+ }
            }
        }

        impl ModuleDisplay for ArchitectureModel {}

        impl fmt::Display for ArchitectureModel {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $(Self::$name(model) => model.fmt(f),)+ }
            }
        }

        impl Embed for ArchitectureModel {
            fn embed(&self, images: Tensor<4>) -> Tensor<2> {
                match self { $(Self::$name(model) => model.embed(images),)+ }
            }

            fn logits(&self, images: Tensor<4>) -> Option<Tensor<2>> {
                match self { $(Self::$name(model) => Embed::logits(model, images),)+ }
            }

            fn grad_cam(&self, images: Tensor<4>) -> Option<Tensor<3>> {
                match self { $(Self::$name(model) => model.grad_cam(images),)+ }
            }

            fn embedding_terms(&self, images: Tensor<4>) -> Option<EmbeddingTerms> {
                match self { $(Self::$name(model) => model.embedding_terms(images),)+ }
            }

            fn device(&self) -> Option<Device> {
                match self { $(Self::$name(model) => model.device(),)+ }
            }
        }

        impl Model for ArchitectureModel {
            fn forward_train(&self, images: Tensor<4>, step: TrainingStep<'_>) -> ReidOutput {
                match self { $(Self::$name(model) => model.forward_train(images, step),)+ }
            }

            fn fold_batch_norm(self) -> Self {
                match self { $(Self::$name(model) => Self::$name(model.fold_batch_norm()),)+ }
            }
        }

        $(impl From<$config> for Architecture {
            fn from(config: $config) -> Self {
                Self::$name(config)
            }
        })+
    };
}

architectures! {
    /// A `ResNet` with a [`BnNeck`], with any attention after its stages.
    Baseline(
        "baseline",
        NetworkConfig<ResNetConfig<Inside, AttentionConfig>, BnNeckConfig>,
        ReidModel<ResNet<Option<SqueezeExcitation>, Attention>, BnNeck>
    ),
    /// A ResNet-50 with RGA-SC after its stages, as in [`RgaConfig`]. Its parameters are named as in version 0.1.
    Rga("rga", RgaConfig, RgaResNet50),
    /// A global branch and further branches, whose features are augmented in training: progressive feature
    /// `CutMix` and Batch `DropBlock`.
    Branched(
        "branched",
        NetworkConfig<ResNetConfig<Inside>, BranchedHeadConfig>,
        ReidModel<ResNet<Option<SqueezeExcitation>>, BranchedHead>
    ),
    /// MGN: branches that embed the whole feature map and stripes of it.
    Mgn("mgn", MgnConfig<Inside>, Mgn<Option<SqueezeExcitation>>),
    /// FNC: two branches, one with further non-local attention and one with channel attention.
    Fnc("fnc", FncConfig<Inside>, Fnc<Option<SqueezeExcitation>>),
    /// An `OSNet` with torchreid's head, with any attention after its stages.
    OsNet("osnet", OsNetReidConfig<AttentionConfig>, OsNetReid<Attention>),
    /// `LightMBN`: three branches of an `OSNet`, with any attention after its stages.
    LightMbn("light-mbn", LightMbnConfig<AttentionConfig>, LightMbn<Attention>),
    /// The branches of [`Branched`](Self::Branched) on an `OSNet`, with any attention after its stages.
    OsNetBranched(
        "osnet-branched",
        OsNetBranchedConfig<AttentionConfig>,
        OsNetBranched<Attention>
    ),
    /// The branches of [`Fnc`](Self::Fnc) on an `OSNet`, with any attention after its stages.
    OsNetFnc("osnet-fnc", OsNetFncConfig<AttentionConfig>, OsNetFnc<Attention>),
    /// A `MobileNetV2` with a pooled head, with any attention after its stages.
    MobileNetV2("mobilenet-v2", MobileNetReidConfig<AttentionConfig>, MobileNetReid<Attention>),
    /// A `ResNet` with a pooled head, for classification, with any attention after its stages.
    ResNet(
        "resnet",
        NetworkConfig<ResNetConfig<Inside, AttentionConfig>, PooledHeadConfig>,
        ReidModel<ResNet<Option<SqueezeExcitation>, Attention>, PooledHead>
    ),
    /// A `DenseNet` with a pooled head, for classification, with any attention after its stages.
    DenseNet(
        "densenet",
        NetworkConfig<DenseNetConfig<AttentionConfig>, PooledHeadConfig>,
        ReidModel<DenseNet<Attention>, PooledHead>
    ),
}

const EXPECTED: &str = "expected an object with one field, named after the architecture; a network of a \
    custom type `N` is opened by `Embedder::open_as::<N>`";

impl Architecture {
    /// The strong baseline with a ResNet-50 (Luo et al., CVPRW 2019).
    #[must_use]
    pub fn strong_baseline() -> Self {
        Self::baseline_with(ResNetConfig::resnet50())
    }

    /// Loads published weights into the backbone of a model of this architecture, as
    /// [`weights::load_backbone`](crate::weights::load_backbone) does. The head keeps its values.
    ///
    /// Where branches have their own late stages, as in MGN, FNC and `LightMBN`, the file is loaded into a whole
    /// backbone, and each branch gets a copy of its late stages.
    ///
    /// `input` is the size with which the model was built. `init` has the model's device, and draws the blocks in the
    /// late stages that the file does not have, such as attention.
    ///
    /// ```
    /// use burn::tensor::Device;
    /// use reid_core::{InputSize, Seed};
    /// use reid_nn::{Init, Network};
    /// use reid_zoo::{Architecture, weights};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("osnet_x0_25_imagenet.safetensors");
    /// let network: Architecture = "osnet-x0.25".parse()?;
    /// let (size, device) = (InputSize::new(64, 32), Device::default());
    /// let init = Init::new(Seed::new(1), &device);
    /// let mut model = network.init(size, 751, &init);
    /// # let reid_zoo::ArchitectureModel::OsNet(pretrained) = &model else { unreachable!() };
    /// # weights::save(&pretrained.backbone, &path)?;
    /// network.load_backbone(&mut model, path, size, &init)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`weights::load_backbone`](crate::weights::load_backbone).
    ///
    /// # Panics
    /// If the model is of another architecture.
    pub fn load_backbone(
        &self,
        model: &mut ArchitectureModel,
        path: impl AsRef<Path>,
        input: InputSize,
        init: &Init<'_>,
    ) -> Result<(), crate::Error> {
        use ArchitectureModel as Built;

        let (path, image, init) = (path.as_ref(), input.rgb(), init.named("whole"));
        macro_rules! load_whole {
            ($config:ident, $model:ident) => {{
                let mut whole = $config.network.init(image, &init);
                load_backbone(&mut whole, path)?;
                $config.start_from($model, whole);
                Ok(())
            }};
        }
        match (self, model) {
            (Self::Baseline(_), Built::Baseline(model)) => load_backbone(&mut model.backbone, path),
            (Self::Rga(_), Built::Rga(model)) => load_backbone(&mut model.backbone, path),
            (Self::Branched(_), Built::Branched(model)) => load_backbone(&mut model.backbone, path),
            (Self::OsNet(_), Built::OsNet(model)) => load_backbone(&mut model.backbone, path),
            (Self::OsNetBranched(_), Built::OsNetBranched(model)) => {
                load_backbone(&mut model.backbone, path)
            }
            (Self::MobileNetV2(_), Built::MobileNetV2(model)) => {
                load_backbone(&mut model.backbone, path)
            }
            (Self::ResNet(_), Built::ResNet(model)) => load_backbone(&mut model.backbone, path),
            (Self::DenseNet(_), Built::DenseNet(model)) => load_backbone(&mut model.backbone, path),
            (Self::Mgn(config), Built::Mgn(model)) => load_whole!(config, model),
            (Self::Fnc(config), Built::Fnc(model)) => load_whole!(config, model),
            (Self::LightMbn(config), Built::LightMbn(model)) => load_whole!(config, model),
            (Self::OsNetFnc(config), Built::OsNetFnc(model)) => load_whole!(config, model),
            _ => panic!(
                "expected a model of the architecture {}, found another",
                self.key()
            ),
        }
    }

    /// The configuration as JSON, as in recipes.
    pub(crate) fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("configurations are plain data")
    }

    /// The field of the configuration in JSON, such as `baseline`.
    pub(crate) fn key(&self) -> String {
        let json = self.to_json();
        let field = json.as_object().and_then(|fields| fields.keys().next());
        field.cloned().unwrap_or_default()
    }

    /// The strong baseline with this backbone and a last stride of 1.
    pub(crate) fn baseline_with(backbone: ResNetConfig) -> Self {
        let backbone = backbone
            .inside(None)
            .after(&[], AttentionConfig::Chain(Vec::new()));
        Self::Baseline(NetworkConfig {
            backbone: backbone.with_last_stride(1),
            head: BnNeckConfig::new(),
        })
    }
}

/// The field of an object that has exactly one; `None` for other objects.
fn only(object: &serde_json::Map<String, Value>) -> Option<(&str, &Value)> {
    let mut fields = object.iter();
    match (fields.next(), fields.next()) {
        (Some((name, value)), None) => Some((name, value)),
        _ => None,
    }
}

/// Parses a configuration. An error message starts with the path of the field.
fn parse<C: for<'de> Deserialize<'de>>(config: &Value) -> Result<C, String> {
    let config: Result<Strict<C>, _> = serde_path_to_error::deserialize(config);
    config.map(|config| config.0).map_err(|error| {
        let path = error.path().to_string();
        match path.as_str() {
            "." => error.inner().to_string(),
            path => format!("{path}: {}", error.inner()),
        }
    })
}

/// A configuration in which unknown fields are errors.
#[derive(Deserialize)]
#[serde(bound(deserialize = "C: Deserialize<'de>"))]
struct Strict<C>(#[serde(deserialize_with = "strict")] C);

#[cfg(test)]
mod tests {
    use reid_core::Seed;
    use reid_nn::parameters;
    use serde_json::json;

    use super::*;
    use crate::{BagOfTricksConfig, BranchedConfig};

    const SIZE: InputSize = InputSize::new(64, 32);

    fn small() -> Vec<Architecture> {
        let mut rga = RgaConfig::rga_resnet50();
        rga.backbone = rga.backbone.with_width(16);
        let mut branched = BranchedConfig::progressive_cut_mix(1);
        branched.backbone = branched.backbone.with_width(16);
        let branched = NetworkConfig {
            backbone: branched.backbone.inside(None),
            head: branched.head,
        };
        let mut baseline = Architecture::strong_baseline();
        if let Architecture::Baseline(config) = &mut baseline {
            config.backbone = config.backbone.clone().with_width(16);
        }
        let network = ResNetConfig::resnet50().with_width(16).inside(None);
        vec![
            baseline,
            rga.into(),
            branched.into(),
            MgnConfig::from_network(network.clone()).into(),
            FncConfig::from_network(network).into(),
        ]
    }

    #[test]
    fn json_is_read_back_with_and_without_the_name() {
        for network in small() {
            let json = serde_json::to_value(&network).expect("plain data");
            let again: Architecture = serde_json::from_value(json.clone()).expect("read");
            assert_eq!(serde_json::to_value(&again).expect("plain data"), json);
            let (_, unnamed) = only(json.as_object().expect("an object")).expect("a name");
            let again: Architecture = serde_json::from_value(unnamed.clone()).expect("read");
            assert_eq!(serde_json::to_value(&again).expect("plain data"), json);
        }
    }

    #[test]
    fn errors_name_the_path_of_the_field() {
        let error = |json: Value| {
            let read: Result<Architecture, _> = serde_json::from_value(json);
            read.expect_err("no architecture").to_string()
        };
        let expected = "unknown architecture `vgg`, expected one of `baseline`, `rga`, ";
        assert!(error(json!({ "vgg": {} })).starts_with(expected));
        assert_eq!(error(json!(3)), EXPECTED);
        let mut baseline = serde_json::to_value(Architecture::strong_baseline()).expect("data");
        baseline["baseline"]["backbone"]["width"] = json!("wide");
        let message = error(baseline);
        assert!(
            message.starts_with("backbone.width: invalid type"),
            "{message}"
        );
    }

    /// The keys of the parameters are the same in both types.
    #[test]
    fn weights_of_one_network_load_into_the_enum() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.safetensors");
        let device = Device::default();
        let mut own = BagOfTricksConfig::resnet50();
        own.backbone = own.backbone.with_width(16);
        let one = own.init(SIZE, 3, &Init::new(Seed::new(1), &device));
        crate::weights::save(&one, &path).expect("saved");
        let mut any = small()[0].init(SIZE, 3, &Init::new(Seed::new(2), &device));
        assert_eq!(parameters::count(&any), parameters::count(&one));
        crate::weights::load(&mut any, &path).expect("the same network");
        let images = Tensor::ones([1, 3, 64, 32], &device);
        let expected = one.embed(images.clone()).to_data();
        assert_eq!(any.evaluation().embed(images.clone()).dims(), [1, 512]);
        assert_eq!(Embed::embed(&any, images).to_data(), expected);
    }
}
