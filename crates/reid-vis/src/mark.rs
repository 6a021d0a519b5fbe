//! Markers: the colour and the shape that distinguish the series of a chart.

use crate::svg::{Colour, Pixel, Sheet};

/// The palette of Okabe and Ito (2008), darker colours first.
const PALETTE: [Colour; 7] = [
    Colour(0, 114, 178),
    Colour(213, 94, 0),
    Colour(0, 158, 115),
    Colour(204, 121, 167),
    Colour(0, 0, 0),
    Colour(230, 159, 0),
    Colour(86, 180, 233),
];

/// Half the height of a mark, in pixels.
const RADIUS: i32 = 9;

/// The colour and the shape of a series. 7 colours and 4 shapes give 28 distinct marks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) colour: Colour,
    shape: Shape,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Circle,
    Square,
    Triangle,
    Diamond,
}

const SHAPES: [Shape; 4] = [
    Shape::Circle,
    Shape::Square,
    Shape::Triangle,
    Shape::Diamond,
];

impl Mark {
    /// The mark of the series with this index.
    pub(crate) fn for_series(index: usize) -> Self {
        Self {
            colour: PALETTE[index % PALETTE.len()],
            shape: SHAPES[index % SHAPES.len()],
        }
    }

    pub(crate) fn draw(self, sheet: &mut Sheet, (x, y): Pixel) {
        let (small, large) = (RADIUS - 1, RADIUS + 2);
        let corners: &[Pixel] = match self.shape {
            Shape::Circle => return sheet.circle((x, y), RADIUS, self.colour),
            Shape::Square => &[
                (-small, -small),
                (small, -small),
                (small, small),
                (-small, small),
            ],
            Shape::Triangle => &[(0, -large), (large, small), (-large, small)],
            Shape::Diamond => &[(0, -large), (large, 0), (0, large), (-large, 0)],
        };
        let corners: Vec<_> = corners.iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
        sheet.polygon(&corners, self.colour);
    }
}
