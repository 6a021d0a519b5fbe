//! Plot: draws line charts, one below the other, as SVG.

use crate::{
    LineChart, Series,
    axis::{Axis, Scale},
    mark::Mark,
    svg::{Anchor, Colour, Pixel, Sheet, TextStyle},
};

// Lengths are in whole pixels, at twice the resolution of a screen.
const WIDTH: i32 = 1280;
const PLOT_HEIGHT: i32 = 540;
const LEFT: i32 = 150;
const RIGHT: i32 = 1240;
const TITLE_BASE: i32 = 70;
const LEGEND_LINE: i32 = 44;
/// Space between the legend and the plot.
const LEGEND_GAP: i32 = 26;
/// Space below the plot for the ticks and the axis label.
const BELOW: i32 = 120;
const TICK: i32 = 10;
/// Length of the line that stands for a series in the legend.
const SAMPLE: i32 = 60;
const TITLE_SIZE: u16 = 34;
const LABEL_SIZE: u16 = 29;
const TICK_SIZE: u16 = 26;
/// Assumed width of a letter of the tick and legend font, chosen generously.
const LETTER: i32 = 16;

const INK: Colour = Colour(30, 30, 30);
const FRAME: Colour = Colour(90, 90, 90);
const GRID: Colour = Colour(226, 226, 226);
// Position of a text relative to its point, see [`TextStyle::drop`].
const ABOVE: f32 = -0.2;
const AROUND: f32 = 0.35;
const BELOW_POINT: f32 = 0.76;
const LINE_WIDTH: u32 = 4;
/// A series with at least twice this many points has marks on only some of its points.
const MARKS: usize = 10;

/// Draws the charts one below the other, with a common x axis, as an SVG document.
pub(crate) fn stacked(charts: &[LineChart]) -> String {
    let all = charts.iter().flat_map(|chart| &chart.series);
    let x = Axis::over(Scale::Linear, all.flat_map(|s| &s.points).map(|p| p.0));
    let panels: Vec<Panel> = charts.iter().map(|chart| Panel::new(chart, x)).collect();
    let (mut sheet, mut height) = (Sheet::default(), 0);
    for panel in &panels {
        sheet.below(height, &panel.drawn());
        height += panel.height();
    }
    sheet.into_document(WIDTH, height.max(1))
}

/// A chart with its axes and the positions of its legend entries.
struct Panel<'a> {
    chart: &'a LineChart,
    x: Axis,
    y: Axis,
    /// Left end of each entry, and the index of its line.
    legend: Vec<(i32, i32)>,
    legend_lines: i32,
}

impl<'a> Panel<'a> {
    fn new(chart: &'a LineChart, x: Axis) -> Self {
        let points = chart.series.iter().flat_map(|series| &series.points);
        let names = chart.series.iter().map(|series| series.name.as_str());
        let legend = legend(names);
        Self {
            chart,
            x,
            y: Axis::over(chart.y_scale, points.map(|point| point.1)),
            legend_lines: legend.last().map_or(0, |(_, line)| line + 1),
            legend,
        }
    }

    fn height(&self) -> i32 {
        self.bottom() + BELOW
    }

    fn top(&self) -> i32 {
        TITLE_BASE + self.legend_lines * LEGEND_LINE + LEGEND_GAP
    }

    fn bottom(&self) -> i32 {
        self.top() + PLOT_HEIGHT
    }

    fn drawn(&self) -> Sheet {
        let mut sheet = Sheet::default();
        let title = TextStyle {
            bold: true,
            ..text_style(TITLE_SIZE, Anchor::Start, ABOVE)
        };
        sheet.text(&self.chart.title, (LEFT, TITLE_BASE), title, INK);
        self.draw_x_axis(&mut sheet);
        self.draw_y_axis(&mut sheet);
        let mut empty = true;
        for (index, (series, entry)) in self.chart.series.iter().zip(&self.legend).enumerate() {
            let mark = Mark::for_series(index);
            draw_legend_entry(&mut sheet, mark, *entry, &series.name);
            let lines = self.lines(series);
            empty &= lines.is_empty();
            for line in &lines {
                sheet.line(line, LINE_WIDTH, mark.colour);
            }
            for pixel in marked(&lines) {
                mark.draw(&mut sheet, pixel);
            }
        }
        if empty {
            let middle = (
                i32::midpoint(LEFT, RIGHT),
                i32::midpoint(self.top(), self.bottom()),
            );
            let style = text_style(LABEL_SIZE, Anchor::Middle, AROUND);
            sheet.text("no data", middle, style, INK);
        }
        sheet
    }

    fn draw_x_axis(&self, sheet: &mut Sheet) {
        let bottom = self.bottom();
        for tick in self.x.ticks() {
            let x = between(LEFT, RIGHT, tick.position);
            rule(sheet, (x, bottom), (x, bottom + TICK), FRAME);
            let style = text_style(TICK_SIZE, Anchor::Middle, BELOW_POINT);
            sheet.text(&tick.label, (x, bottom + TICK + 8), style, INK);
        }
        rule(sheet, (LEFT, bottom), (RIGHT, bottom), FRAME);
        let middle = (i32::midpoint(LEFT, RIGHT), bottom + BELOW - 62);
        let style = text_style(LABEL_SIZE, Anchor::Middle, BELOW_POINT);
        sheet.text(&self.chart.x_label, middle, style, INK);
    }

    fn draw_y_axis(&self, sheet: &mut Sheet) {
        let (top, bottom) = (self.top(), self.bottom());
        for tick in self.y.ticks() {
            let y = between(bottom, top, tick.position);
            rule(sheet, (LEFT, y), (RIGHT, y), GRID);
            rule(sheet, (LEFT - TICK, y), (LEFT, y), FRAME);
            let style = text_style(TICK_SIZE, Anchor::End, AROUND);
            sheet.text(&tick.label, (LEFT - TICK - 8, y), style, INK);
        }
        rule(sheet, (LEFT, top), (LEFT, bottom), FRAME);
        let style = TextStyle {
            upwards: true,
            ..text_style(LABEL_SIZE, Anchor::Middle, BELOW_POINT)
        };
        let middle = (20, i32::midpoint(top, bottom));
        sheet.text(&self.chart.y_label, middle, style, INK);
    }

    /// The series in pixels: one line for every run of points that can be drawn.
    fn lines(&self, series: &Series) -> Vec<Vec<Pixel>> {
        let pixels = series.points.iter().map(|&(x, y)| {
            let (x, y) = (self.x.position(x)?, self.y.position(y)?);
            Some((
                between(LEFT, RIGHT, x),
                between(self.bottom(), self.top(), y),
            ))
        });
        let pixels: Vec<Option<Pixel>> = pixels.collect();
        let runs = pixels.split(Option::is_none);
        runs.filter(|run| !run.is_empty())
            .map(|run| run.iter().flatten().copied().collect())
            .collect()
    }
}

/// The points of a series that get a mark: every n-th point of each line, from its first.
fn marked(lines: &[Vec<Pixel>]) -> impl Iterator<Item = Pixel> {
    let points: usize = lines.iter().map(Vec::len).sum();
    let every = (points / MARKS).max(1);
    lines
        .iter()
        .flat_map(move |line| line.iter().copied().step_by(every))
}

/// The positions of the legend entries, in reading order: left end and line index. An entry that does not
/// fit on the current line begins a new one.
fn legend<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(i32, i32)> {
    let (mut left, mut line) = (LEFT, 0);
    let position = |name: &str| {
        let letters = i32::try_from(name.chars().count()).unwrap_or(WIDTH);
        let width = SAMPLE + 14 + letters.saturating_mul(LETTER);
        if left > LEFT && left.saturating_add(width) > RIGHT {
            (left, line) = (LEFT, line + 1);
        }
        let position = (left, line);
        left = left.saturating_add(width + 40);
        position
    };
    names.map(position).collect()
}

fn draw_legend_entry(sheet: &mut Sheet, mark: Mark, (left, line): (i32, i32), name: &str) {
    let y = TITLE_BASE + LEGEND_LINE / 2 + 8 + line * LEGEND_LINE;
    sheet.line(&[(left, y), (left + SAMPLE, y)], LINE_WIDTH, mark.colour);
    mark.draw(sheet, (left + SAMPLE / 2, y));
    let style = text_style(TICK_SIZE, Anchor::Start, AROUND);
    sheet.text(name, (left + SAMPLE + 14, y), style, INK);
}

/// Interpolates between two pixel coordinates and rounds.
fn between(from: i32, to: i32, share: f64) -> i32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the value lies between two pixels"
    )]
    let pixel = (f64::from(from) + f64::from(to - from) * share).round() as i32;
    pixel
}

fn rule(sheet: &mut Sheet, from: Pixel, to: Pixel, colour: Colour) {
    sheet.line(&[from, to], 2, colour);
}

fn text_style(size: u16, anchor: Anchor, drop: f32) -> TextStyle {
    TextStyle {
        size,
        bold: false,
        anchor,
        drop,
        upwards: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_legend_wraps_to_new_lines() {
        // 10 letters: 60 + 14 + 10 · 16 = 234, and 40 to the next entry: 150, 424, 698, 972. The next
        // entry would end at 1246 + 234, past 1240.
        let positions = legend(["ten letter"; 5].into_iter());
        assert_eq!(
            positions,
            [(150, 0), (424, 0), (698, 0), (972, 0), (150, 1)]
        );
        let long = "x".repeat(1000);
        let positions = legend([long.as_str(), "b"].into_iter());
        assert_eq!(positions, [(150, 0), (150, 1)]);
    }

    #[test]
    fn long_lines_are_marked_sparsely() {
        let line: Vec<Pixel> = (0..25).map(|x| (x, 0)).collect();
        // 26 points: every second point of 25 gives 13 marks, and the single point gives one.
        assert_eq!(marked(&[line.clone(), vec![(40, 0)]]).count(), 13 + 1);
        assert_eq!(marked(&[line[..19].to_vec()]).count(), 19);
        assert_eq!(marked(&[]).count(), 0);
    }
}
