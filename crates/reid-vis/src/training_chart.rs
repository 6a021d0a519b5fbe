//! Training chart: losses, learning rates and evaluation scores per epoch.

use std::path::Path;

use crate::{Error, LineChart, Series, picture::write_whole, plot::stacked};

/// The curves of a training run. In every series, x is the epoch; it may be fractional.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingCurves {
    /// Losses, one series each, such as the total loss and its terms.
    pub losses: Vec<Series>,
    /// Learning rates, one series per parameter group. The axis is logarithmic, so a rate of 0 is not
    /// drawn.
    pub learning_rates: Vec<Series>,
    /// Evaluation scores, such as mAP and Rank-1, as fractions from 0 to 1. They are drawn as
    /// percentages.
    pub scores: Vec<Series>,
}

/// Writes losses, learning rates and scores as one SVG file.
///
/// The file holds three charts, one below the other, with a common epoch axis. A chart without series is
/// omitted.
///
/// Missing folders are created. The file is written atomically.
///
/// ```
/// use reid_vis::{Series, TrainingCurves, training_chart};
///
/// let curves = TrainingCurves {
///     losses: vec![Series::new("triplet", [(1.0, 0.8), (2.0, 0.5), (3.0, 0.4)])],
///     learning_rates: vec![Series::new("all", [(1.0, 3.5e-5), (2.0, 3.5e-4), (3.0, 3.5e-4)])],
///     scores: vec![Series::new("mAP", [(3.0, 0.62)])],
/// };
/// let folder = tempfile::tempdir()?;
/// training_chart(folder.path().join("training.svg"), &curves)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If the file cannot be written ([`Error::Write`]).
pub fn training_chart(path: impl AsRef<Path>, curves: &TrainingCurves) -> Result<(), Error> {
    write_whole(path.as_ref(), stacked(&charts(curves)).as_bytes())
}

fn charts(curves: &TrainingCurves) -> Vec<LineChart> {
    let TrainingCurves {
        losses,
        learning_rates,
        scores,
    } = curves;
    let learning_rate = LineChart::new("Learning rate").with_logarithmic_y();
    let panels = [
        (LineChart::new("Loss"), "loss", losses.clone()),
        (learning_rate, "learning rate", learning_rates.clone()),
        (
            LineChart::new("Evaluation"),
            "score (%)",
            scores.iter().map(percent).collect(),
        ),
    ];
    let drawn = panels.into_iter().filter(|panel| !panel.2.is_empty());
    drawn
        .map(|(chart, unit, series)| {
            let chart = chart.with_axes("epoch", unit);
            series.into_iter().fold(chart, LineChart::with_series)
        })
        .collect()
}

fn percent(scores: &Series) -> Series {
    let points = scores.points.iter();
    Series::new(&scores.name, points.map(|(x, y)| (*x, 100.0 * y)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(curves: &TrainingCurves) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a/training.svg");
        training_chart(&path, curves).expect("drawn");
        std::fs::read_to_string(&path).expect("written")
    }

    #[test]
    fn every_chart_shows_its_series() {
        let curves = TrainingCurves {
            losses: vec![
                Series::new("identity", [(1.0, 6.6), (2.0, 5.0)]),
                Series::new("triplet", [(1.0, f64::NAN), (2.0, 0.5)]),
            ],
            learning_rates: vec![Series::new("backbone", [(1.0, 0.0), (2.0, 1e-3)])],
            scores: vec![Series::new("mAP", [(2.0, 0.5)])],
        };
        let svg = drawn(&curves);
        for text in ["Loss", "identity", "triplet", "backbone", "mAP", "1e-3"] {
            assert!(svg.contains(text), "{text} is not in {svg}");
        }
    }

    #[test]
    fn scores_are_percentages() {
        let scores = percent(&Series::new("mAP", [(2.0, 0.5)]));
        assert_eq!(scores.points, [(2.0, 50.0)]);
    }

    #[test]
    fn empty_curves_make_an_empty_chart() {
        assert!(drawn(&TrainingCurves::default()).contains("<svg"));
        let nameless = TrainingCurves {
            losses: vec![Series::default()],
            ..TrainingCurves::default()
        };
        assert!(drawn(&nameless).contains("no data"));
    }
}
