//! Evaluation with randomly drawn galleries of one image per identity.

use std::collections::BTreeMap;

use rand::RngExt;
use reid_core::{Identity, Seed};
use serde::{Deserialize, Serialize};

use crate::{
    Embeddings, Error, EvaluationConfig, Protocol, Relevance, Report, RetrievalTask, evaluate,
    evaluate::each_row, ranking::nearer,
};

/// Computes the single-gallery-shot CMC curve, the original protocol of CUHK03 (Li et al., CVPR 2014).
///
/// For each query and repeat, the gallery is one random image of each identity, drawn from those that the
/// protocol of the task does not ignore. The curve is the mean over repeats and over queries with a match;
/// its value at index `k - 1` is `CMC(k)`, for `k` up to `max_rank`. The same seed gives the same curve.
///
/// The new protocol of CUHK03 (Zhong et al., CVPR 2017) is [`Protocol::Market`].
///
/// # Errors
/// The errors of [`evaluate_rows`](crate::evaluate_rows), and if `repeats` or `max_rank` is 0.
///
/// ```
/// use reid_core::{Identity, Seed};
/// use reid_eval::{Distances, Embeddings, Metric, Protocol, RetrievalTask, single_gallery_shot};
///
/// let one = |values: &[f32], ids: &[i64]| {
///     Embeddings::new(values.to_vec(), 1, ids.iter().copied().map(Identity::new).collect())
/// };
/// // Identity 1 has two images: one is nearer than the image of identity 2, the other is farther.
/// let (query, gallery) = (one(&[0.0], &[1])?, one(&[1.0, 9.0, 5.0], &[1, 1, 2])?);
/// let distances = Distances::between(&query, &gallery, Metric::Euclidean)?;
/// let task = RetrievalTask::new(&distances, query.labels(), gallery.labels())
///     .with_protocol(&Protocol::NoCameras);
/// let cmc = single_gallery_shot(&task, 1_000, 2, Seed::new(1))?;
/// assert!((cmc[0] - 0.5).abs() < 0.05 && cmc[1] == 1.0);
/// # Ok::<(), reid_eval::Error>(())
/// ```
pub fn single_gallery_shot(
    task: &RetrievalTask<'_>,
    repeats: usize,
    max_rank: usize,
    seed: Seed,
) -> Result<Vec<f64>, Error> {
    for (setting, value) in [
        ("the number of repeats", repeats),
        ("the last rank of the CMC curve", max_rank),
    ] {
        if value == 0 {
            return Err(Error::Setting { setting });
        }
    }
    let mut images: BTreeMap<Identity, Vec<usize>> = BTreeMap::new();
    for (image, identity) in task.gallery.identities().iter().enumerate() {
        images.entry(*identity).or_default().push(image);
    }
    let seed = seed.named("single shot");
    let ranks = each_row(task, |rule, row| {
        let kept = images.values().filter_map(|images| {
            let images = images.iter().copied();
            let kept = images.filter(|&image| rule.relevance(image).is_ranked());
            let kept: Vec<usize> = kept.collect();
            (!kept.is_empty()).then_some(kept)
        });
        let kept: Vec<Vec<usize>> = kept.collect();
        let own = kept
            .iter()
            .position(|images| rule.relevance(images[0]) == Relevance::Match)?;
        let mut stream = seed.at(rule.query as u64).stream();
        let ranks = (0..repeats).map(|_| {
            let drawn: Vec<(usize, f32)> = kept
                .iter()
                .map(|images| images[stream.random_range(0..images.len())])
                .map(|image| (image, row[image]))
                .collect();
            let right = drawn[own];
            1 + drawn
                .iter()
                .filter(|image| nearer(image, &right).is_lt())
                .count()
        });
        Some(ranks.collect::<Vec<usize>>())
    })?;
    let matched: Vec<Vec<usize>> = ranks.into_iter().flatten().collect();
    if matched.is_empty() {
        return Err(Error::no_match(task.protocol, task.query, task.gallery));
    }
    let all = (matched.len() * repeats) as f64;
    let within = |rank: usize| {
        matched
            .iter()
            .flatten()
            .filter(|found| **found <= rank)
            .count()
    };
    Ok((1..=max_rank)
        .map(|rank| within(rank) as f64 / all)
        .collect())
}

/// The result of repeated trials with random galleries, the protocol of `VehicleID` (Liu et al., CVPR 2016).
///
/// ```
/// use reid_core::{Identity, Seed};
/// use reid_eval::{Embeddings, EvaluationConfig, Metric, Trials};
///
/// // Three images of identity 1 and two of identity 2. One of each is drawn as the gallery.
/// let identities = [1, 1, 1, 2, 2].map(Identity::new).to_vec();
/// let images = Embeddings::new(vec![0.0, 1.0, 2.0, 8.0, 9.0], 1, identities)?;
/// let config = EvaluationConfig::default().with_metric(Metric::Euclidean);
/// let trials = Trials::run(&images, 10, Seed::new(1), &config)?;
/// assert_eq!((trials.reports.len(), trials.reports[0].queries), (10, 3));
/// assert_eq!(trials.cmc[0], 1.0); // the image of the other identity is always farther
/// # Ok::<(), reid_eval::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Trials {
    /// The CMC curve, averaged over the trials: `cmc[k - 1]` is `CMC(k)`, from 0 to 1.
    pub cmc: Vec<f64>,
    /// The mAP, from 0 to 1, averaged over the trials. With one match per query, average precision is the reciprocal
    /// rank.
    pub mean_average_precision: f64,
    /// The report of each trial.
    pub reports: Vec<Report>,
}

impl Trials {
    /// Runs `trials` evaluations. In each, the gallery is one random image of each identity, and all other
    /// images are queries.
    ///
    /// Cameras are not used: the protocol of the configuration is replaced by [`Protocol::NoCameras`]. All
    /// junk, distractors and images of unknown identity are in the gallery. The same seed gives the same
    /// result.
    ///
    /// # Errors
    /// The errors of [`evaluate`](crate::evaluate()), and if `trials` is 0.
    pub fn run(
        images: &Embeddings,
        trials: usize,
        seed: Seed,
        config: &EvaluationConfig,
    ) -> Result<Self, Error> {
        if trials == 0 {
            return Err(Error::Setting {
                setting: "the number of trials",
            });
        }
        let mut of_identity: BTreeMap<Identity, Vec<usize>> = BTreeMap::new();
        for (image, identity) in images.identities().iter().enumerate() {
            of_identity.entry(*identity).or_default().push(image);
        }
        let config = config.clone().with_protocol(Protocol::NoCameras);
        let seed = seed.named("trials");
        let one = |trial: usize| {
            let mut stream = seed.at(trial as u64).stream();
            let (mut query, mut gallery) = (Vec::new(), Vec::new());
            for (identity, images) in &of_identity {
                let no_person = identity.is_junk() || *identity == Identity::new(0);
                if no_person || identity.is_unknown() {
                    gallery.extend(images);
                    continue;
                }
                let drawn = stream.random_range(0..images.len());
                gallery.push(images[drawn]);
                query.extend(
                    images
                        .iter()
                        .enumerate()
                        .filter(|(at, _)| *at != drawn)
                        .map(|it| it.1),
                );
            }
            query.sort_unstable();
            gallery.sort_unstable();
            evaluate(&images.select(&query), &images.select(&gallery), &config)
        };
        let reports: Vec<Report> = (0..trials).map(one).collect::<Result<_, _>>()?;
        let mean =
            |of: &dyn Fn(&Report) -> f64| reports.iter().map(of).sum::<f64>() / trials as f64;
        Ok(Self {
            cmc: (0..config.max_rank)
                .map(|at| mean(&|report| report.cmc[at]))
                .collect(),
            mean_average_precision: mean(&|report| report.mean_average_precision),
            reports,
        })
    }
}
