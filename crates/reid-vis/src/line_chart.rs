//! Line chart: named series over a common x axis, as SVG.

use std::path::Path;

use crate::{Error, axis::Scale, picture::write_whole, plot::stacked};

/// A named series of points, in drawing order.
///
/// A point is skipped, and the line is interrupted there, if a coordinate is not finite, exceeds 1e100 in
/// magnitude, or is not positive on a logarithmic axis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// The name shown in the legend.
    pub name: String,
    /// The points as (x, y).
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// A series with this name and these points.
    pub fn new(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self {
            name: name.into(),
            points: points.into_iter().collect(),
        }
    }
}

/// A line chart of named series over a common x axis, as SVG.
///
/// Series differ by colour (the colour-blind-safe palette of Okabe and Ito) and by the shape of their
/// marks. Any data can be drawn: no points, a single point, or equal points.
///
/// ```
/// use reid_vis::{LineChart, Series};
///
/// let chart = LineChart::new("Loss")
///     .with_axes("epoch", "mean over the batches")
///     .with_series(Series::new("triplet", [(1.0, 0.9), (2.0, f64::NAN), (3.0, 0.3)]))
///     .with_series(Series::new("identity", [(1.0, 6.6), (2.0, 5.1), (3.0, 4.0)]));
/// let svg = chart.to_svg();
/// assert!(svg.starts_with("<svg") && svg.contains("triplet"));
/// # Ok::<(), reid_vis::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LineChart {
    pub(crate) title: String,
    pub(crate) x_label: String,
    pub(crate) y_label: String,
    pub(crate) y_scale: Scale,
    pub(crate) series: Vec<Series>,
}

impl LineChart {
    /// A chart without series.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            x_label: String::new(),
            y_label: String::new(),
            y_scale: Scale::Linear,
            series: Vec::new(),
        }
    }

    /// Sets the axis labels. Include the units.
    #[must_use]
    pub fn with_axes(self, x_label: impl Into<String>, y_label: impl Into<String>) -> Self {
        Self {
            x_label: x_label.into(),
            y_label: y_label.into(),
            ..self
        }
    }

    /// Makes the y axis logarithmic: for values over several powers of ten, such as learning rates.
    #[must_use]
    pub fn with_logarithmic_y(self) -> Self {
        Self {
            y_scale: Scale::Logarithmic,
            ..self
        }
    }

    /// Adds a series.
    #[must_use]
    pub fn with_series(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }

    /// The chart as an SVG document.
    #[must_use]
    pub fn to_svg(&self) -> String {
        stacked(std::slice::from_ref(self))
    }

    /// Writes the chart as an SVG file. Missing folders are created. The file is written atomically.
    ///
    /// # Errors
    /// If the file cannot be written ([`Error::Write`]).
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        write_whole(path.as_ref(), self.to_svg().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_in_the_chart_and_escaped() {
        let chart = LineChart::new("P < K")
            .with_axes("step \u{1}", "loss & co")
            .with_series(Series::new("ours <best>", [(0.0, 1.0), (1.0, 2.0)]));
        let svg = chart.to_svg();
        for text in [
            "P &#60; K",
            "step  ",
            "loss &#38; co",
            "ours &#60;best&#62;",
        ] {
            assert!(svg.contains(text), "{text} is not in {svg}");
        }
        assert!(
            !svg.contains('\u{1}'),
            "XML does not allow control characters"
        );
    }

    #[test]
    fn degenerate_data_is_drawn() {
        let extremes = [f64::NAN, f64::INFINITY, f64::MIN, 1e-320, -0.0, 3.0];
        let all = extremes.iter().flat_map(|x| extremes.map(|y| (*x, y)));
        for points in [
            vec![],
            vec![(0.0, 0.0)],
            vec![(2.0, 5.0); 3],
            vec![(f64::NAN, f64::INFINITY)],
            all.collect(),
        ] {
            let chart = LineChart::new("odd").with_series(Series::new("odd one", points));
            assert!(chart.to_svg().contains("odd one"));
            assert!(chart.with_logarithmic_y().to_svg().contains("odd one"));
        }
        assert!(LineChart::new("none").to_svg().contains("no data"));
    }

    #[test]
    fn a_missing_point_interrupts_the_line() {
        let lines = |middle| {
            let points = [1.0, 2.0, middle, 4.0, 5.0].into_iter().zip([0.0; 5]);
            let series = Series::new("s", points);
            let chart = LineChart::new("c").with_series(series);
            chart.to_svg().matches("<polyline").count()
        };
        assert_eq!(lines(f64::NAN), lines(3.0) + 1);
    }

    #[test]
    fn saving_a_chart_creates_its_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("figures/chart.svg");
        LineChart::new("saved").save(&path).expect("saved");
        let svg = std::fs::read_to_string(&path).expect("read");
        assert!(svg.trim_end().ends_with("</svg>"), "{svg}");
    }

    #[test]
    fn the_error_names_the_file_whose_folder_cannot_be_created() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "in the way").expect("written");
        let error = LineChart::new("c").save(file.join("c.svg"));
        let error = error.expect_err("a file is in the way").to_string();
        assert!(error.starts_with("cannot write "), "{error}");
        assert!(error.contains("c.svg: "), "{error}");
    }
}
