//! The limits of a `ResNet` configuration, and the messages about values beyond them.

use reid_core::{FeatureShape, MAX_WEIGHTS, Problems};

use super::{Ibn, ResNetConfig, ResidualKind};
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
                problems.count(&format!("[{stage}]"), blocks, 1..=MAX_BLOCKS);
            }
        });
        problems.count("width", self.width, 1..=MAX_CHANNELS);
        problems.count("groups", self.groups, 1..=MAX_CHANNELS);
        problems.count("width_per_group", self.width_per_group, 1..=MAX_CHANNELS);
        problems.count("last_stride", self.last_stride, 1..=2);
        for (index, after) in self.after.iter().enumerate() {
            let field = format!("after[{index}].stage");
            problems.count(&field, after.stage, 1..=4);
            let mut before = self.after[..index].iter();
            problems.require(
                &field,
                before.all(|before| before.stage != after.stage),
                "a stage that no other entry names",
                format_args!(
                    "{} twice; chain blocks with a tuple or with `AttentionConfig::Chain`",
                    after.stage
                ),
            );
        }
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
    }

    /// Adds the problems of the blocks in the sockets. The network itself must be valid and fit the images.
    pub(super) fn validate_sockets(&self, input: FeatureShape, problems: &mut Problems) {
        let mut shape = self.stem.output(input).with_channels(self.width);
        for stage in 0..4 {
            shape = self.stage(stage).output(shape);
            let mut fits = problems.at("inside", |problems| self.inside.validate(shape, problems));
            let mut after = self.after.iter().enumerate();
            if let Some((index, after)) = after.find(|(_, after)| after.stage == stage + 1) {
                let field = format!("after[{index}].block");
                fits &= problems.at(&field, |problems| after.block.validate(shape, problems));
                if fits {
                    shape = after.block.output(shape);
                }
            }
            if !fits {
                return; // later stages would repeat the problem or have no input shape
            }
        }
    }

    /// Estimates the number of weights of a stage, in floating point because it may exceed 64 bits.
    fn stage_weights(&self, stage: usize) -> f64 {
        let (hidden, groups) = (self.hidden(stage) as f64, self.groups as f64);
        let channels = ((self.width << stage) * self.kind.expansion()) as f64;
        let block = match self.kind {
            ResidualKind::Basic => 18.0 * channels * channels,
            ResidualKind::Bottleneck => 2.0 * channels * hidden + 9.0 * hidden * hidden / groups,
        };
        self.blocks[stage] as f64 * block + channels * channels / 2.0
    }
}
