//! Canvas: a white bitmap on which images and text are drawn.

use std::borrow::Cow;

use image::{Rgb, RgbImage, imageops};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use crate::mix::mix;

pub(crate) const WHITE: Rgb<u8> = Rgb([255; 3]);
/// Colour of main text.
pub(crate) const INK: Rgb<u8> = Rgb([30; 3]);
/// Colour of secondary text.
pub(crate) const PALE_INK: Rgb<u8> = Rgb([110; 3]);
/// Colour of the area of an image without pixels.
const MISSING: Rgb<u8> = Rgb([225; 3]);

const WEIGHT: FontWeight = FontWeight::Regular;
const SIZE: RasterHeight = RasterHeight::Size16;
/// Height of a line of text, in pixels.
pub(crate) const TEXT_HEIGHT: usize = SIZE.val();

/// Width of a line of text, in pixels. All characters have the same width.
pub(crate) fn text_width(text: &str) -> usize {
    text.chars().count() * get_raster_width(WEIGHT, SIZE)
}

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Area {
    pub(crate) left: usize,
    pub(crate) top: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

/// Which part of a text is at the given column.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Align {
    Left,
    Centre,
    Right,
}

/// A white bitmap on which images and text are drawn. Pixels outside the canvas are discarded.
#[derive(Debug)]
pub(crate) struct Canvas(RgbImage);

impl Canvas {
    /// A white canvas.
    ///
    /// # Panics
    /// If the width or the height does not fit in 32 bits.
    pub(crate) fn white(width: usize, height: usize) -> Self {
        Self(RgbImage::from_pixel(side(width), side(height), WHITE))
    }

    pub(crate) fn into_picture(self) -> RgbImage {
        self.0
    }

    /// Colours one pixel.
    pub(crate) fn dot(&mut self, x: usize, y: usize, colour: Rgb<u8>) {
        if let Some(pixel) = self.pixel(x, y) {
            *pixel = colour;
        }
    }

    /// Draws a straight line with square ends, `width` pixels wide.
    pub(crate) fn line(
        &mut self,
        from: (usize, usize),
        to: (usize, usize),
        width: usize,
        colour: Rgb<u8>,
    ) {
        let steps = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1)).max(1);
        let between = |one: usize, other: usize, step: usize| {
            (one * (steps - step) + other * step + steps / 2) / steps
        };
        for step in 0..=steps {
            let x = between(from.0, to.0, step).saturating_sub(width / 2);
            let y = between(from.1, to.1, step).saturating_sub(width / 2);
            for (across, down) in (0..width * width).map(|at| (at % width, at / width)) {
                self.dot(x + across, y + down, colour);
            }
        }
    }

    /// Draws an image, stretched to fill the area.
    pub(crate) fn paste(&mut self, picture: &RgbImage, area: Area) {
        let picture = stretched(picture, area);
        for (x, y, &colour) in picture.enumerate_pixels() {
            self.dot(area.left + x as usize, area.top + y as usize, colour);
        }
    }

    /// Draws one line of text. `position` is the column to which `align` refers and the upper edge of the
    /// text. Characters beyond Latin-1 become `?`.
    pub(crate) fn text(
        &mut self,
        text: &str,
        position: (usize, usize),
        align: Align,
        colour: Rgb<u8>,
    ) {
        let (column, top) = position;
        let mut left = match align {
            Align::Left => column,
            Align::Centre => column.saturating_sub(text_width(text) / 2),
            Align::Right => column.saturating_sub(text_width(text)),
        };
        for character in text.chars() {
            let known = get_raster(character, WEIGHT, SIZE);
            let Some(glyph) = known.or_else(|| get_raster('?', WEIGHT, SIZE)) else {
                continue;
            };
            for (y, row) in glyph.rows().enumerate() {
                for (x, &cover) in row.iter().enumerate() {
                    if let Some(pixel) = self.pixel(left + x, top + y) {
                        *pixel = mix(*pixel, colour, f32::from(cover) / 255.0);
                    }
                }
            }
            left += glyph.width();
        }
    }

    fn pixel(&mut self, x: usize, y: usize) -> Option<&mut Rgb<u8>> {
        let (x, y) = (u32::try_from(x).ok()?, u32::try_from(y).ok()?);
        self.0.get_pixel_mut_checked(x, y)
    }
}

/// The image resized to the area with a triangle filter: bilinear when enlarging, averaging when shrinking.
fn stretched(picture: &RgbImage, area: Area) -> Cow<'_, RgbImage> {
    let (width, height) = (side(area.width), side(area.height));
    if picture.dimensions() == (width, height) {
        return Cow::Borrowed(picture);
    }
    if picture.width() == 0 || picture.height() == 0 {
        return Cow::Owned(RgbImage::from_pixel(width, height, MISSING));
    }
    let filter = imageops::FilterType::Triangle;
    Cow::Owned(imageops::resize(picture, width, height, filter))
}

fn side(length: usize) -> u32 {
    u32::try_from(length).unwrap_or_else(|_| {
        panic!(
            "the width and the height of an image are at most {} pixels, found {length}",
            u32::MAX
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AREA: Area = Area {
        left: 1,
        top: 2,
        width: 4,
        height: 3,
    };

    fn count(picture: &RgbImage, wanted: impl Fn(Rgb<u8>) -> bool) -> usize {
        picture.pixels().filter(|pixel| wanted(**pixel)).count()
    }

    #[test]
    fn an_image_fills_exactly_its_area() {
        let mut canvas = Canvas::white(10, 10);
        canvas.paste(&RgbImage::new(2, 9), AREA);
        let picture = canvas.into_picture();
        assert_eq!(count(&picture, |pixel| pixel.0 == [0; 3]), 4 * 3);
        assert_eq!(picture.get_pixel(1, 2).0, [0; 3]);
        assert_eq!(picture.get_pixel(4, 4).0, [0; 3]);
    }

    #[test]
    fn an_image_without_pixels_is_drawn_as_a_pale_area() {
        let mut canvas = Canvas::white(10, 10);
        canvas.paste(&RgbImage::new(0, 0), AREA);
        assert_eq!(count(&canvas.into_picture(), |pixel| pixel == MISSING), 12);
    }

    #[test]
    fn a_line_joins_its_ends() {
        let drawn = |from, to, width| {
            let mut canvas = Canvas::white(10, 10);
            canvas.line(from, to, width, INK);
            canvas.into_picture()
        };
        let diagonal = drawn((2, 8), (7, 3), 1);
        assert_eq!(count(&diagonal, |pixel| pixel == INK), 6);
        for (x, y) in [(2, 8), (3, 7), (7, 3)] {
            assert_eq!(*diagonal.get_pixel(x, y), INK);
        }
        // Half a row down for each column: 5, 5.5 → 6, 6, 6.5 → 7, 7.
        let flat = drawn((1, 5), (5, 7), 1);
        for (x, y) in [(1, 5), (2, 6), (3, 6), (4, 7), (5, 7)] {
            assert_eq!(*flat.get_pixel(x, y), INK, "{x}, {y}");
        }
        let point = drawn((4, 4), (4, 4), 2);
        assert_eq!(count(&point, |pixel| pixel == INK), 4);
        assert_eq!(*point.get_pixel(3, 3), INK);
    }

    #[test]
    fn text_stays_within_its_width() {
        let width = text_width("rank");
        for (align, column) in [
            (Align::Left, 20),
            (Align::Centre, 20 + width / 2),
            (Align::Right, 20 + width),
        ] {
            let mut canvas = Canvas::white(100, 30);
            canvas.text("rank", (column, 5), align, INK);
            let picture = canvas.into_picture();
            let inked = |x: u32| (0..30).any(|y| *picture.get_pixel(x, y) != WHITE);
            let columns: Vec<usize> = (0..100).filter(|&x| inked(x)).map(|x| x as usize).collect();
            assert!(columns.len() > width / 2, "{align:?}: {columns:?}");
            assert!(
                columns.iter().all(|x| (20..20 + width).contains(x)),
                "{align:?}: {columns:?}"
            );
        }
    }

    #[test]
    fn drawing_outside_the_canvas_is_discarded() {
        let mut canvas = Canvas::white(3, 3);
        canvas.text("wide", (0, 0), Align::Right, INK);
        canvas.text("日本", (2, 2), Align::Left, INK);
        canvas.paste(&RgbImage::new(4, 3), AREA);
        assert_eq!(canvas.into_picture().dimensions(), (3, 3));
    }
}
