//! Panels: the flat faces of a vehicle, and painting on them.

use super::{
    super::{
        canvas::{Canvas, Point},
        colour::Colour,
    },
    space::{Lens, NEAR, Position, between, cross, dot, length, minus, times},
};

/// A flat quadrilateral face. Points on it have two coordinates from 0 to 1: along the lower edge, and up.
#[derive(Clone, Debug)]
pub(super) struct Panel {
    /// Beginning and end of the lower edge, then end and beginning of the upper edge.
    corners: [Position; 4],
    /// Unit normal, pointing outwards.
    normal: Position,
    /// Corners, anticlockwise, of the convex shape to which painting is clipped; empty for the whole panel.
    outline: Vec<Point>,
}

impl Panel {
    /// The panel with these corners: beginning and end of the lower edge, then end and beginning of the upper
    /// edge. `inside` is a position inside the solid, so the normal points away from it.
    pub(super) fn new(corners: [Position; 4], inside: Position) -> Self {
        let [from, to, _, above] = corners;
        let normal = cross(minus(to, from), minus(above, from));
        let outwards = dot(normal, minus(from, inside)).signum();
        Self {
            corners,
            normal: times(normal, outwards / length(normal).max(f32::MIN_POSITIVE)),
            outline: Vec::new(),
        }
    }

    /// This panel, clipped to a convex shape.
    pub(super) fn clipped_to(self, outline: Vec<Point>) -> Self {
        Self { outline, ..self }
    }

    /// Moves the panel to the left of the vehicle, by `left` metres.
    pub(super) fn shift(&mut self, left: f32) {
        for corner in &mut self.corners {
            corner[1] += left;
        }
    }

    /// The position in space of a point on the panel.
    pub(super) fn at(&self, [along, up]: Point) -> Position {
        let [from, to, above_to, above_from] = self.corners;
        between(
            between(from, to, along),
            between(above_from, above_to, along),
            up,
        )
    }

    /// Width and height in metres, measured through the centre.
    pub(super) fn size(&self) -> [f32; 2] {
        let distance = |from, to| length(minus(self.at(to), self.at(from)));
        [
            distance([0.0, 0.5], [1.0, 0.5]),
            distance([0.5, 0.0], [0.5, 1.0]),
        ]
    }
}

/// A brush that paints positions in space through a lens, lit by the sun.
pub(super) struct Brush<'a> {
    pub(super) canvas: &'a mut Canvas,
    pub(super) lens: Lens,
    /// Direction towards the sun, with a length of about 1.
    pub(super) sun: Position,
}

impl Brush<'_> {
    /// Paints a polygon, clipped at the near plane.
    pub(super) fn polygon(&mut self, corners: &[Position], colour: Colour) {
        let mut seen = Vec::with_capacity(corners.len() + 1);
        for (index, &corner) in corners.iter().enumerate() {
            let next = corners[(index + 1) % corners.len()];
            let [here, there] = [corner, next].map(|position| self.lens.depth(position) - NEAR);
            if here >= 0.0 {
                seen.push(self.lens.see(corner));
            }
            if (here < 0.0) != (there < 0.0) {
                let cut = between(corner, next, here / (here - there));
                seen.push(self.lens.see(cut));
            }
        }
        self.canvas.polygon(&seen, colour);
    }

    /// Calls `paint` with the panel, if the lens sees its outer side.
    pub(super) fn on(&mut self, panel: &Panel, paint: impl FnOnce(&mut Sheet<'_, '_>)) {
        if self.lens.sees(panel.corners[0], panel.normal) {
            let light = self.light(panel.normal);
            paint(&mut Sheet {
                brush: self,
                panel,
                light,
            });
        }
    }

    /// The brightness of a face with this normal: ambient light, light from above and light from the sun.
    fn light(&self, normal: Position) -> f32 {
        0.74 + 0.14 * normal[2] + 0.26 * dot(normal, self.sun).max(0.0)
    }
}

/// A panel that is being painted. Lengths are in metres; coordinates of points go from 0 to 1.
pub(super) struct Sheet<'b, 'a> {
    brush: &'b mut Brush<'a>,
    panel: &'b Panel,
    light: f32,
}

impl Sheet<'_, '_> {
    /// Width and height of the panel in metres.
    pub(super) fn size(&self) -> [f32; 2] {
        self.panel.size()
    }

    /// Paints a polygon in the light of the panel.
    pub(super) fn polygon(&mut self, corners: &[Point], colour: Colour) {
        let corners = inside(corners, &self.panel.outline);
        let positions: Vec<_> = corners.iter().map(|&point| self.panel.at(point)).collect();
        self.brush.polygon(&positions, colour.lit(self.light));
    }

    /// Paints the rectangle between two opposite corners.
    pub(super) fn rectangle(&mut self, from: Point, to: Point, colour: Colour) {
        let corners = [from, [to[0], from[1]], to, [from[0], to[1]]];
        self.polygon(&corners, colour);
    }

    /// Paints a rectangle of this size, in metres, around its centre.
    pub(super) fn tile(&mut self, centre: Point, size: [f32; 2], colour: Colour) {
        let [across, up] = self.halves(size);
        let [x, y] = centre;
        self.rectangle([x - across, y - up], [x + across, y + up], colour);
    }

    /// Paints the polygon with these corners, given in metres relative to `centre`.
    pub(super) fn figure(&mut self, centre: Point, corners: &[Point], colour: Colour) {
        let [width, height] = self.size();
        let position = |&[x, y]: &Point| [centre[0] + x / width, centre[1] + y / height];
        let corners: Vec<_> = corners.iter().map(position).collect();
        self.polygon(&corners, colour);
    }

    /// Paints a disc with this radius, in metres.
    pub(super) fn disc(&mut self, centre: Point, radius: f32, colour: Colour) {
        self.figure(centre, &circle(radius), colour);
    }

    /// Paints a line of this width, in metres.
    pub(super) fn line(&mut self, points: &[Point], width: f32, colour: Colour) {
        let positions = points.iter().map(|&point| self.panel.at(point));
        let seen: Vec<_> = positions
            .map(|position| self.brush.lens.see(position))
            .collect();
        let width = width * self.brush.lens.metre(self.panel.at([0.5, 0.5]));
        self.brush.canvas.line(&seen, width, colour.lit(self.light));
    }

    /// Half of a size in metres, as a share of the panel's size.
    fn halves(&self, [width, height]: [f32; 2]) -> [f32; 2] {
        let [wide, high] = self.size();
        [0.5 * width / wide, 0.5 * height / high]
    }
}

/// Clips a polygon to a convex outline, one side after the other (Sutherland and Hodgman, CACM 1974).
fn inside(corners: &[Point], outline: &[Point]) -> Vec<Point> {
    let twice_area = |from: Point, to: Point, point: Point| {
        (to[0] - from[0]) * (point[1] - from[1]) - (to[1] - from[1]) * (point[0] - from[0])
    };
    let mut left = corners.to_vec();
    for (index, &from) in outline.iter().enumerate() {
        let to = outline[(index + 1) % outline.len()];
        let whole = std::mem::take(&mut left);
        for (index, &corner) in whole.iter().enumerate() {
            let next = whole[(index + 1) % whole.len()];
            let [here, there] = [corner, next].map(|point| twice_area(from, to, point));
            if here >= 0.0 {
                left.push(corner);
            }
            if (here < 0.0) != (there < 0.0) {
                let share = here / (here - there);
                left.push(std::array::from_fn(|axis| {
                    corner[axis] + share * (next[axis] - corner[axis])
                }));
            }
        }
    }
    left
}

/// Corners of a circle around the origin.
pub(super) fn circle(radius: f32) -> [Point; 20] {
    std::array::from_fn(|corner| {
        let angle = std::f32::consts::TAU * corner as f32 / 20.0;
        [radius * angle.cos(), radius * angle.sin()]
    })
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::{super::space::Viewpoint, *};

    /// 2 m wide and 1 m high, 1 m in front of the origin.
    const FRONT: [Position; 4] = [
        [1.0, -1.0, 0.0],
        [1.0, 1.0, 0.0],
        [1.0, 1.0, 1.0],
        [1.0, -1.0, 1.0],
    ];

    #[test]
    fn a_panel_has_positions_a_size_and_a_normal() {
        let panel = Panel::new(FRONT, [0.0; 3]);
        let near = |one: Position, other: Position| length(minus(one, other)) < 1e-6;
        assert!(near(panel.at([0.25, 0.5]), [1.0, -0.5, 0.5]));
        let [width, height] = panel.size();
        assert!((width - 2.0).abs() < 1e-6 && (height - 1.0).abs() < 1e-6);
        // The normal points away from the inside position.
        assert!(near(panel.normal, [1.0, 0.0, 0.0]));
        let other = Panel::new(FRONT, [2.0, 0.0, 0.0]);
        assert!(near(other.normal, [-1.0, 0.0, 0.0]));
    }

    #[test]
    fn a_polygon_is_clipped_to_the_outline() {
        // An outline that ends in the middle of the unit square leaves half of it.
        let square = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]];
        let outline = [[-1.0, -1.0], [0.5, -1.0], [0.5, 2.0], [-1.0, 2.0]];
        let half = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]];
        for (corner, expected) in inside(&square, &outline).iter().zip(half) {
            assert!((corner[0] - expected[0]).hypot(corner[1] - expected[1]) < 1e-6);
        }
        assert_eq!(inside(&square, &outline).len(), 4);
        assert_eq!(inside(&square, &[]).len(), 4);
    }

    #[test]
    fn only_the_side_towards_the_lens_is_painted() {
        let viewpoint = Viewpoint {
            azimuth: 0.0,
            elevation: 0.0,
            distance: 11.0,
        };
        let painted = |inside| {
            // At a distance of 10 m, a metre is 0.1 image heights: 2 of 20 pixels.
            let mut canvas = Canvas::new([20, 20], 20.0, [0.0, -0.5]);
            let mut brush = Brush {
                canvas: &mut canvas,
                lens: Lens::new(viewpoint, [0.0; 3]),
                sun: [1.0, 0.0, 0.0],
            };
            brush.on(&Panel::new(FRONT, inside), |sheet| {
                sheet.rectangle([0.0, 0.0], [1.0, 1.0], Colour::WHITE);
            });
            let image = canvas.into_image();
            image
                .pixels()
                .filter(|&&pixel| pixel == Rgb([255; 3]))
                .count()
        };
        assert_eq!(painted([0.0; 3]), 4 * 2);
        assert_eq!(painted([2.0, 0.0, 0.0]), 0);
    }
}
