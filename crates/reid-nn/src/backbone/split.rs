//! Split: a ResNet in two, for branches with late stages of their own (Wang et al., ACM MM 2018,
//! arXiv:1804.01438; Liu et al., AI City 2020).

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use reid_core::{FeatureShape, Problems};
use serde::{Deserialize, Serialize};

use super::{ResNet, ResNetConfig, ResidualBlock};
use crate::block::{Block, BlockConfig, Nothing};

/// Where a ResNet is cut: before a block of a stage.
///
/// ```
/// use reid_nn::backbone::Cut;
///
/// // Stages 1 and 2 and the first block of stage 3 are shared, as in MGN.
/// let cut = Cut { stage: 3, block: 1 };
/// assert_eq!(cut.to_string(), "before block 1 of stage 3");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// The stage, counted from 1.
    pub stage: usize,
    /// The block in it, counted from 0.
    pub block: usize,
}

impl Cut {
    /// Refuses a cut that a ResNet with so many blocks in each stage does not have.
    pub fn validate(self, blocks: [usize; 4], problems: &mut Problems) {
        problems.count("stage", self.stage, 1..=4);
        if let Some(most) = self
            .stage
            .checked_sub(1)
            .and_then(|stage| blocks.get(stage))
        {
            let expected = format_args!("below {most}, the blocks of stage {}", self.stage);
            problems.require("block", self.block < *most, expected, self.block);
        }
    }
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "before block {} of stage {}", self.block, self.stage)
    }
}

/// Configuration of the part of a [`ResNet`] before a cut: a [`ResNet`] with fewer blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrunkConfig<I = (), A = ()> {
    /// The whole network.
    pub network: ResNetConfig<I, A>,
    /// Where it is cut; nowhere if `None`.
    #[serde(deserialize_with = "Option::deserialize")]
    pub cut: Option<Cut>,
}

/// Configuration of the part of a [`ResNet`] behind a cut: a [`Tail`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TailConfig<I = (), A = ()> {
    /// The whole network.
    pub network: ResNetConfig<I, A>,
    /// Where it is cut.
    pub cut: Cut,
}

/// The part of a [`ResNet`] behind a cut.
///
/// ```text
/// x_s = after_s(layer_s(x_{s-1}))        s = the stage of the cut, of which the first blocks are missing, … 4
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::InputSize;
/// use reid_nn::{Block, BlockConfig, backbone::{Cut, ResNetConfig}};
///
/// let (device, image) = (Device::default(), InputSize::new(32, 16).rgb());
/// let network = ResNetConfig::resnet18().with_width(8).init(image, &device);
/// let images = Tensor::ones([1, 3, 32, 16], &device);
/// let whole = network.forward(images.clone());
///
/// let (trunk, tail) = network.split(Cut { stage: 3, block: 1 });
/// assert_eq!(tail.forward(trunk.forward(images)).to_data(), whole.to_data());
/// ```
#[derive(Module, Debug)]
pub struct Tail<I = Nothing, A = Nothing> {
    /// The blocks of the stages from the cut's on.
    pub stages: Vec<Vec<ResidualBlock<I>>>,
    /// The sockets after these stages.
    pub after: Vec<Option<A>>,
}

impl<I: Block, A: Block> Block for Tail<I, A> {
    fn forward(&self, features: Tensor<4>) -> Tensor<4> {
        let stages = self.stages.iter().zip(&self.after);
        stages.fold(features, |features, (stage, after)| {
            after.forward(stage.forward(features))
        })
    }

    fn fused(self) -> Self {
        Self {
            stages: self.stages.fused(),
            after: self.after.into_iter().map(Block::fused).collect(),
        }
    }
}

impl<I: Block, A: Block> ResNet<I, A> {
    /// The part before a cut, and the one behind it.
    ///
    /// # Panics
    /// If the network has no such block.
    #[must_use]
    pub fn split(mut self, cut: Cut) -> (Self, Tail<I, A>) {
        let layers = [
            &mut self.layer1,
            &mut self.layer2,
            &mut self.layer3,
            &mut self.layer4,
        ];
        let blocks = layers.each_ref().map(|layer| layer.len());
        check(cut, blocks);
        let late = layers.into_iter().enumerate().skip(cut.stage - 1);
        let stages = late.map(|(stage, layer)| {
            let kept = if stage == cut.stage - 1 { cut.block } else { 0 };
            layer.split_off(kept)
        });
        let tail = Tail {
            stages: stages.collect(),
            after: self.after.split_off(cut.stage - 1),
        };
        self.after.resize_with(4, || None);
        (self, tail)
    }
}

fn check(cut: Cut, blocks: [usize; 4]) {
    let there = (1..=4).contains(&cut.stage) && cut.block < blocks[cut.stage - 1];
    assert!(
        there,
        "a ResNet with {blocks:?} blocks cannot be cut {cut}: stages count from 1, blocks from 0"
    );
}

impl<I: BlockConfig + Clone, A: BlockConfig> BlockConfig for TrunkConfig<I, A> {
    type Block = ResNet<I::Block, A::Block>;

    fn init(&self, input: FeatureShape, device: &Device) -> Self::Block {
        let network = self.network.init(input, device);
        match self.cut {
            Some(cut) => network.split(cut).0,
            None => network,
        }
    }

    fn output(&self, input: FeatureShape) -> FeatureShape {
        let Some(cut) = self.cut else {
            return self.network.output(input);
        };
        check(cut, self.network.blocks);
        let stage = cut.stage - 1;
        let mut blocks = self.network.stage(stage);
        blocks.truncate(cut.block);
        blocks.output(self.network.shapes(input)[stage])
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        problems.at("network", |problems| self.network.validate(input, problems));
        if let Some(cut) = self.cut {
            problems.at("cut", |problems| {
                cut.validate(self.network.blocks, problems);
            });
        }
    }
}

impl<I: BlockConfig + Clone, A: BlockConfig> TailConfig<I, A> {
    /// The blocks of each stage behind the cut, and what stands after it.
    fn stages(&self) -> impl Iterator<Item = (Vec<super::ResidualBlockConfig<I>>, Option<&A>)> {
        check(self.cut, self.network.blocks);
        let first = self.cut.stage - 1;
        (first..4).map(move |stage| {
            let mut blocks = self.network.stage(stage);
            if stage == first {
                blocks.drain(..self.cut.block);
            }
            (blocks, self.network.after_stage(stage))
        })
    }
}

impl<I: BlockConfig + Clone, A: BlockConfig> BlockConfig for TailConfig<I, A> {
    type Block = Tail<I::Block, A::Block>;

    fn init(&self, mut input: FeatureShape, device: &Device) -> Self::Block {
        let (mut stages, mut sockets) = (Vec::new(), Vec::new());
        for (blocks, after) in self.stages() {
            stages.push(blocks.init(input, device));
            input = blocks.output(input);
            sockets.push(after.map(|after| after.init(input, device)));
            input = after.map_or(input, |after| after.output(input));
        }
        Tail {
            stages,
            after: sockets,
        }
    }

    fn output(&self, input: FeatureShape) -> FeatureShape {
        self.stages().fold(input, |input, (blocks, after)| {
            let input = blocks.output(input);
            after.map_or(input, |after| after.output(input))
        })
    }

    fn validate(&self, _input: FeatureShape, problems: &mut Problems) {
        problems.at("network", |problems| {
            self.network.validate_numbers(problems);
        });
        problems.at("cut", |problems| {
            self.cut.validate(self.network.blocks, problems);
        });
    }
}

#[cfg(test)]
mod tests {
    use reid_core::InputSize;

    use super::*;
    use crate::{attention::SqueezeExcitationConfig, parameters};

    /// Every cut gives the shapes and the parameters that building the two parts gives.
    #[test]
    fn parts_are_as_large_as_they_are_announced() {
        let device = Device::default();
        let image = InputSize::new(64, 32).rgb();
        let network = ResNetConfig::resnet50()
            .with_width(4)
            .after(&[2, 4], SqueezeExcitationConfig::new());
        let whole = parameters::count(&network.init(image, &device));
        for (stage, block) in [(1, 0), (2, 3), (3, 0), (3, 1), (4, 0), (4, 1)] {
            let cut = Cut { stage, block };
            let trunk = TrunkConfig {
                network: network.clone(),
                cut: Some(cut),
            };
            let tail = TailConfig {
                network: network.clone(),
                cut,
            };
            let between = trunk.output(image);
            assert_eq!(tail.output(between), network.output(image), "{cut}");
            let (trunk, tail) = (trunk.init(image, &device), tail.init(between, &device));
            let together = parameters::count(&trunk) + parameters::count(&tail);
            assert_eq!(together, whole, "{cut}");
            let features = trunk.forward(Tensor::ones([1, 3, 64, 32], &device));
            let [_, channels, height, width] = features.dims();
            assert_eq!(FeatureShape::new(channels, height, width), between, "{cut}");
            let [_, channels, height, width] = tail.forward(features).dims();
            let found = FeatureShape::new(channels, height, width);
            assert_eq!(found, network.output(image), "{cut}");
        }
    }

    #[test]
    #[should_panic(expected = "[2, 2, 2, 2] blocks cannot be cut before block 2 of stage 3")]
    fn a_block_that_is_not_there_is_refused() {
        let config = ResNetConfig::resnet18().with_width(4);
        let network = config.init(InputSize::new(32, 16).rgb(), &Device::default());
        let _ = network.split(Cut { stage: 3, block: 2 });
    }
}
