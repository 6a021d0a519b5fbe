//! Properties that hold for every ranking.

use proptest::prelude::{Just, Strategy, prop_assert, prop_assert_eq, prop_assume, proptest};
use reid_core::{Camera, Identity};
use reid_eval::{
    AveragePrecision, Error, EvaluationConfig, Labels, Report, Unmatched, evaluate_distances,
};

const QUERIES: usize = 4;

/// A gallery image: identity from -1 (junk), camera, and its distance to each query.
type Image = (i64, u32, [f32; QUERIES]);

/// Galleries without ties: the distances of a query are distinct values from a shuffled list.
fn galleries() -> impl Strategy<Value = Vec<Image>> {
    (1_usize..25)
        .prop_flat_map(|images| {
            let shuffled = Just((0_u8..25).collect::<Vec<_>>()).prop_shuffle();
            let labels = proptest::collection::vec((-1_i64..4, 1_u32..4), images);
            (labels, proptest::collection::vec(shuffled, QUERIES))
        })
        .prop_map(|(labels, distances)| {
            let to_queries = |image: usize| {
                std::array::from_fn(|query: usize| f32::from(distances[query][image]))
            };
            let images = labels.into_iter().enumerate();
            images
                .map(|(at, (identity, camera))| (identity, camera, to_queries(at)))
                .collect()
        })
}

fn report(images: &[Image], config: &EvaluationConfig) -> Result<Report, Error> {
    let labels = |of: &[(i64, u32)]| {
        Labels::new(of.iter().map(|of| Identity::new(of.0)).collect())
            .with_cameras(of.iter().map(|of| Camera::new(of.1)).collect())
            .expect("one camera each")
    };
    let gallery: Vec<_> = images.iter().map(|image| (image.0, image.1)).collect();
    let distances: Vec<f32> = (0..QUERIES)
        .flat_map(|query| images.iter().map(move |image| image.2[query]))
        .collect();
    let query = labels(&[(1, 1), (2, 1), (2, 2), (3, 1)]);
    evaluate_distances(&distances, &query, &labels(&gallery), config)
}

fn kinds() -> [AveragePrecision; 4] {
    ["non-interpolated", "trapezoid", "at-5", "at-5-capped"]
        .map(|kind| kind.parse().expect("a kind"))
}

proptest! {
    #[test]
    fn the_order_of_the_gallery_does_not_matter(
        (images, shuffled) in galleries().prop_flat_map(|it| (Just(it.clone()), Just(it).prop_shuffle()))
    ) {
        let config = EvaluationConfig::default();
        prop_assert_eq!(report(&images, &config), report(&shuffled, &config));
    }

    #[test]
    fn junk_changes_nothing(images in galleries(), junk in galleries()) {
        let config = EvaluationConfig::default();
        let Ok(before) = report(&images, &config) else { return Ok(()) };
        let junk = junk.into_iter().map(|(_, camera, distances)| (-1, camera, distances));
        let mixed: Vec<Image> = junk.chain(images).collect();
        let after = report(&mixed, &config);
        let mut expected = before;
        expected.gallery = mixed.len();
        prop_assert_eq!(after, Ok(expected));
    }

    #[test]
    fn an_additional_non_match_never_helps(images in galleries(), distances: [u8; QUERIES]) {
        let config = EvaluationConfig::default();
        let Ok(before) = report(&images, &config) else { return Ok(()) };
        let mut more = images;
        more.push((0, 1, distances.map(|distance| f32::from(distance % 25) - 0.5)));
        let after = report(&more, &config).expect("still matches");
        prop_assert!(after.mean_average_precision <= before.mean_average_precision);
        prop_assert!(after.mean_inverse_negative_penalty <= before.mean_inverse_negative_penalty);
        prop_assert!(after.cmc.iter().zip(&before.cmc).all(|(after, before)| after <= before));
    }

    #[test]
    fn metrics_are_fractions_and_the_curve_is_ascending(images in galleries(), count_all: bool) {
        let unmatched = if count_all { Unmatched::CountAsZero } else { Unmatched::Skip };
        for kind in kinds() {
            let config = EvaluationConfig::default()
                .with_average_precision(kind)
                .with_unmatched(unmatched)
                .with_max_rank(30);
            let Ok(report) = report(&images, &config) else { return Ok(()) };
            let fraction = 0.0..=1.0;
            prop_assert!(fraction.contains(&report.mean_average_precision));
            prop_assert!(fraction.contains(&report.mean_inverse_negative_penalty));
            prop_assert!(report.cmc.iter().all(|value| fraction.contains(value)));
            prop_assert!(report.cmc.is_sorted());
            prop_assert_eq!(report.cmc.len(), 30);
            // The gallery has at most 24 images, so every match has rank 24 at most.
            let matched = match unmatched {
                Unmatched::Skip => 1.0,
                Unmatched::CountAsZero => report.matched_queries as f64 / 4.0,
            };
            prop_assert_eq!(report.cmc[23..].to_vec(), vec![matched; 7]);
        }
    }

    #[test]
    fn average_precision_definitions_are_ordered(images in galleries()) {
        let precision = |kind| {
            let config = EvaluationConfig::default().with_average_precision(kind);
            report(&images, &config).map(|report| report.mean_average_precision)
        };
        let [full, trapezoid, truncated, capped] = kinds().map(precision);
        prop_assume!(full.is_ok());
        // (i-1)/(r-1) ≤ i/r for i ≤ r, so a trapezoid is never higher than its right edge.
        let rounding = 1e-12;
        prop_assert!(trapezoid? <= full.clone()? + rounding);
        prop_assert!(truncated.clone()? <= full? + rounding);
        prop_assert!(truncated? <= capped? + rounding);
    }
}
