//! Custom protocols: every function that takes a protocol accepts one.

use rand::RngExt;
use reid_core::{Camera, Identity, Seed, Split};
use reid_eval::{
    Distances, Embeddings, Error, EvaluationConfig, ImageLabels, Labels, Metric, OpenSet,
    OpenSetConfig, Protocol, Relevance, RelevanceRule, Report, RerankConfig, Reranked, Resampling,
    RetrievalTask, Threshold, Verification, camera_pairs, evaluate, evaluate_distances,
    ranked_list, single_gallery_shot,
};

/// The protocol of Market-1501 under another name.
#[derive(Debug)]
struct Delegate;

impl RelevanceRule for Delegate {
    fn name(&self) -> &'static str {
        "delegate"
    }

    fn check(&self, query: &Labels, gallery: &Labels) -> Result<(), Error> {
        Protocol::Market.check(query, gallery)
    }

    fn relevance(&self, query: ImageLabels<'_>, gallery: ImageLabels<'_>) -> Relevance {
        Protocol::Market.relevance(query, gallery)
    }
}

/// Ignores images with the query's value of an attribute. With `modality`, it is a cross-modality protocol.
#[derive(Debug)]
struct Across(&'static str);

impl RelevanceRule for Across {
    fn name(&self) -> &'static str {
        "across"
    }

    fn check(&self, query: &Labels, gallery: &Labels) -> Result<(), Error> {
        query.expect_attribute(self.0, Split::Query)?;
        gallery.expect_attribute(self.0, Split::Gallery)
    }

    fn relevance(&self, query: ImageLabels<'_>, gallery: ImageLabels<'_>) -> Relevance {
        if query.attribute(self.0) == gallery.attribute(self.0) {
            Relevance::Ignored
        } else if query.identity() == gallery.identity() {
            Relevance::Match
        } else {
            Relevance::NonMatch
        }
    }
}

/// Ignores matches taken within `seconds` of the query. The rule stores the times of all images.
#[derive(Debug)]
struct Later {
    query: Vec<u64>,
    gallery: Vec<u64>,
    seconds: u64,
}

impl RelevanceRule for Later {
    fn name(&self) -> &'static str {
        "later"
    }

    fn check(&self, query: &Labels, gallery: &Labels) -> Result<(), Error> {
        let expected = [query.len(), gallery.len()];
        if [self.query.len(), self.gallery.len()] == expected {
            return Ok(());
        }
        let [queries, images] = expected;
        Err(Error::Protocol {
            protocol: self.name().to_owned(),
            reason: format!("expected times of {queries} queries and {images} gallery images"),
        })
    }

    fn relevance(&self, query: ImageLabels<'_>, gallery: ImageLabels<'_>) -> Relevance {
        let apart = self.query[query.index()].abs_diff(self.gallery[gallery.index()]);
        match Protocol::NoCameras.relevance(query, gallery) {
            Relevance::Match if apart <= self.seconds => Relevance::Ignored,
            relevance => relevance,
        }
    }
}

/// Random embeddings with cameras and an attribute. With `first` = -2, some identities are unknown, junk or
/// distractors.
fn side(seed: Seed, first: i64, images: usize) -> Embeddings {
    let mut stream = seed.stream();
    let values = (0..images * 4).map(|_| stream.random_range(-1.0..1.0_f32));
    let values = values.collect();
    let identities = (0..images).map(|_| Identity::new(stream.random_range(first..6)));
    let identities = identities.collect();
    let cameras = (0..images).map(|_| Camera::new(stream.random_range(1..4)));
    let cameras = cameras.collect();
    let modalities = (0..images).map(|_| {
        let modality = ["visible", "infrared", ""][stream.random_range(0..3_usize)];
        Some(modality.to_owned())
    });
    let modalities = modalities.collect();
    Embeddings::new(values, 4, identities)
        .and_then(|side| side.with_cameras(cameras))
        .and_then(|side| side.with_attribute("modality", modalities))
        .expect("valid embeddings")
}

/// Formats a report without the name of the protocol.
fn without_protocol(report: &Report) -> String {
    let mut report = report.clone();
    report.config = EvaluationConfig::default();
    format!("{report:?}")
}

#[test]
fn every_function_accepts_a_custom_protocol() {
    for at in 0..12 {
        let seed = Seed::new(7).named("sides").at(at);
        let query = side(seed.named("query"), -2, 20);
        let gallery = side(seed.named("gallery"), -2, 50);
        let (one, other) = (Protocol::Market, Protocol::custom(Delegate));
        let configs = [&one, &other].map(EvaluationConfig::from);

        let [market, custom] = configs.each_ref().map(|config| {
            let report = evaluate(&query, &gallery, config).expect("matches");
            let lists = (0..query.len())
                .map(|at| ranked_list(&query, &gallery, config, at, 9).expect("a query"));
            let reranked = Reranked::new(&query, &gallery, &RerankConfig::default());
            let reranked = reranked.expect("finite");
            let again = reranked.evaluate(query.labels(), gallery.labels(), config);
            let lists: Vec<_> = lists.collect();
            (
                without_protocol(&report),
                lists,
                without_protocol(&again.expect("matches")),
            )
        });
        assert_eq!(market, custom);

        let distances =
            Distances::between(&query, &gallery, Metric::Cosine).expect("equal dimensions");
        let task = RetrievalTask::new(&distances, query.labels(), gallery.labels());
        let [market, custom] = [&one, &other].map(|protocol| {
            let task = task.with_protocol(protocol);
            let few = Resampling::default().with_samples(20);
            (
                Verification::from_task(&task).expect("pairs"),
                Threshold::calibrate(&task, 0.2, &few).ok(),
                OpenSet::from_task(&task, &OpenSetConfig::default()).ok(),
                camera_pairs(&task, &EvaluationConfig::default()).expect("cameras"),
                single_gallery_shot(&task, 5, 10, Seed::new(1)).expect("matches"),
            )
        });
        assert_eq!(market, custom);
    }
}

#[test]
fn images_of_the_query_modality_are_ignored() {
    let protocol = Protocol::custom(Across("modality"));
    let query = side(Seed::new(8).named("query"), 1, 30);
    let gallery = side(Seed::new(8).named("gallery"), -2, 80);
    let report = evaluate(&query, &gallery, &protocol).expect("matches");
    let mut found = 0;
    for result in &report.per_query {
        let config = EvaluationConfig::from(&protocol);
        let list = ranked_list(&query, &gallery, &config, result.query, 99).expect("a query");
        let own = query.labels().at(result.query);
        // The expected rank by definition, from the whole ranked list.
        let ranked = list
            .entries
            .iter()
            .map(|entry| gallery.labels().at(entry.gallery));
        let ranked: Vec<ImageLabels<'_>> = ranked
            .filter(|image| image.identity().is_labelled())
            .filter(|image| image.attribute("modality") != own.attribute("modality"))
            .collect();
        let first = ranked
            .iter()
            .position(|image| image.identity() == own.identity());
        assert_eq!(result.first_match, first.map(|index| index + 1));
        found += usize::from(first.is_some());
    }
    assert!(found > 5, "{found}: the problem is too easy");
}

#[test]
fn a_rule_may_hold_data_beside_the_labels() {
    let labels =
        |identities: &[i64]| Labels::new(identities.iter().copied().map(Identity::new).collect());
    let (query, gallery) = (labels(&[1]), labels(&[1, 2, 1]));
    let rule = |times: &[u64]| {
        Protocol::custom(Later {
            query: vec![100],
            gallery: times.to_vec(),
            seconds: 10,
        })
    };
    let evaluate = |protocol: &Protocol| {
        let config = EvaluationConfig::from(protocol);
        evaluate_distances(&[0.1, 0.2, 0.3], &query, &gallery, &config)
    };
    let report = evaluate(&rule(&[95, 100, 200])).expect("a match");
    assert_eq!(report.per_query[0].first_match, Some(2));
    let refused = evaluate(&rule(&[95])).expect_err("one time for three images");
    assert_eq!(
        refused.to_string(),
        "the protocol `later`: expected times of 1 queries and 3 gallery images"
    );
    let none = evaluate(&rule(&[95, 0, 105])).expect_err("no match");
    assert_eq!(
        none.to_string(),
        "mAP and CMC need at least one query with a match under the protocol `later`: its rule found no \
         match among 1 queries x 3 gallery images"
    );
}

#[test]
fn a_missing_attribute_is_rejected_by_name() {
    let set = Embeddings::new(vec![1.0], 1, vec![Identity::new(1)]).expect("one");
    let error = evaluate(&set, &set, &Protocol::custom(Across("modality"))).expect_err("missing");
    assert_eq!(
        error.to_string(),
        "the query has no attribute `modality`, found no attributes: \
         set one value per image with `Labels::with_attribute`"
    );
}

#[test]
fn a_report_of_a_custom_protocol_is_read_and_needs_its_rule_for_evaluation() {
    let query = side(Seed::new(9).named("query"), 1, 20);
    let gallery = side(Seed::new(9).named("gallery"), 1, 40);
    let report = evaluate(&query, &gallery, &Protocol::custom(Delegate)).expect("matches");
    assert!(
        report
            .to_string()
            .starts_with("delegate protocol, cosine distance")
    );
    let json = serde_json::to_string(&report).expect("plain data");
    let read: Report = serde_json::from_str(&json).expect("a report");
    assert_eq!(read, report);
    let error = evaluate(&query, &gallery, &read.config).expect_err("no rule");
    assert!(
        error
            .to_string()
            .contains("protocol: expected market, no-cameras"),
        "{error}"
    );
    let config = read.config.with_protocol(Protocol::custom(Delegate));
    assert_eq!(evaluate(&query, &gallery, &config), Ok(report));
}
