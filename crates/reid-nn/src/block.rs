//! Blocks: parts that map a feature map to a feature map.

use crate::{init::Init, stage_paths::StagePaths};
use burn::{
    module::{Module, ModuleDisplay},
    tensor::Tensor,
};
use reid_core::{FeatureShape, Problems, Seed};

/// A part that maps a feature map to a feature map: a backbone (whose input is an image), a stage, an
/// attention module.
///
/// A tuple chains blocks, a `Vec` chains blocks of one type, and an `Option` is a block that may be absent:
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Block, BlockConfig, attention::SqueezeExcitationConfig, Init};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let gates = (SqueezeExcitationConfig::new().with_reduction(4), ());
/// let block = gates.init(FeatureShape::new(8, 4, 2), &init);
/// assert_eq!(block.forward(Tensor::ones([2, 8, 4, 2], &device)).dims(), [2, 8, 4, 2]);
/// ```
pub trait Block: Module + ModuleDisplay + Sync + 'static {
    /// Computes the output feature map.
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`, the input shape that the block was built for
    /// - result: `[batch, channels', height', width']`, as returned by [`BlockConfig::output`]
    fn forward(&self, features: Tensor<4>) -> Tensor<4>;

    /// Computes the same in a training step, for blocks that draw random numbers, such as dropout. The
    /// default is [`forward`](Self::forward).
    ///
    /// The backbone of a [`ReidModel`](crate::ReidModel) gets this call, and so does each
    /// [`DecodeHead`](crate::segmentation::DecodeHead), which passes it on to its blocks, as tuples, lists and
    /// options do. The sockets of backbones and embedding heads call [`forward`](Self::forward).
    ///
    /// # Shapes
    /// As in [`forward`](Self::forward).
    fn forward_train(&self, features: Tensor<4>, seed: Seed) -> Tensor<4> {
        let _ = seed;
        self.forward(features)
    }

    /// Whether the block always returns its input unchanged, as [`Identity`] does. The operations before and
    /// after it can then be computed in one pass.
    fn is_identity(&self) -> bool {
        false
    }

    /// Folds every evaluation-time [`BatchNorm`](crate::norm::BatchNorm) that follows a convolution into the
    /// convolution. The block becomes faster, and its results are equal up to rounding. It should not be
    /// trained afterwards, since it no longer has batch normalisation. A block without such pairs returns
    /// itself.
    #[must_use]
    fn fold_batch_norm(self) -> Self {
        self
    }
}

/// The configuration of a [`Block`]. Dimensions are not part of it; they come from the input shape.
///
/// ```
/// use burn::{module::Module, nn::conv::{Conv2d, Conv2dConfig}, tensor::{Device, Tensor}};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Block, BlockConfig, Init, convolution};
///
/// /// A 1 x 1 convolution to half of the channels.
/// #[derive(Module, Debug)]
/// struct Halve {
///     conv: Conv2d,
/// }
///
/// impl Block for Halve {
///     fn forward(&self, features: Tensor<4>) -> Tensor<4> {
///         convolution::apply(&self.conv, features)
///     }
/// }
///
/// struct HalveConfig;
///
/// impl BlockConfig for HalveConfig {
///     type Block = Halve;
///
///     fn init(&self, input: FeatureShape, init: &Init<'_>) -> Halve {
///         let channels = [input.channels, input.channels / 2];
///         Halve { conv: init.conv2d(&Conv2dConfig::new(channels, [1, 1])) }
///     }
///
///     fn output(&self, input: FeatureShape) -> FeatureShape {
///         input.with_channels(input.channels / 2)
///     }
/// }
///
/// let (device, input) = (Device::default(), FeatureShape::new(16, 4, 2));
/// let block = HalveConfig.init(input, &Init::new(Seed::new(1), &device));
/// assert_eq!(block.forward(Tensor::ones([1, 16, 4, 2], &device)).dims(), [1, 8, 4, 2]);
/// assert_eq!(HalveConfig.output(input), FeatureShape::new(8, 4, 2));
/// ```
pub trait BlockConfig {
    /// The block that is built.
    type Block: Block;

    /// Builds the block for feature maps of shape `input`.
    ///
    /// # Panics
    /// If the configuration is invalid for `input`; see [`validate`](Self::validate).
    fn init(&self, input: FeatureShape, init: &Init<'_>) -> Self::Block;

    /// The shape of the output feature map; `input` by default.
    fn output(&self, input: FeatureShape) -> FeatureShape {
        input
    }

    /// Adds the problems of the configuration for feature maps of shape `input`, each with its path from
    /// here: everything that [`init`](Self::init) rejects. The default adds nothing.
    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        let _ = (input, problems);
    }

    /// Whether the block fits only the size of feature maps that it was built for, because of the shapes of its
    /// weights; false by default.
    fn fits_one_size(&self) -> bool {
        false
    }

    /// The stage of each parameter, by its path in the block. A backbone names its stem and its stages; by default
    /// there are none.
    fn stage_paths(&self) -> StagePaths {
        StagePaths::default()
    }
}

/// The block that returns its input unchanged; its configuration is `()`.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Block, BlockConfig, Init};
///
/// let device = Device::default();
/// let block = ().init(FeatureShape::new(8, 4, 2), &Init::new(Seed::new(1), &device));
/// assert!(block.is_identity());
/// assert_eq!(block.forward(Tensor::ones([1, 8, 4, 2], &device)).dims(), [1, 8, 4, 2]);
/// ```
#[derive(Module, Debug)]
pub struct Identity {}

impl Block for Identity {
    fn forward(&self, features: Tensor<4>) -> Tensor<4> {
        features
    }

    fn is_identity(&self) -> bool {
        true
    }
}

impl BlockConfig for () {
    type Block = Identity;

    fn init(&self, _input: FeatureShape, _init: &Init<'_>) -> Identity {
        Identity {}
    }
}

impl<B: Block> Block for Option<B> {
    fn forward(&self, features: Tensor<4>) -> Tensor<4> {
        match self {
            Some(block) => block.forward(features),
            None => features,
        }
    }

    fn forward_train(&self, features: Tensor<4>, seed: Seed) -> Tensor<4> {
        match self {
            Some(block) => block.forward_train(features, seed),
            None => features,
        }
    }

    fn is_identity(&self) -> bool {
        self.as_ref().is_none_or(Block::is_identity)
    }

    fn fold_batch_norm(self) -> Self {
        self.map(Block::fold_batch_norm)
    }
}

impl<C: BlockConfig> BlockConfig for Option<C> {
    type Block = Option<C::Block>;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> Self::Block {
        self.as_ref().map(|config| config.init(input, init))
    }

    fn output(&self, input: FeatureShape) -> FeatureShape {
        self.as_ref().map_or(input, |config| config.output(input))
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        if let Some(config) = self {
            config.validate(input, problems);
        }
    }

    fn fits_one_size(&self) -> bool {
        self.as_ref().is_some_and(BlockConfig::fits_one_size)
    }

    fn stage_paths(&self) -> StagePaths {
        let part = self.as_ref();
        part.map(BlockConfig::stage_paths).unwrap_or_default()
    }
}

impl<B: Block> Block for Vec<B> {
    fn forward(&self, features: Tensor<4>) -> Tensor<4> {
        self.iter()
            .fold(features, |features, block| block.forward(features))
    }

    fn forward_train(&self, features: Tensor<4>, seed: Seed) -> Tensor<4> {
        let blocks = self.iter().zip(0..);
        blocks.fold(features, |features, (block, index)| {
            block.forward_train(features, seed.at(index))
        })
    }

    fn is_identity(&self) -> bool {
        self.iter().all(Block::is_identity)
    }

    fn fold_batch_norm(self) -> Self {
        self.into_iter().map(Block::fold_batch_norm).collect()
    }
}

impl<C: BlockConfig> BlockConfig for Vec<C> {
    type Block = Vec<C::Block>;

    fn init(&self, mut input: FeatureShape, init: &Init<'_>) -> Self::Block {
        let mut blocks = Vec::with_capacity(self.len());
        for (index, config) in self.iter().enumerate() {
            blocks.push(config.init(input, &init.at(index)));
            input = config.output(input);
        }
        blocks
    }

    fn output(&self, input: FeatureShape) -> FeatureShape {
        self.iter()
            .fold(input, |input, config| config.output(input))
    }

    fn validate(&self, mut input: FeatureShape, problems: &mut Problems) {
        for (index, config) in self.iter().enumerate() {
            if !problems.at(&format!("[{index}]"), |problems| {
                config.validate(input, problems);
            }) {
                break; // the input shape of the next block is unknown
            }
            input = config.output(input);
        }
    }

    fn fits_one_size(&self) -> bool {
        self.iter().any(BlockConfig::fits_one_size)
    }

    fn stage_paths(&self) -> StagePaths {
        StagePaths::of_list(self.iter().map(BlockConfig::stage_paths))
    }
}

/// The shapes of two trial feature maps. A part whose input shape is unknown, because the part before it is
/// invalid, is validated on both; see [`Problems::nested_for_any`].
pub const TRIAL_SHAPES: [FeatureShape; 2] =
    [FeatureShape::new(64, 12, 12), FeatureShape::new(96, 10, 8)];

macro_rules! tuple_of_blocks {
    ($($name:ident $index:tt),+) => {
        impl<$($name: Block),+> Block for ($($name,)+) {
            fn forward(&self, features: Tensor<4>) -> Tensor<4> {
                $(let features = self.$index.forward(features);)+
                features
            }

            fn forward_train(&self, features: Tensor<4>, seed: Seed) -> Tensor<4> {
                $(let features = self.$index.forward_train(features, seed.at($index));)+
                features
            }

            fn is_identity(&self) -> bool {
                $(self.$index.is_identity())&&+
            }

            fn fold_batch_norm(self) -> Self {
                ($(self.$index.fold_batch_norm(),)+)
            }
        }

        impl<$($name: BlockConfig),+> BlockConfig for ($($name,)+) {
            type Block = ($($name::Block,)+);

            fn init(&self, input: FeatureShape, init: &Init<'_>) -> Self::Block {
                let mut shape = input;
                let blocks = ($({
                    let before = shape;
                    shape = self.$index.output(before);
                    self.$index.init(before, &init.at($index))
                },)+);
                debug_assert_eq!(shape, self.output(input));
                blocks
            }

            fn output(&self, input: FeatureShape) -> FeatureShape {
                $(let input = self.$index.output(input);)+
                input
            }

            fn fits_one_size(&self) -> bool {
                $(self.$index.fits_one_size())||+
            }

            fn stage_paths(&self) -> StagePaths {
                StagePaths::of_list([$(self.$index.stage_paths()),+])
            }

            fn validate(&self, input: FeatureShape, problems: &mut Problems) {
                let mut shape = Some(input);
                $(if let Some(before) = shape {
                    let field = concat!("[", stringify!($index), "]");
                    let fits = problems.at(field, |problems| self.$index.validate(before, problems));
                    shape = fits.then(|| self.$index.output(before));
                } else {
                    problems.at(concat!("[", stringify!($index), "]"), |problems| {
                        problems.nested_for_any(TRIAL_SHAPES, |map, problems| {
                            self.$index.validate(map, problems);
                        });
                    });
                })+
                let _ = shape;
            }
        }
    };
}

tuple_of_blocks!(A 0, B 1);
tuple_of_blocks!(A 0, B 1, C 2);
tuple_of_blocks!(A 0, B 1, C 2, D 3);

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::attention::SqueezeExcitationConfig;

    #[test]
    fn a_chain_is_an_identity_if_all_its_blocks_are() {
        let device = Device::default();
        let shape = FeatureShape::new(16, 4, 2);
        let gate = SqueezeExcitationConfig::new();
        assert!(
            ((), Some(()), vec![(), ()])
                .init(shape, &crate::fixtures::init(&device))
                .is_identity()
        );
        assert!(
            None::<SqueezeExcitationConfig>
                .init(shape, &crate::fixtures::init(&device))
                .is_identity()
        );
        assert!(
            !((), gate.clone())
                .init(shape, &crate::fixtures::init(&device))
                .is_identity()
        );
        assert!(
            !((), vec![Some(gate)])
                .init(shape, &crate::fixtures::init(&device))
                .is_identity()
        );
    }
}
