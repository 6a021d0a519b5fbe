//! Similarity figure: two images with the positions and the links that make them similar.

use image::RgbImage;
use reid_core::{HeatMap, InputSize, SimilarityMap};

use crate::{
    ColourMap, Overlay,
    canvas::{Align, Area, Canvas, INK, TEXT_HEIGHT, text_width},
};

/// White margin around the figure, in pixels.
const MARGIN: usize = 12;
/// Space between the caption and the images, in pixels.
const CAPTION_GAP: usize = 4;
/// Space between the two images, which the links cross, in pixels.
const GAP: usize = 64;
/// Space between two rows, in pixels.
const ROW_GAP: usize = 12;
/// Width of a link without its outline, in pixels.
const LINK: usize = 2;
/// Width of the end of a link without its outline, in pixels.
const END: usize = 6;
/// Width of the outline on both sides together, in pixels.
const OUTLINE: usize = 2;

/// Two images, and what makes them similar. [`SimilarityFigure`] has an example.
#[derive(Clone, Debug, PartialEq)]
pub struct SimilarityRow {
    /// The image on the left, such as a query.
    pub first: RgbImage,
    /// The image on the right.
    pub second: RgbImage,
    /// The contributions of their positions to the similarity.
    pub map: SimilarityMap,
}

/// Draws why images are similar, one row per pair: a heat map over each image, and lines between the pairs of
/// positions that contribute most.
///
/// Both heat maps have the same range, from 0 to the largest contribution of a position, in
/// [`ColourMap::Inferno`]. Positions that lower the similarity look like those that contribute
/// nothing. The links are those of [`SimilarityMap::strongest_links`]; their colours in
/// [`ColourMap::Viridis`] go up to the strongest one. The caption is the cosine similarity.
///
/// ```
/// use reid_core::{InputSize, SimilarityMap};
/// use reid_vis::{RgbImage, SimilarityFigure, SimilarityRow};
///
/// let row = SimilarityRow {
///     first: RgbImage::new(64, 128),
///     second: RgbImage::new(64, 128),
///     map: SimilarityMap::new((2, 1), (2, 1), vec![0.5, 0.1, 0.0, 0.2])?,
/// };
/// let figure = SimilarityFigure::new().with_cell(InputSize::new(192, 96)).with_links(2);
/// // 12 + 96 + 64 + 96 + 12 across, 12 + 2 · (16 + 4 + 192) + 12 + 12 down.
/// assert_eq!(figure.draw(&[row.clone(), row]).dimensions(), (280, 460));
/// # Ok::<(), reid_core::HeatMapError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimilarityFigure {
    cell: InputSize,
    links: usize,
}

impl Default for SimilarityFigure {
    fn default() -> Self {
        Self::new()
    }
}

impl SimilarityFigure {
    /// A figure of images of 256 x 128 pixels (height x width) with up to 8 links per pair.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            cell: InputSize::PERSON,
            links: 8,
        }
    }

    /// Sets the size to which every image is resized: stretched, not cropped. Default:
    /// [`InputSize::PERSON`].
    #[must_use]
    pub const fn with_cell(self, cell: InputSize) -> Self {
        Self { cell, ..self }
    }

    /// Sets the largest number of links of a pair. Default: 8.
    #[must_use]
    pub const fn with_links(self, links: usize) -> Self {
        Self { links, ..self }
    }

    /// Draws all rows. Without rows, the figure is an empty margin.
    ///
    /// # Panics
    /// If the width or the height of the figure does not fit in 32 bits.
    #[must_use]
    pub fn draw(&self, rows: &[SimilarityRow]) -> RgbImage {
        let images = 2 * self.cell.width + GAP;
        let captions = rows.iter().map(|row| text_width(&caption(row)));
        let inner = captions.fold(images, usize::max);
        let row_height = TEXT_HEIGHT + CAPTION_GAP + self.cell.height;
        let gaps = ROW_GAP * rows.len().saturating_sub(1);
        let height = 2 * MARGIN + rows.len() * row_height + gaps;
        let mut canvas = Canvas::white(inner + 2 * MARGIN, height);
        for (index, row) in rows.iter().enumerate() {
            let top = MARGIN + index * (row_height + ROW_GAP);
            let middle = MARGIN + inner / 2;
            canvas.text(&caption(row), (middle, top), Align::Centre, INK);
            let left = MARGIN + (inner - images) / 2;
            self.draw_images(&mut canvas, (left, top + TEXT_HEIGHT + CAPTION_GAP), row);
        }
        canvas.into_picture()
    }

    /// Draws two images with their heat maps and links. `position` is their upper left corner.
    fn draw_images(self, canvas: &mut Canvas, position: (usize, usize), row: &SimilarityRow) {
        let (left, top) = position;
        let areas = [left, left + self.cell.width + GAP].map(|left| Area {
            left,
            top,
            width: self.cell.width,
            height: self.cell.height,
        });
        let heats = [row.map.first(), row.map.second()];
        let overlay = Overlay::new().with_range(0.0, largest(heats));
        let images = [&row.first, &row.second].into_iter();
        for ((image, heat), area) in images.zip(heats).zip(areas) {
            canvas.paste(&overlay.draw(image, heat), area);
        }
        self.draw_links(canvas, areas, &row.map);
    }

    /// Draws the links, the strongest one last.
    fn draw_links(self, canvas: &mut Canvas, areas: [Area; 2], map: &SimilarityMap) {
        let links = map.strongest_links(self.links);
        let Some(strongest) = links.first() else {
            return;
        };
        for link in links.iter().rev() {
            let colour = ColourMap::Viridis.colour(link.contribution / strongest.contribution);
            let from = centre(areas[0], map.first(), link.first);
            let to = centre(areas[1], map.second(), link.second);
            for (outline, colour) in [(OUTLINE, INK), (0, colour)] {
                canvas.line(from, to, LINK + outline, colour);
                canvas.line(from, from, END + outline, colour);
                canvas.line(to, to, END + outline, colour);
            }
        }
    }
}

fn caption(row: &SimilarityRow) -> String {
    format!("similarity {:.3}", row.map.similarity())
}

/// The largest contribution of a position to two heat maps, or 1 if none is above 0.
fn largest(heats: [&HeatMap; 2]) -> f32 {
    let values = heats.into_iter().flat_map(HeatMap::values).copied();
    let largest = values.fold(0.0, f32::max);
    if largest > 0.0 { largest } else { 1.0 }
}

/// The pixel at the centre of a position, given by its row and column.
fn centre(area: Area, heat: &HeatMap, (row, column): (usize, usize)) -> (usize, usize) {
    (
        area.left + (2 * column + 1) * area.width / (2 * heat.width()),
        area.top + (2 * row + 1) * area.height / (2 * heat.height()),
    )
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;
    use crate::mix::mix;

    const CELL: InputSize = InputSize::new(40, 20);
    const WHITE: Rgb<u8> = Rgb([255; 3]);
    const TOP: u32 = 32; // 12 + 16 + 4

    fn row(pairs: [f32; 4]) -> SimilarityRow {
        SimilarityRow {
            first: RgbImage::new(20, 40),
            second: RgbImage::new(20, 40),
            map: SimilarityMap::new((2, 1), (2, 1), pairs.to_vec()).expect("four pairs"),
        }
    }

    fn draw(links: usize, pairs: [f32; 4]) -> RgbImage {
        let figure = SimilarityFigure::new().with_cell(CELL).with_links(links);
        figure.draw(&[row(pairs)])
    }

    /// The left edge of the images: the caption of 16 characters is wider than two images and the gap.
    fn left(figure: &RgbImage) -> u32 {
        (figure.width() - 104) / 2
    }

    #[test]
    fn heat_maps_have_one_range() {
        // The first image has the contributions 0.6 and 0.2, the second one 0.5 and 0.3.
        let figure = draw(0, [0.4, 0.2, 0.1, 0.1]);
        let left = left(&figure);
        let shade = |value| mix(Rgb([0; 3]), ColourMap::Inferno.colour(value), 0.5);
        assert_eq!(*figure.get_pixel(left, TOP), shade(1.0));
        assert_eq!(*figure.get_pixel(left, TOP + 39), shade(0.2_f32 / 0.6));
        let right = left + 20 + 64;
        assert_eq!(*figure.get_pixel(right, TOP), shade(0.5_f32 / 0.6));
        assert_eq!(*figure.get_pixel(right, TOP + 39), shade(0.3_f32 / 0.6));
    }

    #[test]
    fn links_join_the_centres_of_positions() {
        // The strongest pair is the second position of the first image and the first of the second image.
        let pairs = [0.1, 0.2, 0.5, 0.1];
        let figure = draw(2, pairs);
        let left = left(&figure);
        let (strong, weak) = (1.0, 0.2_f32 / 0.5);
        let colour = |value| ColourMap::Viridis.colour(value);
        assert_eq!(*figure.get_pixel(left + 10, TOP + 30), colour(strong));
        assert_eq!(*figure.get_pixel(left + 84 + 10, TOP + 10), colour(strong));
        assert_eq!(*figure.get_pixel(left + 10, TOP + 10), colour(weak));
        assert_eq!(*figure.get_pixel(left + 84 + 10, TOP + 30), colour(weak));
        // Both cross in the middle of the gap, where the strongest is on top.
        assert_eq!(*figure.get_pixel(left + 52, TOP + 20), colour(strong));
        let in_gap = |figure: &RgbImage, colour: Rgb<u8>| {
            let pixels = (left + 20..left + 84).flat_map(|x| (TOP..TOP + 40).map(move |y| (x, y)));
            pixels
                .filter(|&(x, y)| *figure.get_pixel(x, y) == colour)
                .count()
        };
        assert!(in_gap(&figure, colour(weak)) > 64);
        assert_eq!(in_gap(&draw(1, pairs), colour(weak)), 0);
        assert_eq!(in_gap(&draw(0, pairs), WHITE), 64 * 40);
    }

    #[test]
    fn images_without_a_reason_have_no_links() {
        let figure = draw(8, [-0.5, 0.0, 0.0, -0.5]);
        let left = left(&figure);
        assert_eq!(*figure.get_pixel(left + 52, TOP + 20), WHITE);
        let shade = mix(Rgb([0; 3]), ColourMap::Inferno.colour(0.0), 0.5);
        assert_eq!(*figure.get_pixel(left, TOP), shade);
    }

    #[test]
    fn the_caption_is_the_similarity() {
        let inked = |figure: &RgbImage| -> Vec<bool> {
            let rows = figure
                .enumerate_pixels()
                .filter(|(_, y, _)| (12..28).contains(y));
            rows.map(|(_, _, pixel)| *pixel != WHITE).collect()
        };
        let (one, other) = (draw(0, [0.25; 4]), draw(0, [0.125; 4]));
        assert!(inked(&one).contains(&true));
        assert_ne!(inked(&one), inked(&other));
        // Equal similarities, also of other pairs, have equal captions.
        assert_eq!(inked(&one), inked(&draw(0, [0.5, 0.5, 0.0, 0.0])));
    }

    #[test]
    fn rows_are_below_each_other() {
        let figure = SimilarityFigure::new().with_cell(CELL).with_links(3);
        let (one, other) = (row([0.1, 0.2, 0.5, 0.1]), row([0.25; 4]));
        let both = figure.draw(&[one.clone(), other.clone()]);
        let single = [figure.draw(&[one]), figure.draw(&[other])];
        // A row has 16 + 4 + 40 pixels, and the next one follows after 12.
        for (top, single) in [(12, &single[0]), (12 + 60 + 12, &single[1])] {
            for y in 0..60 {
                for x in 0..both.width() {
                    let expected = single.get_pixel(x, 12 + y);
                    assert_eq!(both.get_pixel(x, top + y), expected, "{x}, {y}");
                }
            }
        }
        assert_eq!(both.height(), 12 + 60 + 12 + 60 + 12);
        assert_eq!(figure.draw(&[]).dimensions(), (128, 24));
    }
}
