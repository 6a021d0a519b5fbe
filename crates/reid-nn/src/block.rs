//! Block: feature map → feature map.

use crate::init::Init;
use burn::{
    module::{Module, ModuleDisplay},
    tensor::Tensor,
};
use reid_core::{FeatureShape, Problems};

/// A part that takes a feature map and gives a feature map: a backbone (whose input is an image), a
/// stage, an attention module.
///
/// Tuples chain, `Vec` chains parts of one kind, `Option` may be absent:
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
pub trait Block: Module + ModuleDisplay + 'static {
    /// Maps features.
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`, as the place said when the block was built
    /// - result: `[batch, channels', height', width']`, as [`BlockConfig::output`] says
    fn forward(&self, features: Tensor<4>) -> Tensor<4>;

    /// Whether the block always gives what it gets, as [`Identity`] does; then what is behind it can be
    /// computed in one pass with what is before it.
    fn is_identity(&self) -> bool {
        false
    }

    /// The same map with every evaluation-time [`BatchNorm`](crate::norm::BatchNorm) that follows a
    /// convolution folded into it: equal to rounding, faster, and no longer trainable as before.
    /// A block without such pairs returns itself.
    #[must_use]
    fn fold_batch_norm(self) -> Self {
        self
    }
}

/// The settings of a [`Block`]; the input shape gives the dimensions.
pub trait BlockConfig {
    /// The block that is built.
    type Block: Block;

    /// Builds the block for feature maps of shape `input`.
    ///
    /// # Panics
    /// If the numbers do not fit `input`.
    fn init(&self, input: FeatureShape, init: &Init<'_>) -> Self::Block;

    /// The shape of the block's result; `input` unless the block changes it.
    fn output(&self, input: FeatureShape) -> FeatureShape {
        input
    }

    /// Adds what is wrong with the numbers on feature maps of shape `input`, each with its path from
    /// here: all that [`init`](Self::init) would refuse. Nothing, unless a part says so.
    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        let _ = (input, problems);
    }
}

/// The block that changes nothing; its configuration is `()`.
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
}

impl<B: Block> Block for Vec<B> {
    fn forward(&self, features: Tensor<4>) -> Tensor<4> {
        self.iter()
            .fold(features, |features, block| block.forward(features))
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
                break; // what follows has no shape to stand on
            }
            input = config.output(input);
        }
    }
}

/// Maps that a part is tried on where the one that it would stand on cannot be; see
/// [`Problems::nested_for_any`].
pub const TRIAL_SHAPES: [FeatureShape; 2] =
    [FeatureShape::new(64, 12, 12), FeatureShape::new(96, 10, 8)];

macro_rules! tuple_of_blocks {
    ($($name:ident $index:tt),+) => {
        impl<$($name: Block),+> Block for ($($name,)+) {
            fn forward(&self, features: Tensor<4>) -> Tensor<4> {
                $(let features = self.$index.forward(features);)+
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
                let mut place = input;
                let blocks = ($({
                    let here = place;
                    place = self.$index.output(here);
                    self.$index.init(here, &init.at($index))
                },)+);
                debug_assert_eq!(place, self.output(input));
                blocks
            }

            fn output(&self, input: FeatureShape) -> FeatureShape {
                $(let input = self.$index.output(input);)+
                input
            }

            fn validate(&self, input: FeatureShape, problems: &mut Problems) {
                let mut place = Some(input);
                $(if let Some(here) = place {
                    let field = concat!("[", stringify!($index), "]");
                    let fits = problems.at(field, |problems| self.$index.validate(here, problems));
                    place = fits.then(|| self.$index.output(here));
                } else {
                    problems.at(concat!("[", stringify!($index), "]"), |problems| {
                        problems.nested_for_any(TRIAL_SHAPES, |map, problems| self.$index.validate(map, problems));
                    });
                })+
                let _ = place;
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
    fn chains_are_identities_if_all_their_blocks_are() {
        let device = Device::default();
        let place = FeatureShape::new(16, 4, 2);
        let gate = SqueezeExcitationConfig::new();
        assert!(
            ((), Some(()), vec![(), ()])
                .init(place, &crate::fixtures::init(&device))
                .is_identity()
        );
        assert!(
            None::<SqueezeExcitationConfig>
                .init(place, &crate::fixtures::init(&device))
                .is_identity()
        );
        assert!(
            !((), gate.clone())
                .init(place, &crate::fixtures::init(&device))
                .is_identity()
        );
        assert!(
            !((), vec![Some(gate)])
                .init(place, &crate::fixtures::init(&device))
                .is_identity()
        );
    }
}
