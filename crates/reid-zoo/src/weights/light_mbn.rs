//! `LightMBN`: the names of the authors' weights.

use reid_nn::Block;

use super::{Weights, backbone::with_optional, network::PublishedNetwork};
use crate::{Error, LightMbn};

/// A published neck and the neck of the head that it is loaded into.
const NECKS: [(&str, &str); 7] = [
    ("reduction_0.", "0.head.branches.0."),
    ("reduction_4.", "0.head.branches.1."),
    ("reduction_1.", "1.head.whole."),
    ("reduction_2.", "1.head.stripes.0."),
    ("reduction_3.", "1.head.stripes.1."),
    ("reduction_ch_0.", "2.head.necks.0."),
    ("reduction_ch_1.", "2.head.necks.1."),
];

/// A published branch and the late stages of the head that it is loaded into.
const BRANCHES: [(&str, &str); 3] = [
    ("global_branch.", "head.branches.0.block.0."),
    ("partial_branch.", "head.branches.1.block."),
    ("channel_branch.", "head.branches.2.block."),
];

impl<A: Block> PublishedNetwork for LightMbn<A> {
    /// The early stages are `backone` in the authors' weights; `backbone` is accepted too.
    fn rename(&self, weights: Weights) -> Result<Weights, Error> {
        if weights.keys().any(|key| key.starts_with("head.branches.")) {
            return Ok(weights);
        }
        let mut weights = weights
            .under("backone.0.conv.weight")?
            .under("backbone.0.conv.weight")?
            .renamed("backone.", "backbone.");
        for (from, to) in renames(self) {
            weights = weights.renamed(&from, &to);
        }
        weights = with_optional(weights, "backbone.after.");
        for (_, late_stages) in BRANCHES {
            weights = with_optional(weights, &format!("{late_stages}after."));
        }
        Ok(weights)
    }
}

/// The published and the own prefix of each layer.
fn renames<A: Block>(model: &LightMbn<A>) -> Vec<(String, String)> {
    let mut renames = Vec::new();
    let mut rename = |from: String, to: String| renames.push((from, to));
    let backbone = &model.backbone;
    let first = backbone.conv2.len();
    rename("backbone.0.".into(), "backbone.conv1.".into());
    rename(format!("backbone.2.{first}.0."), "backbone.pool2.".into());
    rename("backbone.2.".into(), "backbone.conv2.".into());
    rename("backbone.3.".into(), "backbone.conv3.0.".into());
    let stages = &model.head.branches.1.block.stages;
    for (theirs, ours) in BRANCHES {
        // A slice of a `Sequential` keeps the indices of its layers.
        let mut skipped = backbone.conv3.len();
        for (stage, fields) in stages.iter().enumerate() {
            let (from, to) = (
                format!("{theirs}{stage}."),
                format!("{ours}stages.{stage}."),
            );
            let blocks = fields.blocks.len();
            for block in 0..blocks {
                rename(
                    format!("{from}{}.", skipped + block),
                    format!("{to}blocks.{block}."),
                );
            }
            if fields.last.is_some() {
                rename(from, format!("{to}last."));
            } else {
                // The transition to the next stage is the last layer of a published stage.
                let transition = format!("{ours}stages.{}.transition.", stage + 1);
                rename(format!("{from}{}.0.", skipped + blocks), transition);
            }
            skipped = 0;
        }
    }
    let extra = "batch_drop_block.drop_batch_bottleneck.";
    rename(extra.into(), "head.branches.0.block.1.".into());
    rename(
        "shared.0.".into(),
        "head.branches.2.head.shared.conv.".into(),
    );
    rename("shared.1.".into(), "head.branches.2.head.shared.bn.".into());
    for (theirs, ours) in NECKS {
        rename(
            format!("{theirs}bn."),
            format!("head.branches.{ours}bottleneck."),
        );
        rename(theirs.into(), format!("head.branches.{ours}"));
    }
    renames
}
