//! CMC chart: the matching rate at each rank, for one or several evaluations.

use std::path::Path;

use reid_eval::Report;

use crate::{Error, LineChart, Series};

/// Writes the CMC (cumulative matching characteristic) curves of named reports as one SVG chart.
///
/// The x axis is the rank `k`. The y axis is the percentage of queries with a match among the first `k`
/// gallery images. The legend gives each report's mAP and Rank-1.
///
/// Missing folders are created. The file is written atomically.
///
/// ```
/// use reid_core::Identity;
/// use reid_eval::{EvaluationConfig, Labels, Protocol, evaluate_distances};
/// use reid_vis::cmc_chart;
///
/// // One query of identity 1; the gallery holds identities 1, 2 and 3.
/// let query = Labels::new(vec![Identity::new(1)]);
/// let gallery = Labels::new(vec![Identity::new(1), Identity::new(2), Identity::new(3)]);
/// let config = EvaluationConfig::default().with_protocol(Protocol::NoCameras);
/// let baseline = evaluate_distances(&[0.9, 0.4, 0.5], &query, &gallery, &config)?;
/// let ours = evaluate_distances(&[0.2, 0.4, 0.5], &query, &gallery, &config)?;
///
/// let folder = tempfile::tempdir()?;
/// cmc_chart(folder.path().join("cmc.svg"), &[("baseline", &baseline), ("ours", &ours)])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If the file cannot be written ([`Error::Write`]).
pub fn cmc_chart(path: impl AsRef<Path>, reports: &[(&str, &Report)]) -> Result<(), Error> {
    let chart =
        LineChart::new("Cumulative matching characteristic").with_axes("rank", "matching rate (%)");
    let series = reports.iter().map(|(name, report)| series(name, report));
    series.fold(chart, LineChart::with_series).save(path)
}

fn series(name: &str, report: &Report) -> Series {
    let map = 100.0 * report.mean_average_precision;
    let rank_1 = 100.0 * report.rank(1);
    let name = format!("{name} (mAP {map:.1}, Rank-1 {rank_1:.1})");
    let ranks = (1..).map(|rank: u32| f64::from(rank));
    let rates = report.cmc.iter().map(|rate| 100.0 * rate);
    Series::new(name, ranks.zip(rates))
}

#[cfg(test)]
mod tests {
    use reid_core::Identity;
    use reid_eval::{EvaluationConfig, Labels, Protocol, evaluate_distances};

    use super::*;

    /// One query whose match is at rank 2 of 2: mAP 1/2, CMC 0, 1, 1, ….
    fn report() -> Report {
        let labels = |ids: &[i64]| Labels::new(ids.iter().copied().map(Identity::new).collect());
        let config = EvaluationConfig::default().with_protocol(Protocol::NoCameras);
        let report = evaluate_distances(&[0.2, 0.1], &labels(&[1]), &labels(&[1, 2]), &config);
        report.expect("one match")
    }

    #[test]
    fn matching_rates_are_percentages_by_rank() {
        let series = series("ours", &report());
        assert_eq!(series.name, "ours (mAP 50.0, Rank-1 0.0)");
        assert_eq!(series.points[..3], [(1.0, 0.0), (2.0, 100.0), (3.0, 100.0)]);
    }

    #[test]
    fn any_reports_make_a_chart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cmc.svg");
        let mut empty = report();
        empty.cmc.clear();
        empty.mean_average_precision = f64::NAN;
        let report = report();
        for reports in [
            vec![],
            vec![("empty", &empty)],
            vec![("ours", &report), ("theirs", &report), ("empty", &empty)],
        ] {
            cmc_chart(&path, &reports).expect("drawn");
            let svg = std::fs::read_to_string(&path).expect("written");
            assert!(reports.iter().all(|(name, _)| svg.contains(name)), "{svg}");
        }
    }
}
