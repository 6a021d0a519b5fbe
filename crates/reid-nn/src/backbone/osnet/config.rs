//! Configuration of `OSNet` (Zhou et al., ICCV 2019, arXiv:1905.00953; Zhou et al., TPAMI 2021,
//! arXiv:1910.06827).

use reid_core::{FeatureShape, MAX_WEIGHTS, Problems};
use serde::{Deserialize, Serialize};

use super::{
    super::{AfterStage, MaxPool, Stem, after_stage},
    block::{OsBlockConfig, OsInstanceNorm, validate_channels, weights},
};
use crate::block::BlockConfig;

/// The largest number of blocks in a stage; published networks have 2.
const MAX_BLOCKS: usize = 256;

/// Configuration of [`OsNet`](super::OsNet) with a block `A` after chosen stages.
///
/// | network | channels | instance normalisation | parameters |
/// |---|---|---|---|
/// | [`x1_0`](Self::x1_0) | 64, 256, 384, 512 | none | 1,905,828 |
/// | [`x0_75`](Self::x0_75) | 48, 192, 288, 384 | none | 1,087,610 |
/// | [`x0_5`](Self::x0_5) | 32, 128, 192, 256 | none | 497,426 |
/// | [`x0_25`](Self::x0_25) | 16, 64, 96, 128 | none | 134,792 |
/// | [`ibn_x1_0`](Self::ibn_x1_0) | 64, 256, 384, 512 | stem, first stage | 1,906,852 |
/// | [`ain_x1_0`](Self::ain_x1_0) | 64, 256, 384, 512 | stem, four blocks | 1,905,828 |
///
/// ```
/// use reid_core::{FeatureShape, InputSize};
/// use reid_nn::{BlockConfig, attention::SqueezeExcitationConfig, backbone::OsNetConfig};
///
/// let config = OsNetConfig::x0_25().after(&[2], SqueezeExcitationConfig::new());
/// assert_eq!(config.output(InputSize::PERSON.rgb()), FeatureShape::new(128, 16, 8));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "A: Deserialize<'de>"))]
pub struct OsNetConfig<A = ()> {
    /// The channels of the stem and of the three stages of blocks, from 1 to 4096; those of the stages are
    /// multiples of 4.
    pub channels: [usize; 4],
    /// The blocks of the three stages, 1 to 256 each: where each uses instance normalisation.
    pub blocks: [Vec<OsInstanceNorm>; 3],
    /// Whether the stem uses instance normalisation instead of batch normalisation.
    pub instance_stem: bool,
    /// The layers before the first stage.
    pub stem: Stem,
    /// The blocks after stages, at most one per stage.
    pub after: Vec<AfterStage<A>>,
}

impl OsNetConfig {
    fn from_channels(channels: [usize; 4]) -> Self {
        Self {
            channels,
            blocks: std::array::from_fn(|_| vec![OsInstanceNorm::None; 2]),
            instance_stem: false,
            stem: Stem::Large(MaxPool::Padded),
            after: Vec::new(),
        }
    }

    /// OSNet x1.0: 512 channels.
    #[must_use]
    pub fn x1_0() -> Self {
        Self::from_channels([64, 256, 384, 512])
    }

    /// OSNet x0.75: 384 channels.
    #[must_use]
    pub fn x0_75() -> Self {
        Self::from_channels([48, 192, 288, 384])
    }

    /// OSNet x0.5: 256 channels.
    #[must_use]
    pub fn x0_5() -> Self {
        Self::from_channels([32, 128, 192, 256])
    }

    /// OSNet x0.25: 128 channels.
    #[must_use]
    pub fn x0_25() -> Self {
        Self::from_channels([16, 64, 96, 128])
    }

    /// OSNet-IBN x1.0: instance normalisation in the stem and after the additions of the first stage.
    #[must_use]
    pub fn ibn_x1_0() -> Self {
        let mut network = Self::x1_0();
        network.instance_stem = true;
        network.blocks[0] = vec![OsInstanceNorm::Sum; 2];
        network
    }

    /// OSNet-AIN x1.0: instance normalisation in the stem and in the residuals of four blocks, which the
    /// authors found by architecture search.
    #[must_use]
    pub fn ain_x1_0() -> Self {
        let (plain, instance) = (OsInstanceNorm::None, OsInstanceNorm::Residual);
        let mut network = Self::x1_0();
        network.instance_stem = true;
        network.blocks = [
            vec![instance, instance],
            vec![plain, instance],
            vec![instance, plain],
        ];
        network
    }

    /// Inserts a block after each of these stages, from 1 to 4. [`and_after`](Self::and_after) adds blocks
    /// after further stages.
    #[must_use]
    pub fn after<A: Clone>(self, stages: &[usize], block: A) -> OsNetConfig<A> {
        let network = OsNetConfig {
            channels: self.channels,
            blocks: self.blocks,
            instance_stem: self.instance_stem,
            stem: self.stem,
            after: Vec::new(),
        };
        network.and_after(stages, block)
    }
}

impl<A> OsNetConfig<A> {
    /// Sets the channels of the stem and of the three stages of blocks.
    #[must_use]
    pub fn with_channels(mut self, channels: [usize; 4]) -> Self {
        self.channels = channels;
        self
    }

    /// Sets the stem.
    #[must_use]
    pub fn with_stem(mut self, stem: Stem) -> Self {
        self.stem = stem;
        self
    }

    /// Inserts a block after each of these stages, from 1 to 4, and keeps the blocks after other stages.
    #[must_use]
    pub fn and_after(mut self, stages: &[usize], block: A) -> Self
    where
        A: Clone,
    {
        self.after.extend(after_stage::after_stages(stages, &block));
        self
    }

    /// The configurations of the blocks of a stage of blocks, which counts from 0.
    pub(super) fn stage(&self, stage: usize) -> Vec<OsBlockConfig> {
        let channels = self.channels[stage + 1];
        let blocks = self.blocks[stage].iter();
        let block = |&instance| OsBlockConfig { channels, instance };
        blocks.map(block).collect()
    }

    /// The number of blocks of each stage. The 1 x 1 convolution of the last stage counts as a block.
    #[must_use]
    pub fn blocks_per_stage(&self) -> [usize; 4] {
        let [one, two, three] = self.blocks.each_ref().map(Vec::len);
        [one, two, three, 1]
    }

    /// The block after a stage, which counts from 0.
    pub(super) fn after_stage(&self, stage: usize) -> Option<&A> {
        after_stage::find(&self.after, stage).map(|(_, block)| block)
    }

    /// The shape after a stage without the block after it. Before stages 1 and 2, which count from 0, the
    /// feature map is pooled; the last stage is a 1 x 1 convolution.
    pub(super) fn stage_output(&self, stage: usize, input: FeatureShape) -> FeatureShape {
        match stage {
            0 => self.stage(0).output(input),
            3 => input.with_channels(self.channels[3]),
            _ => self.stage(stage).output(self.pooled(stage, input)),
        }
    }

    /// The shape after the transition to a stage, which counts from 0.
    pub(super) fn pooled(&self, stage: usize, input: FeatureShape) -> FeatureShape {
        input.strided(2, 2, 0).with_channels(self.channels[stage])
    }
}

impl<A: BlockConfig> OsNetConfig<A> {
    /// The shapes of the feature maps after the stem and after each of the four stages. The block after a
    /// stage, if there is one, belongs to the stage.
    ///
    /// # Panics
    /// If the images are too small for the network.
    #[must_use]
    pub fn shapes(&self, image: FeatureShape) -> [FeatureShape; 5] {
        let mut shapes = [self.stem.output(image).with_channels(self.channels[0]); 5];
        for stage in 0..4 {
            let shape = self.stage_output(stage, shapes[stage]);
            shapes[stage + 1] = self
                .after_stage(stage)
                .map_or(shape, |after| after.output(shape));
        }
        shapes
    }

    /// Adds a problem for each hyper-parameter that is out of range; returns whether there was none.
    pub(super) fn validate_ranges(&self, problems: &mut Problems) -> bool {
        let before = problems.len();
        problems.at("channels", |problems| {
            problems.count("[0]", self.channels[0], 1..=super::block::MAX_CHANNELS);
            for (index, &channels) in self.channels.iter().enumerate().skip(1) {
                validate_channels(&format!("[{index}]"), channels, problems);
            }
        });
        problems.at("blocks", |problems| {
            for (stage, blocks) in self.blocks.iter().enumerate() {
                let holds = (1..=MAX_BLOCKS).contains(&blocks.len());
                let expected = format_args!("1 to {MAX_BLOCKS} blocks");
                problems.require(&format!("[{stage}]"), holds, expected, blocks.len());
            }
        });
        after_stage::validate_stages(&self.after, problems);
        if problems.len() == before {
            let weights = (0..3).map(|stage| self.stage_weights(stage)).sum::<f64>();
            problems.require(
                "channels",
                weights <= MAX_WEIGHTS as f64,
                format_args!("at most {MAX_WEIGHTS} weights in all stages"),
                format_args!("{weights:.0}"),
            );
        }
        problems.len() == before
    }

    /// Adds a problem if the images are too small, and the problems of the blocks after stages. The
    /// hyper-parameters must be in range.
    pub(super) fn validate_shapes(&self, image: FeatureShape, problems: &mut Problems) {
        if self.stem.is_deep() {
            problems.require("stem", false, "large or small in an OSNet", "deep");
            return;
        }
        let too_small = |problems: &mut Problems| {
            let expected = "images large enough for two 2 x 2 poolings after the stem";
            problems.require("stem", false, expected, format_args!("images of {image}"));
        };
        if !self.stem.fits(image) {
            return too_small(problems);
        }
        let mut shape = self.stem.output(image).with_channels(self.channels[0]);
        for stage in 0..4 {
            if matches!(stage, 1 | 2) && shape.height.min(shape.width) < 2 {
                return too_small(problems);
            }
            shape = self.stage_output(stage, shape);
            match after_stage::validate_block(&self.after, stage, shape, problems) {
                Some(after) => shape = after,
                None => return, // later stages have no input shape
            }
        }
    }

    /// Estimates the number of weights of a stage of blocks.
    fn stage_weights(&self, stage: usize) -> f64 {
        let (from, to) = (self.channels[stage], self.channels[stage + 1]);
        let later = self.blocks[stage].len() - 1;
        weights(from, to) + later as f64 * weights(to, to) + (to * to) as f64
    }
}
