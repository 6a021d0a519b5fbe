//! Frames around images: their colour and stroke distinguish matches from non-matches.

use image::Rgb;

use crate::canvas::{Area, Canvas};

/// Thickness of every frame, in pixels.
pub(crate) const THICKNESS: usize = 3;

/// A frame around an image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) colour: Rgb<u8>,
    pub(crate) stroke: Stroke,
}

/// The line style of a frame. It distinguishes frames where colours cannot be seen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stroke {
    Solid,
    /// Dashes of `mark` pixels with gaps of about `gap` pixels between them.
    Broken {
        mark: usize,
        gap: usize,
    },
}

impl Frame {
    /// Draws the frame around the area. Its inner edge touches the area; the area itself is unchanged.
    pub(crate) fn draw_around(self, canvas: &mut Canvas, area: Area) {
        let Area { left, top, .. } = area;
        let (width, height) = (area.width + 2 * THICKNESS, area.height + 2 * THICKNESS);
        let (left, top) = (left - THICKNESS, top - THICKNESS);
        for depth in 0..THICKNESS {
            for x in (0..width).filter(|&x| self.stroke.marks(x, width)) {
                canvas.dot(left + x, top + depth, self.colour);
                canvas.dot(left + x, top + height - 1 - depth, self.colour);
            }
            for y in (0..height).filter(|&y| self.stroke.marks(y, height)) {
                canvas.dot(left + depth, top + y, self.colour);
                canvas.dot(left + width - 1 - depth, top + y, self.colour);
            }
        }
    }
}

impl Stroke {
    /// Whether the pixel at this position along a side of `length` pixels is coloured. Dashes are spaced so
    /// that a side begins and ends with a whole dash, which closes the corners.
    fn marks(self, position: usize, length: usize) -> bool {
        match self {
            Self::Solid => true,
            Self::Broken { mark, gap } => {
                let Some(span) = length.checked_sub(mark).filter(|&span| span > 0) else {
                    return true;
                };
                // Dash i begins at i · span / periods. Both sides are multiplied by `periods` to stay in
                // integers.
                let periods = (span / (mark + gap)).max(1);
                (position * periods) % span < mark * periods
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn along(stroke: Stroke, length: usize) -> String {
        let mark = |position| {
            if stroke.marks(position, length) {
                '#'
            } else {
                '.'
            }
        };
        (0..length).map(mark).collect()
    }

    #[test]
    fn broken_sides_begin_and_end_with_a_dash() {
        // 22 = 4 + 3 · 6: dashes of 4 begin at 0, 6, 12, 18.
        let stroke = Stroke::Broken { mark: 4, gap: 2 };
        assert_eq!(along(stroke, 22), "####..####..####..####");
        // 24 = 4 + 20, three periods of 6 2/3: dashes begin at 0, 6.7 → 7, 13.3 → 14, 20.
        assert_eq!(along(stroke, 24), "####...####...####..####");
    }

    #[test]
    fn short_sides_are_solid() {
        let stroke = Stroke::Broken { mark: 4, gap: 2 };
        assert_eq!(along(stroke, 3), "###");
        assert_eq!(along(Stroke::Solid, 3), "###");
    }

    #[test]
    fn a_frame_does_not_draw_into_its_area() {
        let area = Area {
            left: 5,
            top: 4,
            width: 6,
            height: 7,
        };
        let mut canvas = Canvas::white(20, 20);
        let colour = Rgb([1, 2, 3]);
        let stroke = Stroke::Solid;
        Frame { colour, stroke }.draw_around(&mut canvas, area);
        let picture = canvas.into_picture();
        let framed = picture.pixels().filter(|pixel| **pixel == colour).count();
        // (6 + 6) · (7 + 6) - 6 · 7 = 156 - 42.
        assert_eq!(framed, 114);
        assert_eq!(*picture.get_pixel(4, 4), colour);
        assert_ne!(*picture.get_pixel(5, 4), colour);
    }
}
