//! Ranked lists: each query with the gallery images ranked for it, drawn as one image.

use image::{Rgb, RgbImage};
use reid_core::{InputSize, Sample, Split, Splits};
use reid_eval::{RankedEntry, RankedList, Relevance};

use crate::{
    Error,
    canvas::{Align, Area, Canvas, INK, PALE_INK, TEXT_HEIGHT, WHITE, text_width},
    frame::{Frame, Stroke, THICKNESS},
    mix::mix,
    open_picture,
};

/// White margin around the figure, in pixels.
const MARGIN: usize = 12;
/// Space between neighbouring images in a row, in pixels.
const GAP: usize = 8;
/// Space between the query and the gallery images, in pixels.
const QUERY_GAP: usize = 28;
/// Space between a frame and the text below it, in pixels.
const TEXT_GAP: usize = 3;
/// Space between a row's text and the next row, in pixels.
const ROW_GAP: usize = 12;
/// The widest caption of a tile: a rank and a distance. A column is never narrower than this text.
const WIDEST_CAPTION: &str = "99 0.123";
/// Width and height of the frames in the legend: large enough to show their strokes.
const SWATCH: (usize, usize) = (26, 14);
/// How far the colours of an ignored image are moved towards white.
const FADED: f32 = 0.55;

/// A query and the gallery images ranked for it, nearest first. [`RankedFigure`] has an example.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RankedRow {
    /// The query image.
    pub query: RgbImage,
    /// The gallery images, nearest first.
    pub found: Vec<RankedTile>,
    /// The name of the query, such as its file. Only pages show it, if it is not empty.
    pub name: String,
    /// What was decided about the query, in words. Only pages show it, if it is not empty.
    pub decision: String,
}

/// One gallery image of a ranked list.
#[derive(Clone, Debug, PartialEq)]
pub struct RankedTile {
    /// The gallery image.
    pub picture: RgbImage,
    /// Its distance from the query, by any metric; it is printed below the image.
    pub distance: f32,
    /// Its relevance for the query.
    pub relevance: Relevance,
    /// Its rank, if images that rank before it are not in the row. `None` is one more than the rank before.
    pub rank: Option<usize>,
    /// What it shows, such as the name of its identity. Only pages show it, if it is not empty.
    pub name: String,
    /// Whether a threshold accepts its distance; `None` without a threshold. Only pages show it.
    pub accepted: Option<bool>,
}

impl RankedTile {
    /// Creates a tile whose rank is one more than the rank before, without a name and a threshold.
    #[must_use]
    pub fn new(picture: RgbImage, distance: f32, relevance: Relevance) -> Self {
        Self {
            picture,
            distance,
            relevance,
            rank: None,
            name: String::new(),
            accepted: None,
        }
    }
}

impl RankedRow {
    /// Reads the images of a ranked list from disk, including ignored images.
    ///
    /// # Errors
    /// If one of the images cannot be read or decoded ([`Error::Open`]).
    ///
    /// # Panics
    /// If the list contains the index of a query or gallery image that the splits do not have.
    pub fn open(splits: &Splits, list: &RankedList) -> Result<Self, Error> {
        let open = |split, index| open_picture(&sample(splits, split, index).path);
        let tile = |entry: &RankedEntry| -> Result<_, Error> {
            let picture = open(Split::Gallery, entry.gallery)?;
            Ok(RankedTile::new(picture, entry.distance, entry.relevance))
        };
        Ok(Self {
            query: open(Split::Query, list.query)?,
            found: list.entries.iter().map(tile).collect::<Result<_, _>>()?,
            ..Self::default()
        })
    }
}

pub(crate) fn sample(splits: &Splits, split: Split, index: usize) -> &Sample {
    let samples = splits.samples(split);
    samples.get(index).unwrap_or_else(|| {
        panic!(
            "the ranked list contains {split} image {index} (counted from 0), but {} has {} such images",
            splits.name,
            samples.len()
        )
    })
}

/// Draws ranked lists, one row per query: the query on the left, then the gallery images, nearest first.
///
/// | relevance | in the legend | frame | image | rank |
/// |---|---|---|---|---|
/// | match | right | solid, green | unchanged | rank |
/// | non-match | wrong | dashed, red | unchanged | rank |
/// | ignored | ignored | dotted, grey | grey and faded | `-`: ignored images have no rank |
/// | unknown | unknown | solid, grey | unchanged | `?`, or its rank if that is set: the identity is unknown |
///
/// The rank and the distance are printed below each image, or the rank only if both do not fit. Frames differ
/// by stroke as well as by colour, so the figure can be read in greyscale and by colour-blind readers.
///
/// ```
/// use reid_eval::Relevance;
/// use reid_vis::{RankedFigure, RankedRow, RankedTile, RgbImage};
///
/// let tile = |distance, relevance| RankedTile::new(RgbImage::new(64, 128), distance, relevance);
/// let row = RankedRow {
///     query: RgbImage::new(64, 128),
///     found: vec![tile(0.21, Relevance::Match), tile(0.48, Relevance::NonMatch)],
///     ..RankedRow::default()
/// };
/// let picture = RankedFigure::new().draw(&[row.clone(), row]);
/// assert!(picture.width() > 3 * 64 && picture.height() > 2 * 128);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RankedFigure {
    tile: InputSize,
}

impl Default for RankedFigure {
    fn default() -> Self {
        Self::new()
    }
}

impl RankedFigure {
    /// A figure with tiles of 128 x 64 pixels (height x width), the shape of person images.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            tile: InputSize::new(128, 64),
        }
    }

    /// Sets the size to which every image is resized: stretched, not cropped. Default: 128 x 64.
    #[must_use]
    pub const fn with_tile(self, tile: InputSize) -> Self {
        Self { tile }
    }

    /// Draws all rows. Rows may have different lengths, or be empty.
    ///
    /// # Panics
    /// If the width or height of the figure does not fit in 32 bits.
    #[must_use]
    pub fn draw(&self, rows: &[RankedRow]) -> RgbImage {
        let legend: Vec<Relevance> = ALL
            .into_iter()
            .filter(|relevance| rows.iter().any(|row| row.has(*relevance)))
            .collect();
        let longest = rows.iter().map(|row| row.found.len()).max().unwrap_or(0);
        let width = self.column(longest) - GAP + MARGIN;
        let under_rows = MARGIN + rows.len() * (self.row_height() + ROW_GAP);
        let height = if rows.is_empty() {
            2 * MARGIN
        } else if legend.is_empty() {
            under_rows - ROW_GAP + MARGIN
        } else {
            under_rows + TEXT_HEIGHT + MARGIN
        };
        let mut canvas = Canvas::white(width.max(legend_width(&legend)), height);
        for (index, row) in rows.iter().enumerate() {
            let top = MARGIN + index * (self.row_height() + ROW_GAP);
            self.draw_row(&mut canvas, row, top);
        }
        draw_legend(&mut canvas, &legend, under_rows);
        canvas.into_picture()
    }

    fn draw_row(&self, canvas: &mut Canvas, row: &RankedRow, top: usize) {
        let query = self.area(MARGIN, top);
        canvas.paste(&row.query, query);
        QUERY_FRAME.draw_around(canvas, query);
        let under = query.top + query.height + THICKNESS + TEXT_GAP;
        let centre = MARGIN + self.column_width() / 2;
        canvas.text("query", (centre, under), Align::Centre, INK);
        for (index, (tile, number)) in row.found.iter().zip(row.ranks()).enumerate() {
            let left = self.column(index);
            let area = self.area(left, top);
            if tile.relevance == Relevance::Ignored {
                canvas.paste(&faded(&tile.picture), area);
            } else {
                canvas.paste(&tile.picture, area);
            }
            frame(tile.relevance).draw_around(canvas, area);
            let right = left + self.column_width();
            canvas.text(&number, (left, under), Align::Left, INK);
            let distance = short(tile.distance);
            if text_width(&number) + text_width(&distance) < self.column_width() {
                canvas.text(&distance, (right, under), Align::Right, PALE_INK);
            }
        }
    }

    /// Left edge of the column of the gallery image with this index.
    fn column(&self, index: usize) -> usize {
        MARGIN + self.column_width() + QUERY_GAP + index * (self.column_width() + GAP)
    }

    fn column_width(&self) -> usize {
        (self.tile.width + 2 * THICKNESS).max(text_width(WIDEST_CAPTION))
    }

    fn row_height(&self) -> usize {
        self.tile.height + 2 * THICKNESS + TEXT_GAP + TEXT_HEIGHT
    }

    /// The area of the image in a column: horizontally centred.
    fn area(&self, left: usize, top: usize) -> Area {
        Area {
            left: left + (self.column_width() - self.tile.width) / 2,
            top: top + THICKNESS,
            width: self.tile.width,
            height: self.tile.height,
        }
    }
}

impl RankedRow {
    fn has(&self, relevance: Relevance) -> bool {
        self.found.iter().any(|tile| tile.relevance == relevance)
    }

    /// The rank of each gallery image, as figures and pages print it.
    pub(crate) fn ranks(&self) -> Vec<String> {
        let mut rank = 0;
        let ranks = self.found.iter().map(|tile| match tile.relevance {
            Relevance::Match | Relevance::NonMatch => {
                rank = tile.rank.unwrap_or(rank + 1);
                rank.to_string()
            }
            Relevance::Ignored => "-".to_owned(),
            Relevance::Unknown => tile
                .rank
                .map_or_else(|| "?".to_owned(), |rank| rank.to_string()),
        });
        ranks.collect()
    }
}

/// Bluish green. Readers with a common kind of colour blindness can distinguish it from the red of
/// [`WRONG_FRAME`].
const RIGHT_FRAME: Frame = Frame {
    colour: Rgb([0, 150, 105]),
    stroke: Stroke::Solid,
};
const WRONG_FRAME: Frame = Frame {
    colour: Rgb([214, 48, 30]),
    stroke: Stroke::Broken { mark: 10, gap: 5 },
};
const IGNORED_FRAME: Frame = Frame {
    colour: Rgb([165; 3]),
    stroke: Stroke::Broken { mark: 3, gap: 3 },
};
const UNKNOWN_FRAME: Frame = Frame {
    colour: Rgb([165; 3]),
    stroke: Stroke::Solid,
};
const QUERY_FRAME: Frame = Frame {
    colour: INK,
    stroke: Stroke::Solid,
};

/// In the order of the legend.
const ALL: [Relevance; 4] = [
    Relevance::Match,
    Relevance::NonMatch,
    Relevance::Ignored,
    Relevance::Unknown,
];

fn frame(relevance: Relevance) -> Frame {
    match relevance {
        Relevance::Match => RIGHT_FRAME,
        Relevance::NonMatch => WRONG_FRAME,
        Relevance::Ignored => IGNORED_FRAME,
        Relevance::Unknown => UNKNOWN_FRAME,
    }
}

/// The word for a relevance in a legend or a caption.
pub(crate) fn name(relevance: Relevance) -> &'static str {
    match relevance {
        Relevance::Match => "right",
        Relevance::NonMatch => "wrong",
        Relevance::Ignored => "ignored",
        Relevance::Unknown => "unknown",
    }
}

/// The image in grey, moved towards white.
fn faded(picture: &RgbImage) -> RgbImage {
    let mut faded = picture.clone();
    for pixel in faded.pixels_mut() {
        let [luma] = image::Pixel::to_luma(pixel).0;
        *pixel = mix(Rgb([luma; 3]), WHITE, FADED);
    }
    faded
}

/// Formats a distance in at most five characters, with as many decimals as fit.
fn short(distance: f32) -> String {
    let fitting = [3, 2, 1, 0]
        .map(|decimals| format!("{distance:.decimals$}"))
        .into_iter()
        .find(|text| text.len() <= 5);
    fitting.unwrap_or_else(|| format!("{distance:.0e}"))
}

/// Width of one legend entry: a framed swatch, its name and the space after it.
fn legend_entry_width(relevance: Relevance) -> usize {
    SWATCH.0 + GAP + text_width(name(relevance)) + QUERY_GAP
}

fn legend_width(legend: &[Relevance]) -> usize {
    let entries = legend.iter().copied().map(legend_entry_width);
    (entries.sum::<usize>() + 2 * MARGIN).saturating_sub(QUERY_GAP)
}

fn draw_legend(canvas: &mut Canvas, legend: &[Relevance], top: usize) {
    let mut left = MARGIN;
    for &relevance in legend {
        let area = Area {
            left: left + THICKNESS,
            top: top + (TEXT_HEIGHT - SWATCH.1) / 2 + THICKNESS,
            width: SWATCH.0 - 2 * THICKNESS,
            height: SWATCH.1 - 2 * THICKNESS,
        };
        frame(relevance).draw_around(canvas, area);
        let text = (left + SWATCH.0 + GAP, top);
        canvas.text(name(relevance), text, Align::Left, PALE_INK);
        left += legend_entry_width(relevance);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const R: Relevance = Relevance::Match;
    const W: Relevance = Relevance::NonMatch;
    const I: Relevance = Relevance::Ignored;
    const BLUE: Rgb<u8> = Rgb([0, 0, 200]);

    fn row(relevances: &[Relevance]) -> RankedRow {
        let picture = || RgbImage::from_pixel(5, 9, BLUE);
        let tile = |&relevance| RankedTile::new(picture(), 0.5, relevance);
        RankedRow {
            query: picture(),
            found: relevances.iter().map(tile).collect(),
            ..RankedRow::default()
        }
    }

    // A column is 70 wide: 64 and two frames of 3, more than the 8 letters of a caption. The query
    // starts at 12, the gallery images at 12 + 70 + 28 = 110, 188, 266, …
    const FIRST: u32 = 110;
    const PITCH: u32 = 78;

    #[test]
    fn the_figure_is_as_large_as_its_parts() {
        // Across: 110 + 3 · 70 + 2 · 8 + 12. A row: 128 + 6 + 3 + 16 = 153. Down: two margins of 12,
        // two rows with 12 after each, 16 for the legend.
        let picture = RankedFigure::new().draw(&[row(&[R, W, I]), row(&[R])]);
        assert_eq!(picture.dimensions(), (348, 24 + 2 * 165 + 16));
        // Without gallery images there is neither a legend nor the space before it.
        let picture = RankedFigure::new().draw(&[row(&[])]);
        assert_eq!(picture.height(), 24 + 153);
        assert_eq!(RankedFigure::new().draw(&[]).height(), 24);
    }

    #[test]
    fn frames_distinguish_matches_from_non_matches() {
        let picture = RankedFigure::new().draw(&[row(&[R, W, I])]);
        let upper_edge = |index: u32| {
            let left = FIRST + index * PITCH;
            (left..left + 70)
                .map(|x| *picture.get_pixel(x, 12))
                .collect::<Vec<_>>()
        };
        let right = upper_edge(0);
        assert!(right.iter().all(|pixel| *pixel == RIGHT_FRAME.colour));
        for (index, frame) in [(1, WRONG_FRAME), (2, IGNORED_FRAME)] {
            let edge = upper_edge(index);
            assert_eq!(edge[0], frame.colour);
            assert_eq!(edge[69], frame.colour);
            assert!(edge.contains(&WHITE), "a broken frame has gaps");
            assert!(
                edge.iter()
                    .all(|pixel| [frame.colour, WHITE].contains(pixel))
            );
        }
        assert_eq!(*picture.get_pixel(12, 12), INK, "the query's frame");
    }

    #[test]
    fn only_ignored_images_are_greyed() {
        let picture = RankedFigure::new().draw(&[row(&[R, W, I])]);
        let middle = |index: u32| *picture.get_pixel(FIRST + 35 + index * PITCH, 12 + 3 + 64);
        assert_eq!(middle(0), BLUE);
        assert_eq!(middle(1), BLUE);
        // Luma 0.0722 · 200 = 14; 14 + 0.55 · (255 - 14) = 146.55.
        assert_eq!(middle(2).0, [147; 3]);
    }

    #[test]
    fn narrow_tiles_have_room_for_their_text() {
        let figure = RankedFigure::new().with_tile(InputSize::new(20, 10));
        assert_eq!(figure.column_width(), text_width("99 0.123"));
        assert!(figure.draw(&[row(&[R, R])]).width() > 3 * 10);
    }

    #[test]
    fn a_rank_is_printed_after_images_that_are_not_shown() {
        let draw = |rank| {
            let mut row = row(&[W, R]);
            row.found[1].rank = rank;
            RankedFigure::new().draw(&[row])
        };
        assert_eq!(draw(None), draw(Some(2)));
        assert_ne!(draw(None), draw(Some(3)));
        // A long rank leaves no room for the distance: only white is right of its five characters.
        let picture = draw(Some(12_345));
        let left = FIRST + PITCH + u32::try_from(text_width("12345")).expect("small");
        let text = 12 + 3 + 128 + 3 + 3..12 + 3 + 128 + 3 + 3 + 16;
        let white = |x| text.clone().all(|y| *picture.get_pixel(x, y) == WHITE);
        assert!((left..FIRST + PITCH + 70).all(white));
    }

    #[test]
    fn an_image_of_unknown_identity_has_a_rank_only_if_it_is_given() {
        let mut row = row(&[R, Relevance::Unknown, I, Relevance::Unknown, W]);
        row.found[3].rank = Some(7);
        assert_eq!(row.ranks(), ["1", "?", "-", "7", "2"]);
    }

    #[test]
    fn distances_are_printed_in_five_characters() {
        for (distance, text) in [
            (0.123_4, "0.123"),
            (12.345, "12.35"),
            (-0.5, "-0.50"),
            (1234.5, "1234"),
            (2e7, "2e7"),
            (f32::NAN, "NaN"),
            (f32::INFINITY, "inf"),
        ] {
            assert_eq!(short(distance), text);
        }
    }

    #[test]
    fn the_images_of_a_list_are_read_from_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, shade: u8| {
            let path = folder.path().join(name);
            let picture = RgbImage::from_pixel(2, 3, Rgb([shade; 3]));
            crate::save_picture(&path, &picture).expect("written");
            Sample::new(path, reid_core::Identity::new(1))
        };
        let mut splits = Splits::default()
            .with_query(vec![write("q.png", 1)])
            .with_gallery(vec![write("a.png", 2), write("b.png", 3)]);
        let list = RankedList::new(0, vec![RankedEntry::new(1, 0.25, W)]);
        let row = RankedRow::open(&splits, &list).expect("opened");
        assert_eq!(row.query.get_pixel(0, 0).0, [1; 3]);
        assert_eq!(row.found[0].picture.get_pixel(0, 0).0, [3; 3]);
        assert_eq!((row.found[0].distance, row.found[0].relevance), (0.25, W));

        splits.gallery[1].path = folder.path().join("gone.png");
        let error = RankedRow::open(&splits, &list).expect_err("not there");
        assert!(error.to_string().contains("gone.png"), "{error}");
    }

    #[test]
    #[should_panic(expected = "contains query image 4 (counted from 0), but toy has 0 such images")]
    fn a_list_of_other_splits_is_rejected() {
        let splits = Splits::new("toy");
        let list = RankedList::new(4, Vec::new());
        drop(RankedRow::open(&splits, &list));
    }
}
