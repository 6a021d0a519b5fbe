//! Compares similarity maps with reference values from `tests/golden/make.py`, which come from Jacobians.

use burn::tensor::{DType, Device, Tensor, TensorData};
use reid::{
    core::{FeatureShape, Seed, SimilarityMap},
    nn::{
        HeadConfig, Init,
        head::{BnNeckConfig, LinearBnReluHeadConfig, PooledHeadConfig, StripeHeadConfig},
        pool::PoolConfig,
        similarity_map::{EmbeddingTerms, similarity_maps},
    },
};

use crate::{
    formula::{self, INPUT},
    golden::{self, Checker, Golden, OUTPUT, part::filled_part},
};

const CHECKERS: [Checker; 1] = [("similarity_map", similarity_map)];

#[test]
fn every_known_golden_file_agrees() {
    golden::check_files(&CHECKERS);
}

fn similarity_map(golden: &Golden) {
    let pooled = PooledHeadConfig::new();
    let reduced = LinearBnReluHeadConfig::new().with_dimensions(6);
    maps(golden, "pooled", &pooled);
    let max = pooled.clone().with_pool(PoolConfig::Max);
    maps(golden, "pooled_max", &max);
    maps(golden, "pooled_gem", &pooled.with_pool(PoolConfig::GEM));
    maps(golden, "bnneck", &BnNeckConfig::new());
    maps(golden, "reduced", &reduced);
    let max = reduced.clone().with_pool(PoolConfig::Max);
    maps(golden, "reduced_max", &max);
    maps(golden, "reduced_gem", &reduced.with_pool(PoolConfig::GEM));
    let stripes = StripeHeadConfig::new().with_stripes(2).with_dimensions(6);
    maps(golden, "stripes", &stripes);
}

/// Compares the first image with the others, in closed form and by autodiff. By autodiff, a shift of a stripe
/// is shared out over all positions, so there only the sum is compared.
fn maps<C: HeadConfig>(golden: &Golden, part: &str, config: &C) {
    let device = Device::default();
    let init = Init::new(Seed::new(1), &device);
    let head = filled_part(part, config.init(FeatureShape::new(8, 4, 3), 4, &init));
    let (shape, options) = ([5, 8, 4, 3], (&device, DType::F32));
    let features = formula::tensor(&format!("{part}.input"), shape, INPUT, options);
    let closed = EmbeddingTerms::of(&head, features.clone());
    let general = EmbeddingTerms::by_autodiff(&head, features);
    for (terms, compares_pairs) in [(closed, true), (general, part != "stripes")] {
        let others = EmbeddingTerms::new(terms.tensor().clone().narrow(0, 1, 4));
        let maps = similarity_maps(&terms.image(0), &others).expect("finite values");
        let similarities: Vec<f32> = maps.iter().map(SimilarityMap::similarity).collect();
        let similarities = Tensor::<1>::from_data(TensorData::new(similarities, [4]), &device);
        golden.meets(&format!("{part}.similarity"), similarities, OUTPUT);
        if compares_pairs {
            let pairs: Vec<f32> = maps
                .iter()
                .flat_map(SimilarityMap::pairs)
                .copied()
                .collect();
            let pairs = Tensor::<3>::from_data(TensorData::new(pairs, [4, 12, 12]), &device);
            golden.meets(&format!("{part}.pairs"), pairs, OUTPUT);
        }
    }
}
