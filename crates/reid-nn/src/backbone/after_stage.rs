//! Blocks after the stages of a backbone, such as attention.

use reid_core::{FeatureShape, Problems, strict};
use serde::{Deserialize, Serialize};

use crate::{
    block::{BlockConfig, TRIAL_SHAPES},
    stage_paths::StagePaths,
};

/// A block after a stage of a backbone. Every backbone has four stages, of which the last may be empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "A: Deserialize<'de>"))]
pub struct AfterStage<A> {
    /// The stage, from 1 to 4.
    pub stage: usize,
    /// The block.
    #[serde(deserialize_with = "strict")]
    pub block: A,
}

/// Lists the same block after each of several stages.
pub(super) fn after_stages<A: Clone>(stages: &[usize], block: &A) -> Vec<AfterStage<A>> {
    let after = |&stage| AfterStage {
        stage,
        block: block.clone(),
    };
    stages.iter().map(after).collect()
}

/// The block after a stage, which counts from 0, and its index in the list.
pub(super) fn find<A>(after: &[AfterStage<A>], stage: usize) -> Option<(usize, &A)> {
    let mut after = after.iter().enumerate();
    let found = after.find(|(_, after)| after.stage == stage + 1);
    found.map(|(index, after)| (index, &after.block))
}

/// Adds a problem for each stage that is out of range or named twice.
pub(super) fn validate_stages<A>(after: &[AfterStage<A>], problems: &mut Problems) {
    for (index, entry) in after.iter().enumerate() {
        let field = format!("after[{index}].stage");
        problems.count(&field, entry.stage, 1..=4);
        let mut before = after[..index].iter();
        problems.require(
            &field,
            before.all(|before| before.stage != entry.stage),
            "a stage that no other entry names",
            format_args!(
                "{} twice; chain blocks with a tuple or with `AttentionConfig::Chain`",
                entry.stage
            ),
        );
    }
}

/// Adds a problem for a block after stage 4 if this stage has no blocks or layers.
pub(super) fn validate_last<A>(after: &[AfterStage<A>], blocks: usize, problems: &mut Problems) {
    for (index, entry) in after.iter().enumerate() {
        let holds = blocks > 0 || entry.stage != 4;
        let expected = "1 to 3, because stage 4 is empty";
        problems.require(
            &format!("after[{index}].stage"),
            holds,
            expected,
            entry.stage,
        );
    }
}

/// Adds the problems of the block after a stage, which counts from 0, for the feature map of the stage.
/// Returns the shape after the block, or `None` if it has problems.
pub(super) fn validate_block<A: BlockConfig>(
    after: &[AfterStage<A>],
    stage: usize,
    shape: FeatureShape,
    problems: &mut Problems,
) -> Option<FeatureShape> {
    let Some((index, block)) = find(after, stage) else {
        return Some(shape);
    };
    let field = format!("after[{index}].block");
    let fits = problems.at(&field, |problems| block.validate(shape, problems));
    fits.then(|| block.output(shape))
}

/// The paths of the blocks after stages, in the field `after`, whose first entry belongs to the stage `first`.
pub(super) fn stage_paths(first: usize) -> StagePaths {
    let stages = (first..=4).enumerate();
    StagePaths::new(stages.map(|(index, stage)| (format!("after.{index}"), stage)))
}

/// Whether one of the blocks fits only the size of feature maps that it was built for.
pub(super) fn fit_one_size<A: BlockConfig>(after: &[AfterStage<A>]) -> bool {
    after.iter().any(|after| after.block.fits_one_size())
}

/// Adds the problems that the blocks have for any feature map, if the backbone before them is invalid.
pub(super) fn validate_for_any<A: BlockConfig>(after: &[AfterStage<A>], problems: &mut Problems) {
    for (index, after) in after.iter().enumerate() {
        problems.at(&format!("after[{index}].block"), |problems| {
            problems.nested_for_any(TRIAL_SHAPES, |map, problems| {
                after.block.validate(map, problems);
            });
        });
    }
}
