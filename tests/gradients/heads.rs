//! Heads.

use reid::nn::{
    attention::FncSpatialConfig,
    batch_drop::BatchDrop,
    cut_mix::{CutMix, Patches},
    head::{
        BlockThenHeadConfig, BnNeckConfig, BranchConfig, BranchedHeadConfig,
        ChannelGroupsHeadConfig, LinearBnNeckConfig, LinearBnReluHeadConfig, NeckFeature,
        PooledHeadConfig, ReducedBnNeckConfig, StripeHeadConfig, StripesConfig,
    },
    pool::PoolConfig,
};

use crate::check_head;

#[test]
fn bn_neck() {
    check_head(&BnNeckConfig::new());
    check_head(&BnNeckConfig::new().with_pool(PoolConfig::GEM));
}

#[test]
fn pooled_head() {
    check_head(&PooledHeadConfig::new());
    check_head(&PooledHeadConfig::new().with_pool(PoolConfig::Max));
}

#[test]
fn branched_heads() {
    let patches = Patches {
        height: 2,
        width: 1,
    };
    let mix = CutMix::new().with_patches(patches).with_cut(2);
    let branches = vec![
        BranchConfig::cut_mix(3, mix.clone()),
        BranchConfig::drop(2, BatchDrop::new().with_height(0.5)),
        BranchConfig::cut_mix(3, mix),
    ];
    let config = BranchedHeadConfig::new().with_global(3);
    check_head(&config.with_branches(branches));
    check_head(
        &LinearBnReluHeadConfig::new()
            .with_dimensions(3)
            .with_pool(PoolConfig::GEM),
    );
}

#[test]
fn heads_after_blocks() {
    let block = FncSpatialConfig::new();
    let head = ReducedBnNeckConfig::new().with_dimensions(3);
    check_head(&BlockThenHeadConfig { block, head });
    let stripes = StripeHeadConfig::new().with_stripes(2).with_dimensions(3);
    check_head(&stripes);
}

/// The parts of `LightMBN`'s head.
#[test]
fn heads_of_a_lightweight_multi_branch_network() {
    for embedding in [NeckFeature::Before, NeckFeature::AfterUnit] {
        let neck = LinearBnNeckConfig::new().with_dimensions(3);
        check_head(&neck.with_embedding(embedding));
    }
    check_head(&ChannelGroupsHeadConfig::new().with_dimensions(3));
    let neck = BnNeckConfig::new();
    check_head(&StripesConfig {
        stripes: 2,
        whole: neck.clone().with_pool(PoolConfig::Max),
        stripe: neck,
    });
}

#[test]
fn heads_side_by_side() {
    let max = PooledHeadConfig::new().with_pool(PoolConfig::Max);
    check_head(&(BnNeckConfig::new(), PooledHeadConfig::new(), max));
}
