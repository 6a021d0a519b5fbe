//! Track bank: the documented equations, forgetting, saving, and the errors for invalid input.

use std::collections::BTreeMap;

use proptest::prelude::*;
use reid_core::{Identity, Track};
use reid_eval::{
    DistanceRows, Distances, Embeddings, Error, Labels, Metric, TrackBank, TrackBankConfig,
};

fn embeddings(dimensions: usize, values: &[f32]) -> Embeddings {
    let rows = values.len() / dimensions;
    Embeddings::from_parts(values.to_vec(), dimensions, Labels::unknown(rows)).expect("whole rows")
}

fn bank(config: TrackBankConfig) -> TrackBank {
    TrackBank::new(config).expect("valid settings")
}

const ONE: Track = Track::new(1);
const TWO: Track = Track::new(2);

fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6, "{found} and {expected}");
    }
}

#[test]
fn the_mean_follows_the_equation() {
    let mut bank = bank(TrackBankConfig::default().with_momentum(0.75));
    bank.update(0, &[ONE], &embeddings(2, &[3.0, 0.0]))
        .expect("two values");
    assert_eq!(bank.mean(ONE), Some(&[1.0, 0.0][..]));
    // v = 0.75 · (1, 0) + 0.25 · (0, 1), of length √0.625.
    bank.update(1, &[ONE], &embeddings(2, &[0.0, 0.2]))
        .expect("two values");
    let length = 0.625_f32.sqrt();
    assert_close(
        bank.mean(ONE).expect("a track"),
        &[0.75 / length, 0.25 / length],
    );
    assert_eq!((bank.updates(ONE), bank.updates(TWO)), (2, 0));
    let found = bank
        .distances(2, &embeddings(2, &[5.0, 0.0, 0.0, 0.0]))
        .expect("two values");
    // A zero vector has distance 1.
    assert_close(&found.values, &[1.0 - 0.75 / length, 1.0]);
}

#[test]
fn the_nearest_of_the_last_embeddings_counts() {
    let mut bank = bank(TrackBankConfig::default().with_nearest_of(2));
    let new = embeddings(2, &[1.0, 0.0]);
    for (frame, values) in [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]].iter().enumerate() {
        bank.update(frame as u64, &[ONE], &embeddings(2, values))
            .expect("two values");
        let nearest = bank
            .distances(frame as u64, &new)
            .expect("two values")
            .values;
        // The first embedding is dropped when the third is added.
        assert_close(&nearest, &[[0.0, 0.0, 1.0][frame]]);
    }
}

#[test]
fn a_track_is_forgotten_after_max_age_frames() {
    let mut bank = bank(TrackBankConfig::default().with_max_age(3));
    let one = embeddings(2, &[1.0, 0.0]);
    bank.update(10, &[ONE], &one).expect("two values");
    bank.update(11, &[TWO], &one).expect("two values");
    let tracks =
        |bank: &TrackBank, frame| bank.distances(frame, &one).expect("a later frame").tracks;
    assert_eq!(tracks(&bank, 13), [ONE, TWO]);
    assert_eq!(tracks(&bank, 14), [TWO]);
    assert_eq!(tracks(&bank, 15), []);
    assert_eq!(bank.advance(13), Ok(vec![]));
    let forgotten = bank.update(14, &[TWO], &one);
    assert_eq!(forgotten, Ok(vec![ONE]));
    assert_eq!(bank.advance(18), Ok(vec![TWO]));
    assert_eq!(bank.tracks().count(), 0);
    let none = bank.distances(18, &one).expect("no tracks");
    assert_eq!((none.row(0), none.tracks.len()), (&[][..], 0));
}

#[test]
fn invalid_input_is_rejected_and_changes_nothing() {
    let mut bank = bank(TrackBankConfig::default());
    bank.update(5, &[ONE], &embeddings(2, &[1.0, 0.0]))
        .expect("two values");
    let before = bank.clone();
    let errors = [
        bank.update(6, &[ONE, TWO], &embeddings(2, &[1.0, 0.0])),
        bank.update(6, &[TWO], &embeddings(3, &[1.0, 0.0, 0.0])),
        bank.update(4, &[TWO], &embeddings(2, &[1.0, 0.0])),
        bank.advance(4),
        bank.distances(6, &embeddings(1, &[1.0]))
            .map(|found| found.tracks),
    ];
    let messages = errors.map(|error| error.expect_err("invalid").to_string());
    let expected = [
        "expected 1 tracks, one per image, found 2",
        "the track bank expects embeddings of 2 dimensions, found 3",
        "expected frame 5 or a later one, found frame 4",
        "expected frame 5 or a later one, found frame 4",
        "the track bank expects embeddings of 2 dimensions, found 1",
    ];
    assert_eq!(messages, expected);
    assert_eq!(bank, before);

    let config = TrackBankConfig::default()
        .with_momentum(1.0)
        .with_nearest_of(0)
        .with_max_age(0);
    let error = TrackBank::new(config).expect_err("three settings are out of range");
    assert!(matches!(&error, Error::TrackBank { problems } if problems.iter().count() == 3));
    let momentum = TrackBankConfig::default().with_momentum(f64::NAN);
    assert!(TrackBank::new(momentum).is_err());
}

#[test]
fn a_bank_that_is_not_valid_is_not_read() {
    let mut bank = bank(TrackBankConfig::default().with_nearest_of(2));
    bank.update(5, &[ONE], &embeddings(2, &[1.0, 0.0]))
        .expect("two values");
    let json = serde_json::to_string(&bank).expect("JSON");
    for (old, new, reason) in [
        (
            "\"last\":5",
            "\"last\":6",
            "a last frame of at most 5, found 6",
        ),
        (
            "\"count\":1",
            "\"count\":2",
            "2 last embeddings, found 2 and 1",
        ),
        (
            "\"mean\":[1.0,0.0]",
            "\"mean\":[1.0]",
            "with 2 values, found one of length 1 with 1",
        ),
        (
            "\"mean\":[1.0,0.0]",
            "\"mean\":[1.0,1.0]",
            "vectors of length 1",
        ),
        ("\"dimensions\":2", "\"dimensions\":3", "with 3 values"),
        (
            "\"momentum\":0.9",
            "\"momentum\":9.0",
            "momentum: expected at least 0 and below 1",
        ),
        (
            "\"frame\":5",
            "\"frame\":5,\"speed\":1",
            "unknown field `speed`",
        ),
    ] {
        let changed = json.replacen(old, new, 1);
        assert_ne!(changed, json, "{old}");
        let error = serde_json::from_str::<TrackBank>(&changed).expect_err("not a valid bank");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The mean equals a loop in double precision, its distances are those of `Distances`, and a bank that is
    /// saved and read in between ends with the same values.
    #[test]
    fn banks_equal_a_plain_loop_and_resume(
        rows in prop::collection::vec((0_u64..4, prop::array::uniform3(-5.0_f32..5.0)), 1..40),
        recent in 0_usize..4,
        momentum in 0.0..0.99,
    ) {
        let mut config = TrackBankConfig::default().with_momentum(momentum).with_max_age(100);
        if recent > 0 {
            config = config.with_nearest_of(recent);
        }
        let (mut whole, mut saved) = (bank(config), bank(config));
        let mut means: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        let unit = |values: Vec<f64>| -> Vec<f64> {
            let length = values.iter().map(|value| value * value).sum::<f64>().sqrt();
            values.iter().map(|value| if length > 0.0 { value / length } else { 0.0 }).collect()
        };
        for (frame, (track, values)) in rows.iter().enumerate() {
            let one = embeddings(3, values);
            whole.update(frame as u64, &[Track::new(*track)], &one).expect("three values");
            saved.update(frame as u64, &[Track::new(*track)], &one).expect("three values");
            let json = serde_json::to_string(&saved).expect("JSON");
            saved = serde_json::from_str(&json).expect("a bank");
            let new = unit(values.iter().map(|value| f64::from(*value)).collect());
            let mean = means.entry(*track).or_insert_with(|| new.clone());
            let sums = mean.iter().zip(&new).map(|(m, u)| momentum * m + (1.0 - momentum) * u);
            *mean = unit(sums.collect());
        }
        prop_assert_eq!(&whole, &saved);
        for (track, mean) in &means {
            let found = whole.mean(Track::new(*track)).expect("a track");
            for (found, expected) in found.iter().zip(mean) {
                // A sum near zero amplifies rounding.
                prop_assert!((f64::from(*found) - expected).abs() < 1e-3);
            }
        }
        let detections = embeddings(3, &[1.0, 2.0, 3.0, -3.0, 0.5, 0.0]);
        let found = whole.distances(rows.len() as u64, &detections).expect("three values");
        prop_assert_eq!(found.tracks.len(), means.len());
        if recent == 0 {
            let values = found.tracks.iter().flat_map(|track| whole.mean(*track).expect("a track").to_vec());
            let ids = vec![Identity::UNKNOWN; found.tracks.len()];
            let known = Embeddings::new(values.collect(), 3, ids).expect("whole rows");
            let distances = Distances::between(&detections, &known, Metric::Cosine).expect("three values");
            let mut expected = vec![f32::NAN; found.values.len()];
            distances.fill(0..2, &mut expected).expect("finite");
            prop_assert_eq!(&found.values, &expected);
        }
    }
}
