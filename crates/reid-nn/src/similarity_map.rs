//! Similarity maps: the contribution of each position, and of each pair of positions, to the cosine
//! similarity of two images (Stylianou et al., WACV 2019, arXiv:1901.00536; Zhu et al., TIP 2021,
//! arXiv:1909.12977).

use burn::tensor::Tensor;
use reid_core::{HeatMapError, SimilarityMap};

mod autodiff;
mod terms;

pub use terms::EmbeddingTerms;

use crate::distance::lengths;

/// Computes the similarity map of each pair of images: of the one image of `first` with each image of
/// `second`, or of the images of both in order.
///
/// ```text
/// e = Σ_p t_p                                 the embedding is a sum of one term per position
/// m_pq = ⟨t_p, t'_q⟩ / (‖e‖ ‖e'‖)              [positions, positions']
/// cos(e, e') = Σ_p Σ_q m_pq
/// ```
///
/// The sum is exact up to rounding, whatever the head is. [`EmbeddingTerms`] documents where the terms come
/// from. An embedding shorter than 1e-12 has similarities near 0.
///
/// One pair of images at a time is computed. Its result takes 4 bytes per pair of positions: 64 KiB for two
/// feature maps of 16 x 8.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{HeadConfig, Init, head::BnNeckConfig};
/// use reid_nn::similarity_map::{EmbeddingTerms, similarity_maps};
///
/// let device = Device::default();
/// let head = BnNeckConfig::new().init(FeatureShape::new(16, 4, 2), 10, &Init::new(Seed::new(1), &device));
/// let random = burn::tensor::Distribution::Default;
/// let features = Tensor::<4>::random([3, 16, 4, 2], random, &device);
/// let terms = EmbeddingTerms::of(&head, features.clone());
///
/// let maps = similarity_maps(&terms.image(0), &terms)?; // one image against three
/// assert_eq!((maps.len(), maps[1].pairs().len()), (3, 8 * 8));
/// assert!((maps[0].similarity() - 1.0).abs() < 1e-5); // the image itself
/// # Ok::<(), reid_core::HeatMapError>(())
/// ```
///
/// # Errors
/// If a contribution is infinite or NaN.
///
/// # Panics
/// If `first` has neither one image nor as many as `second`, or if the embeddings have different dimensions.
pub fn similarity_maps(
    first: &EmbeddingTerms,
    second: &EmbeddingTerms,
) -> Result<Vec<SimilarityMap>, HeatMapError> {
    let ([images, dimensions, height, width], [others, found, other_height, other_width]) =
        (first.dims(), second.dims());
    assert!(
        images == 1 || images == others,
        "a similarity map needs one image or {others} images to compare with {others}, found {images}"
    );
    assert_eq!(
        dimensions, found,
        "a similarity map needs embeddings of {dimensions} dimensions, found {found}"
    );
    let (first, second) = (unit_vectors(first), unit_vectors(second));
    let map = |index: usize| {
        let rows = first.clone().narrow(0, index.min(images - 1), 1);
        let rows = rows.squeeze_dim::<2>(0).transpose();
        let columns = second.clone().narrow(0, index, 1).squeeze_dim::<2>(0);
        let pairs = rows.matmul(columns).into_data().convert::<f32>();
        let pairs = pairs.iter::<f32>().collect();
        SimilarityMap::new((height, width), (other_height, other_width), pairs)
    };
    (0..others).map(map).collect()
}

/// The terms of embeddings of length 1: `[batch, dimensions, positions]`.
fn unit_vectors(terms: &EmbeddingTerms) -> Tensor<3> {
    let [batch, dimensions, height, width] = terms.dims();
    let lengths = lengths(terms.embedding()).unsqueeze_dim::<3>(2);
    let terms = terms.tensor().clone();
    terms.reshape([batch, dimensions, height * width]) / lengths
}

#[cfg(test)]
mod tests {
    use burn::{
        module::{Module, Param},
        tensor::Device,
    };
    use reid_core::FeatureShape;

    use super::*;
    use crate::{
        BlockConfig, Head, HeadConfig, ReidOutput,
        attention::FncSpatialConfig,
        backbone::{ResidualBlockConfig, ResidualKind},
        batch_drop::BatchDrop,
        fixtures,
        head::{
            BlockThenHead, BnNeckConfig, BranchConfig, BranchedHeadConfig, ChannelGroupsHeadConfig,
            LinearBnNeckConfig, LinearBnReluHeadConfig, NeckFeature, PooledHeadConfig,
            ReducedBnNeckConfig, StripeHeadConfig,
        },
        norm::BatchNorm,
        pool::{self, PoolConfig},
    };

    const INPUT: FeatureShape = FeatureShape {
        channels: 6,
        height: 4,
        width: 3,
    };
    const POOLS: [PoolConfig; 3] = [PoolConfig::Average, PoolConfig::Max, PoolConfig::GEM];

    fn features(device: &Device) -> Tensor<4> {
        fixtures::tensor([3, 6, 4, 3], -1.3..2.1, device)
    }

    /// Builds a head with random weights and statistics.
    fn built<C: HeadConfig>(config: &C) -> C::Head {
        let head = config.init(INPUT, 4, &fixtures::init(&Device::default()));
        fixtures::weights(head)
    }

    /// Sets statistics and weights that differ from those of a new layer.
    fn randomise(norm: &mut BatchNorm) {
        let channels = norm.weight.shape().dims::<1>();
        let random = |range| fixtures::tensor(channels, range, &Device::default());
        norm.weight = Param::from_tensor(random(0.5..2.0));
        norm.bias = Param::from_tensor(random(-0.5..1.0));
        norm.running_mean.set(random(-0.5..0.5));
        norm.running_var.set(random(0.5..2.0));
    }

    fn difference<const D: usize>(found: &Tensor<D>, expected: &Tensor<D>) -> f32 {
        assert_eq!(found.dims(), expected.dims());
        let largest = expected.clone().abs().max().into_scalar::<f32>();
        assert!(largest > 0.0, "there is nothing to compare");
        let off = (found.clone() - expected.clone()).abs().max();
        off.into_scalar::<f32>() / largest
    }

    /// Checks that the terms add up to the embeddings, and the pairs to the cosine similarities.
    fn check_sums<H: Head>(name: &str, head: &H, terms: &EmbeddingTerms) {
        let embeddings = head.valid().forward(features(&Device::default())).embedding;
        let off = difference(&terms.embedding(), &embeddings);
        assert!(off < 1e-5, "{name}: {off}");
        let unit = crate::distance::unit(embeddings);
        let cosines = unit.clone().narrow(0, 1, 1).matmul(unit.transpose());
        let cosines: Vec<f32> = cosines.into_data().iter().collect();
        let maps = similarity_maps(&terms.image(1), terms).expect("finite values");
        for (map, cosine) in maps.iter().zip(cosines) {
            let found = map.similarity();
            assert!(
                (found - cosine).abs() < 2e-5,
                "{name}: {found} and {cosine}"
            );
            for heat in [map.first(), map.second()] {
                let sum: f32 = heat.values().iter().sum();
                assert!((sum - found).abs() < 1e-5, "{name}: {sum} and {found}");
            }
        }
    }

    /// Checks the closed form, and whether it is that of autodiff.
    fn check<H: Head>(name: &str, head: &H, equals_autodiff: bool) {
        let features = features(&Device::default());
        let closed = head.valid().embedding_terms(features.clone());
        let closed = closed.unwrap_or_else(|| panic!("{name}: no closed form"));
        check_sums(name, head, &closed);
        let general = EmbeddingTerms::by_autodiff(head, features);
        check_sums(name, head, &general);
        if equals_autodiff {
            let off = difference(closed.tensor(), general.tensor());
            assert!(off < 2e-5, "{name}: {off} between closed form and autodiff");
        }
    }

    #[test]
    fn terms_of_every_pooled_head_add_up_and_equal_autodiff() {
        for pool in POOLS {
            let name = format!("{pool:?}");
            check(
                &name,
                &built(&PooledHeadConfig::new().with_pool(pool)),
                true,
            );
            for side in [
                NeckFeature::Before,
                NeckFeature::After,
                NeckFeature::AfterUnit,
            ] {
                // Gradients through a scaling to length 1 are at right angles to the embedding.
                let equal = side != NeckFeature::AfterUnit;
                let name = format!("{pool:?} {side:?}");
                let neck = BnNeckConfig::new().with_pool(pool).with_embedding(side);
                let mut neck = built(&neck);
                randomise(&mut neck.bottleneck);
                check(&name, &neck, equal);
                let linear = LinearBnNeckConfig::new().with_dimensions(5);
                let mut linear = built(&linear.with_pool(pool).with_embedding(side));
                randomise(&mut linear.bottleneck);
                check(&name, &linear, equal);
            }
            let reduced = ReducedBnNeckConfig::new().with_dimensions(5);
            let mut reduced = built(&reduced.with_pool(pool));
            randomise(&mut reduced.norm);
            randomise(&mut reduced.bottleneck);
            check(&name, &reduced, true);
            let relu = LinearBnReluHeadConfig::new().with_dimensions(5);
            let mut relu = built(&relu.with_pool(pool));
            randomise(&mut relu.norm);
            check(&name, &relu, true);
        }
    }

    #[test]
    fn terms_of_heads_with_several_parts_add_up_and_equal_autodiff() {
        let groups = ChannelGroupsHeadConfig::new().with_dimensions(5);
        let groups = built(&groups);
        check("groups", &groups, true);
        check("folded groups", &groups.fold_batch_norm(), true);
        // Two backward passes.
        let wide = LinearBnNeckConfig::new().with_dimensions(70);
        check("70 dimensions", &built(&wide), true);
        let stripes = StripeHeadConfig::new().with_stripes(2).with_dimensions(3);
        check("stripes", &built(&stripes), true);
        let pair = (BnNeckConfig::new(), stripes.clone());
        check("tuple", &built(&pair), true);
        check("list", &built(&vec![stripes.clone(), stripes]), true);
        // Positions are those after the bottleneck, and not those of the input as by autodiff.
        let branch = BranchConfig::drop(2, BatchDrop::new());
        let branches = BranchedHeadConfig::new().with_global(3);
        let branches = branches.with_branches(vec![branch]);
        let input = FeatureShape {
            channels: 8,
            ..INPUT
        };
        let head = branches.init(input, 4, &fixtures::init(&Device::default()));
        let features = fixtures::tensor([3, 8, 4, 3], -1.3..2.1, &Device::default());
        let terms = head
            .embedding_terms(features.clone())
            .expect("a closed form");
        let off = difference(&terms.embedding(), &head.forward(features).embedding);
        assert!(off < 1e-5, "{off}");
    }

    #[test]
    fn branches_with_feature_maps_of_two_sizes_share_the_larger_one() {
        let device = Device::default();
        let halving = ResidualBlockConfig {
            stride: 2,
            ..ResidualBlockConfig::new(ResidualKind::Basic, 2)
        };
        let block = halving.init(INPUT, &fixtures::init(&device));
        let head = PooledHeadConfig::new();
        let head = head.init(halving.output(INPUT), 4, &fixtures::init(&device));
        let small = BlockThenHead { block, head };
        let attention = BlockThenHead {
            block: FncSpatialConfig::new().init(INPUT, &fixtures::init(&device)),
            head: built(&BnNeckConfig::new()),
        };
        let head = (small, attention);
        let terms = head.embedding_terms(features(&device));
        let terms = terms.expect("a closed form");
        assert_eq!(terms.dims(), [3, 2 + 6, 4, 3]);
        check_sums("two sizes", &head, &terms);
    }

    #[test]
    fn contributions_match_hand_computed_ones() {
        let device = Device::default();
        let config = PooledHeadConfig::new();
        let input = FeatureShape::new(2, 1, 2);
        let head = config.init(input, 1, &fixtures::init(&device));
        let values = [
            [[[2.0, 4.0]], [[0.0, 8.0]]], // mean (3, 4), terms (1, 0) and (2, 4)
            [[[6.0, 2.0]], [[2.0, 4.0]]], // mean (4, 3), terms (3, 1) and (1, 2)
        ];
        let terms = EmbeddingTerms::of(&head, Tensor::from_data(values, &device));
        let maps = similarity_maps(&terms.image(0), &terms.image(1)).expect("finite values");
        // Both embeddings have length 5: 3/25, 1/25, (6 + 4)/25 and (2 + 8)/25.
        let close = |found: &[f32], expected: &[f32]| {
            let mut values = found.iter().zip(expected);
            assert!(
                found.len() == expected.len()
                    && values.all(|(found, expected)| (found - expected).abs() < 1e-6),
                "{found:?} and {expected:?}"
            );
        };
        close(maps[0].pairs(), &[0.12, 0.04, 0.4, 0.4]);
        close(maps[0].first().values(), &[0.16, 0.8]);
        close(maps[0].second().values(), &[0.52, 0.44]);
        assert!((maps[0].similarity() - 0.96).abs() < 1e-6);
    }

    #[test]
    fn exchanging_the_images_transposes_the_pairs() {
        let head = built(&BnNeckConfig::new());
        let terms = EmbeddingTerms::of(&head, features(&Device::default()));
        let map = |one, other| {
            let maps = similarity_maps(&terms.image(one), &terms.image(other));
            maps.expect("finite values").remove(0)
        };
        let (map, exchanged) = (map(0, 2), map(2, 0));
        let positions = 12;
        for first in 0..positions {
            for second in 0..positions {
                let one = map.pairs()[first * positions + second];
                let other = exchanged.pairs()[second * positions + first];
                assert!((one - other).abs() < 1e-6, "{one} and {other}");
            }
        }
        // Each image of a batch against the image of the same index.
        let both = similarity_maps(&terms, &terms).expect("finite values");
        assert!(both.iter().all(|map| (map.similarity() - 1.0).abs() < 1e-5));
    }

    /// A custom head without a closed form: the square of the mean.
    #[derive(Module, Debug)]
    struct Square {}

    impl Head for Square {
        fn forward(&self, features: Tensor<4>) -> ReidOutput {
            let squares = pool::average(features).square();
            ReidOutput::single(squares.clone(), squares)
        }
    }

    #[test]
    fn a_head_without_a_closed_form_shares_out_what_gradients_do_not_explain() {
        let device = Device::default().autodiff();
        let features = Tensor::<4>::from_data([[[[1.0, 3.0]]]], &device);
        let terms = EmbeddingTerms::of(&Square {}, features);
        assert!(!terms.tensor().device().is_autodiff());
        // Mean 2, embedding 4. The gradients are 2·2/2 = 2, the products 2 and 6, and 4 - 8 = -4 remains.
        let found: Vec<f32> = terms.tensor().clone().into_data().iter().collect();
        assert_eq!(found, [0.0, 4.0]);
    }

    #[test]
    fn a_model_that_is_trained_is_explained_in_evaluation_mode() {
        let device = Device::default().autodiff();
        let neck = BnNeckConfig::new().init(INPUT, 4, &fixtures::init(&device));
        let before = neck.bottleneck.running_mean.value().to_data();
        for terms in [
            EmbeddingTerms::of(&neck, features(&device)),
            EmbeddingTerms::by_autodiff(&neck, features(&device)),
        ] {
            assert!(!terms.tensor().device().is_autodiff());
            check_sums("a neck on an autodiff device", &neck, &terms);
        }
        assert_eq!(neck.bottleneck.running_mean.value().to_data(), before);
        assert!(neck.bottleneck.weight.val().is_require_grad());
    }

    #[test]
    fn an_embedding_of_zeros_has_the_similarity_0_and_nan_is_an_error() {
        let device = Device::default();
        let one = EmbeddingTerms::new(Tensor::ones([1, 2, 1, 2], &device));
        let zeros = EmbeddingTerms::new(Tensor::zeros([1, 2, 1, 2], &device));
        let maps = similarity_maps(&one, &zeros).expect("finite values");
        assert_eq!(maps[0].pairs(), [0.0; 4]);
        let nan = EmbeddingTerms::new(Tensor::full([1, 2, 1, 2], f32::NAN, &device));
        let error = similarity_maps(&one, &nan).expect_err("NaN").to_string();
        assert!(error.contains("row 0, column 0 is NaN"), "{error}");
    }

    #[test]
    #[should_panic(expected = "needs one image or 3 images to compare with 3, found 2")]
    fn two_images_against_three_panic() {
        let terms = EmbeddingTerms::averaged(features(&Device::default()));
        let two = EmbeddingTerms::new(terms.tensor().clone().narrow(0, 0, 2));
        let _ = similarity_maps(&two, &terms);
    }

    #[test]
    #[should_panic(expected = "needs embeddings of 6 dimensions, found 5")]
    fn embeddings_of_other_dimensions_panic() {
        let terms = EmbeddingTerms::averaged(features(&Device::default()));
        let _ = similarity_maps(&terms, &terms.dimensions(0, 5));
    }
}
