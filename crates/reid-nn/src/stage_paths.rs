//! `StagePaths`: the stage of a network that each parameter belongs to.

/// The stage of each parameter of a network, by the paths of its modules. Learning rates can decay from stage to
/// stage with it.
///
/// | stage | parameters |
/// |---|---|
/// | 0 | the stem |
/// | 1 to 4 | the stages of the backbone, each with the block after it |
/// | 5 ([`HEAD`](Self::HEAD)) | all others, such as the head |
///
/// Where branches have their own late stages, as in MGN, these belong to the stages of the backbone too.
///
/// ```
/// use reid_nn::{Network, backbone::ResNetConfig, head::BnNeckConfig};
///
/// let stages = (ResNetConfig::resnet50(), BnNeckConfig::new()).stage_paths();
/// assert_eq!(stages.stage_of("backbone.bn1.weight"), 0);
/// assert_eq!(stages.stage_of("backbone.layer3.0.conv2.weight"), 3);
/// assert_eq!(stages.stage_of("head.classifier.weight"), 5);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StagePaths(Vec<(String, usize)>);

impl StagePaths {
    /// The stage of the parameters that no path names.
    pub const HEAD: usize = 5;

    /// Lists paths of parameters or of modules, each with its stage.
    pub fn new<P: Into<String>>(paths: impl IntoIterator<Item = (P, usize)>) -> Self {
        let paths = paths.into_iter();
        Self(paths.map(|(path, stage)| (path.into(), stage)).collect())
    }

    /// The stages of a model with the modules `backbone` and `head`. What the backbone does not name is in its last
    /// stage.
    #[must_use]
    pub fn of_model(backbone: Self, head: Self) -> Self {
        Self::new([("backbone", Self::HEAD - 1)])
            .and(backbone.inside("backbone"))
            .and(head.inside("head"))
    }

    /// The stages of a tuple or a list of parts.
    pub(crate) fn of_list(parts: impl IntoIterator<Item = Self>) -> Self {
        let parts = parts.into_iter().enumerate();
        let parts = parts.map(|(index, part)| part.inside(&index.to_string()));
        parts.fold(Self::default(), Self::and)
    }

    /// The same paths inside a module with this path.
    #[must_use]
    pub fn inside(self, module: &str) -> Self {
        let paths = self.0.into_iter();
        Self::new(paths.map(|(path, stage)| (format!("{module}.{path}"), stage)))
    }

    /// Appends other paths. Where both name a parameter, the appended path counts.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// The stage of the parameter with this path: that of the last path that is equal to it or names a module
    /// around it.
    #[must_use]
    pub fn stage_of(&self, parameter: &str) -> usize {
        let is_inside = |module: &str| {
            let rest = parameter.strip_prefix(module);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let found = self.0.iter().rfind(|(path, _)| is_inside(path));
        found.map_or(Self::HEAD, |(_, stage)| *stage)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use burn::{
        module::{Module, ModuleVisitor, Param},
        tensor::{Device, Tensor},
    };
    use reid_core::{FeatureShape, InputSize};

    use super::*;
    use crate::{
        BlockConfig, HeadConfig, Init, Network,
        attention::SqueezeExcitationConfig,
        backbone::{
            DenseNetConfig, LateStagesConfig, MobileNetV2Config, OsNetConfig,
            OsNetLateStagesConfig, ResNetConfig, SplitPoint, Stem,
        },
        head::{
            BnNeckConfig, FncBranches, FncHeadConfig, LightMbnBranches, LightMbnHeadConfig,
            MgnHeadConfig, StripeHeadConfig,
        },
        traversal,
    };

    /// The paths of all parameters of a module.
    #[derive(Default)]
    struct Paths {
        path: Vec<String>,
        found: Vec<String>,
    }

    impl ModuleVisitor for Paths {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, _param: &Param<Tensor<D>>) {
            self.found.push(self.path.join("."));
        }
    }

    /// The modules of a network at some depth, by the stage of their parameters.
    fn stages<M: Module>(
        module: &M,
        stages: &StagePaths,
        depth: usize,
    ) -> BTreeMap<usize, Vec<String>> {
        let mut paths = Paths::default();
        traversal::visit(module, &mut paths);
        let mut found: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for path in paths.found {
            let parts: Vec<&str> = path.split('.').take(depth).collect();
            let modules = found.entry(stages.stage_of(&path)).or_default();
            let name = parts.join(".");
            if !modules.contains(&name) {
                modules.push(name);
            }
        }
        found
    }

    fn of_network<N: Network>(network: &N) -> BTreeMap<usize, Vec<String>> {
        let device = Device::default();
        let model = network.init(InputSize::new(64, 32), 3, &Init::empty(&device));
        stages(&model, &network.stage_paths(), 3)
    }

    fn gate() -> SqueezeExcitationConfig {
        SqueezeExcitationConfig::new().with_reduction(2)
    }

    fn expected(modules: [&[&str]; 6]) -> BTreeMap<usize, Vec<String>> {
        let modules = modules.into_iter().enumerate();
        let modules = modules.filter(|(_, modules)| !modules.is_empty());
        modules
            .map(|(stage, modules)| {
                let modules = modules.iter().map(|module| (*module).to_owned());
                (stage, modules.collect())
            })
            .collect()
    }

    const NECK: &[&str] = &[
        "head.bottleneck.weight",
        "head.bottleneck.bias",
        "head.bottleneck.running_mean",
        "head.bottleneck.running_var",
        "head.classifier.weight",
    ];

    #[test]
    fn stages_of_a_resnet_include_the_blocks_after_them() {
        let backbone = ResNetConfig::resnet18()
            .with_width(4)
            .after(&[2, 4], gate());
        let found = of_network(&(backbone, BnNeckConfig::new()));
        let blocks = |stage: usize| [0, 1].map(|block| format!("backbone.layer{stage}.{block}"));
        let mut stem = found[&0].clone();
        stem.retain(|path| {
            !path.starts_with("backbone.conv1.") && !path.starts_with("backbone.bn1.")
        });
        assert!(stem.is_empty(), "{stem:?}");
        for stage in 1..=4 {
            let mut expected = blocks(stage).to_vec();
            if stage % 2 == 0 {
                expected.push(format!("backbone.after.{}", stage - 1));
            }
            assert_eq!(found[&stage], expected);
        }
        assert_eq!(found[&5], NECK);
    }

    #[test]
    fn stages_of_other_backbones_are_those_of_their_feature_maps() {
        let osnet = OsNetConfig::x0_25().with_channels([4, 8, 12, 16]);
        let found = of_backbone(&osnet.after(&[1], gate()));
        let osnet: [&[&str]; 6] = [
            &["conv1"],
            &["conv2", "after"],
            &["pool2", "conv3"],
            &["pool3", "conv4"],
            &["conv5"],
            &[],
        ];
        assert_eq!(found, expected(osnet));

        let mut mobilenet = MobileNetV2Config::x1_0();
        (mobilenet.stem, mobilenet.channels, mobilenet.last) = (2, [2, 3, 4, 5, 6, 7, 8], 9);
        let paths = mobilenet.stage_paths();
        let layers = (0..7).map(|layer| paths.stage_of(&format!("layers.{layer}.0.x")));
        assert_eq!(layers.collect::<Vec<_>>(), [0, 1, 2, 3, 3, 4, 4]);
        assert_eq!(
            ["stem.x", "last.x"].map(|path| paths.stage_of(path)),
            [0, 4]
        );

        let mut densenet = DenseNetConfig {
            growth: 4,
            stem_channels: 6,
            ..DenseNetConfig::cifar_bc(10)
        };
        let three: [&[&str]; 6] = [
            &["conv0"],
            &["denseblock1", "transition1"],
            &["denseblock2", "transition2"],
            &["denseblock3", "norm5"],
            &[],
            &[],
        ];
        assert_eq!(of_backbone(&densenet), expected(three));
        (densenet.blocks[3], densenet.stem) = (1, DenseNetConfig::densenet121().stem);
        let four: [&[&str]; 6] = [
            &["conv0", "norm0"],
            &["denseblock1", "transition1"],
            &["denseblock2", "transition2"],
            &["denseblock3", "transition3"],
            &["denseblock4", "norm5"],
            &[],
        ];
        assert_eq!(of_backbone(&densenet), expected(four));
        let small = ResNetConfig::resnet18().with_stem(Stem::Small);
        assert_eq!(small.stage_paths().stage_of("layer1.0.conv1.weight"), 1);
    }

    /// The modules of a backbone by their stage.
    fn of_backbone<C: BlockConfig>(config: &C) -> BTreeMap<usize, Vec<String>> {
        let device = Device::default();
        let backbone = config.init(InputSize::new(64, 32).rgb(), &Init::empty(&device));
        stages(&backbone, &config.stage_paths(), 1)
    }

    #[test]
    fn late_stages_of_branches_belong_to_the_stages_of_the_backbone() {
        let network = ResNetConfig::resnet18().with_width(4).with_last_stride(1);
        let split = SplitPoint { stage: 3, block: 1 };
        let late_stages = LateStagesConfig { network, split };
        let stripes = StripeHeadConfig::new().with_dimensions(4);
        let mgn = MgnHeadConfig {
            late_stages: late_stages.clone(),
            branches: vec![stripes; 2],
        };
        let paths = mgn.stage_paths();
        for (path, stage) in [
            ("branches.0.block.stages.0.0.conv1.weight", 3),
            ("branches.1.block.stages.1.0.conv1.weight", 4),
            ("branches.1.head.whole.weight", StagePaths::HEAD),
        ] {
            assert_eq!(paths.stage_of(path), stage, "{path}");
        }
        let fnc = FncHeadConfig {
            late_stages: Some(late_stages),
            branches: FncBranches::new(),
        };
        let paths = fnc.stage_paths();
        for (path, stage) in [
            ("branches.0.block.0.stages.0.0.conv1.weight", 3),
            ("branches.1.block.0.stages.1.0.conv1.weight", 4),
            ("branches.0.block.1.query.weight", StagePaths::HEAD),
            ("branches.1.head.bottleneck.weight", StagePaths::HEAD),
        ] {
            assert_eq!(paths.stage_of(path), stage, "{path}");
        }
    }

    /// The global branch of `LightMBN` has a block of its own after the late stages.
    #[test]
    fn late_stages_of_light_mbn_belong_to_the_stages_of_the_backbone() {
        let network = OsNetConfig::x0_25()
            .with_channels([4, 8, 12, 16])
            .after(&[3], gate());
        let split = SplitPoint { stage: 2, block: 1 };
        let head = LightMbnHeadConfig {
            late_stages: OsNetLateStagesConfig { network, split },
            branches: LightMbnBranches::new().with_dimensions(4),
        };
        let paths = head.stage_paths();
        for (path, stage) in [
            ("branches.0.block.0.stages.0.blocks.0.weight", 2),
            ("branches.1.block.stages.1.transition.weight", 3),
            ("branches.1.block.after.1.weight", 3),
            ("branches.2.block.stages.2.last.weight", 4),
            ("branches.0.block.1.weight", StagePaths::HEAD),
            ("branches.2.head.weight", StagePaths::HEAD),
        ] {
            assert_eq!(paths.stage_of(path), stage, "{path}");
        }
        // These are the paths of its parameters.
        let device = Device::default();
        let built = head.init(FeatureShape::new(12, 8, 4), 3, &Init::empty(&device));
        let found = stages(&built, &paths, 6);
        assert_eq!(found.keys().collect::<Vec<_>>(), [&2, &3, &4, &5]);
        let is_late = |path: &String| path.contains(".stages.") || path.contains(".after.");
        assert!(
            [2, 3, 4]
                .iter()
                .all(|stage| found[stage].iter().all(is_late))
        );
        assert!(!found[&5].iter().any(is_late), "{:?}", found[&5]);
    }

    #[test]
    fn a_backbone_without_stages_is_the_last_stage() {
        let paths = StagePaths::of_model(StagePaths::default(), StagePaths::default());
        let stages = ["backbone.a", "backbones.a", "head.b"].map(|path| paths.stage_of(path));
        assert_eq!(stages, [4, StagePaths::HEAD, StagePaths::HEAD]);
    }
}
