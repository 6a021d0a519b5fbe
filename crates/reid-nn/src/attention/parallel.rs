//! Two gates in parallel (S//C in Zhang et al., Relation-Aware Global Attention, arXiv:1904.02998,
//! §3.4).

use burn::{module::Module, tensor::Tensor};
use reid_core::{FeatureShape, Problems, strict};
use serde::{Deserialize, Serialize};

use super::Gate;
use crate::block::BlockConfig;
use crate::init::Init;

/// How the factors of two gates are combined. The paper does not say which way it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CombineGates {
    /// `a ⊙ b`: a factor of 0 in either gate suppresses the feature.
    Product,
    /// `(a + b) / 2`: the mean of the factors.
    Mean,
}

/// Configuration of [`Parallel`], whose documentation has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    bound(deserialize = "A: Deserialize<'de>, B: Deserialize<'de>")
)]
pub struct ParallelConfig<A, B> {
    /// The two gates.
    #[serde(deserialize_with = "strict")]
    pub gates: (A, B),
    /// How their factors are combined; [`CombineGates::Product`] with [`new`](Self::new).
    pub combine: CombineGates,
}

impl<A, B> ParallelConfig<A, B> {
    /// Configures the product of two gates.
    #[must_use]
    pub const fn new(one: A, other: B) -> Self {
        Self {
            gates: (one, other),
            combine: CombineGates::Product,
        }
    }

    /// Sets how the factors are combined.
    #[must_use]
    pub fn with_combine(mut self, combine: CombineGates) -> Self {
        self.combine = combine;
        self
    }
}

/// Two gates on the same features, combined into one gate.
///
/// ```text
/// product   y = x ⊙ a(x) ⊙ b(x)
/// mean      y = x ⊙ (a(x) + b(x)) / 2        [batch, channels, height, width]
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{BlockConfig, Init, attention::{Gate, ParallelConfig, RgaChannelConfig, RgaSpatialConfig}};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let both = ParallelConfig::new(RgaSpatialConfig::new(), RgaChannelConfig::new()); // RGA-S//C
/// let attention = both.init(FeatureShape::new(16, 4, 2), &init);
/// assert_eq!(attention.gate(Tensor::ones([2, 16, 4, 2], &device)).dims(), [2, 16, 4, 2]);
/// ```
#[derive(Module, Debug)]
pub struct Parallel<A, B> {
    /// The two gates.
    pub gates: (A, B),
    /// How their factors are combined.
    #[module(skip)]
    pub combine: CombineGates,
}

impl<A, B> BlockConfig for ParallelConfig<A, B>
where
    A: BlockConfig<Block: Gate>,
    B: BlockConfig<Block: Gate>,
{
    type Block = Parallel<A::Block, B::Block>;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> Self::Block {
        let (one, other) = &self.gates;
        Parallel {
            gates: (one.init(input, init), other.init(input, init)),
            combine: self.combine,
        }
    }

    fn fits_one_size(&self) -> bool {
        self.gates.0.fits_one_size() || self.gates.1.fits_one_size()
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        problems.at("gates", |problems| {
            problems.at("[0]", |problems| self.gates.0.validate(input, problems));
            problems.at("[1]", |problems| self.gates.1.validate(input, problems));
        });
    }
}

impl<A: Gate, B: Gate> Gate for Parallel<A, B> {
    fn gate(&self, features: Tensor<4>) -> Tensor<4> {
        let one = self.gates.0.gate(features.clone());
        let other = self.gates.1.gate(features);
        match self.combine {
            CombineGates::Product => one * other,
            CombineGates::Mean => (one + other) / 2,
        }
    }

    fn folded(self) -> Self {
        let (one, other) = self.gates;
        Self {
            gates: (one.folded(), other.folded()),
            ..self
        }
    }
}
