//! The limits of a `ResNet` configuration, and the messages about values beyond them.

use reid_core::{FeatureShape, MAX_WEIGHTS, Problems};

use super::{Dilation, Ibn, ResNetConfig, ResidualKind, Shortcut, Stem, after_stage};
use crate::block::BlockConfig;

/// The largest number of blocks in a stage; published networks have at most 36.
const MAX_BLOCKS: usize = 256;

/// The largest width, number of groups and width per group; published networks have at most 64.
const MAX_CHANNELS: usize = 4096;

impl<I: BlockConfig + Clone, A: BlockConfig> ResNetConfig<I, A> {
    /// Adds a problem for each hyper-parameter that is out of range; returns whether there was none.
    pub(super) fn validate_ranges(&self, problems: &mut Problems) -> bool {
        let before = problems.len();
        problems.at("blocks", |problems| {
            for (stage, &blocks) in self.blocks.iter().enumerate() {
                let least = usize::from(stage < 3);
                problems.count(&format!("[{stage}]"), blocks, least..=MAX_BLOCKS);
            }
        });
        problems.count("width", self.width, 1..=MAX_CHANNELS);
        problems.count("groups", self.groups, 1..=MAX_CHANNELS);
        problems.count("width_per_group", self.width_per_group, 1..=MAX_CHANNELS);
        problems.count("last_stride", self.last_stride, 1..=2);
        let expected = "none for a last stride of 1, which dilation would replace";
        let holds = self.dilation == Dilation::None || self.last_stride != 1;
        problems.require(
            "dilation",
            holds,
            expected,
            format_args!("{:?}", self.dilation),
        );
        after_stage::validate_stages(&self.after, problems);
        after_stage::validate_last(&self.after, self.blocks[3], problems);
        problems.len() == before
    }

    /// Adds the problems of hyper-parameters that are in range but do not fit each other or the images;
    /// returns whether there was none.
    pub(super) fn validate_fit(&self, input: FeatureShape, problems: &mut Problems) -> bool {
        let before = problems.len();
        self.validate_channels(problems);
        let weights = (0..4).map(|stage| self.stage_weights(stage)).sum::<f64>();
        problems.require(
            "width",
            weights <= MAX_WEIGHTS as f64,
            format_args!("at most {MAX_WEIGHTS} weights in all stages"),
            format_args!("{weights:.0} with a width of {}", self.width),
        );
        let expected = "a stem that fits the images";
        let found = format_args!("images of {input}");
        problems.require("stem", self.stem.fits(input), expected, found);
        problems.len() == before
    }

    fn validate_channels(&self, problems: &mut Problems) {
        let hidden = self.hidden(0);
        match self.kind {
            ResidualKind::Basic => {
                let expected = "1 for basic blocks, which have no groups";
                problems.require("groups", self.groups == 1, expected, self.groups);
                let expected = "none for basic blocks, which cannot be dilated";
                let (holds, found) = (self.dilation == Dilation::None, self.dilation);
                problems.require("dilation", holds, expected, format_args!("{found:?}"));
            }
            ResidualKind::Bottleneck => {
                let least = 64_usize.div_ceil(self.width);
                let expected = format_args!("at least {least} for a width of {}", self.width);
                let found = self.width_per_group;
                problems.require("width_per_group", hidden > 0, expected, found);
            }
        }
        let expected = "none or b for blocks with 1 hidden channel";
        problems.require("ibn", self.ibn != Ibn::A || hidden != 1, expected, "a");
        let holds = self.ibn != Ibn::B || !self.stem.is_deep();
        problems.require("ibn", holds, "none or a for a deep stem", "b");
        let holds = !matches!(self.stem, Stem::DeepHalf(_)) || self.width.is_multiple_of(2);
        let expected = "an even number for a deep stem of half the channels";
        problems.require("width", holds, expected, self.width);
    }

    /// Adds the problems of the blocks in the sockets. The network itself must be valid and fit the images.
    pub(super) fn validate_sockets(&self, input: FeatureShape, problems: &mut Problems) {
        let mut shape = self.after_stem(input);
        for stage in 0..4 {
            let most = (self.width << stage) * self.kind.expansion();
            if self.blocks[stage] > 0 && self.shortcut == Shortcut::Padded && shape.channels > most
            {
                let expected = format_args!("at most {most} channels before stage {}", stage + 1);
                problems.require("shortcut", false, expected, shape.channels);
                return;
            }
            shape = self.stage(stage).output(shape);
            let fits = problems.at("inside", |problems| self.inside.validate(shape, problems));
            let after = after_stage::validate_block(&self.after, stage, shape, problems);
            match after {
                Some(after) if fits => shape = after,
                _ => return, // later stages would repeat the problem or have no input shape
            }
        }
    }

    /// Estimates the number of weights of a stage, in floating point because it may exceed 64 bits.
    fn stage_weights(&self, stage: usize) -> f64 {
        if self.blocks[stage] == 0 {
            return 0.0;
        }
        let (hidden, groups) = (self.hidden(stage) as f64, self.groups as f64);
        let channels = ((self.width << stage) * self.kind.expansion()) as f64;
        let block = match self.kind {
            ResidualKind::Basic => 18.0 * channels * channels,
            ResidualKind::Bottleneck => 2.0 * channels * hidden + 9.0 * hidden * hidden / groups,
        };
        self.blocks[stage] as f64 * block + channels * channels / 2.0
    }
}
