//! Positions around a vehicle in metres, and the perspective projection to the image.

use super::super::canvas::Point;

/// A position in the coordinate system of a vehicle, in metres: forward, to the left, and above the road.
pub(super) type Position = [f32; 3];

/// The near plane: the smallest depth that is drawn, in metres.
pub(super) const NEAR: f32 = 0.8;

/// The position of the camera relative to a vehicle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Viewpoint {
    /// Azimuth in radians: 0 sees the front of the vehicle, π/2 its left side, π its rear.
    pub(super) azimuth: f32,
    /// Elevation above the road in radians.
    pub(super) elevation: f32,
    /// Distance of the lens from the vehicle's middle, in metres.
    pub(super) distance: f32,
}

/// The framing of the vehicle in the image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    /// Aspect ratio of the image: width / height.
    pub(super) aspect: f32,
    /// Size of the vehicle. At 1 it touches two opposite edges.
    pub(super) zoom: f32,
    /// Offset of the vehicle from the centre (to the right, down), in image heights.
    pub(super) aside: Point,
}

/// A perspective projection from positions to points of the image. Points are in image heights, relative to
/// the middle of the upper edge.
///
/// ```text
/// q = position − eye,  depth = −q · toward
/// point = scale / depth · (q · right, −q · up) + shift
/// ```
#[derive(Clone, Copy, Debug)]
pub(super) struct Lens {
    eye: Position,
    right: Position,
    up: Position,
    /// Unit vector from the vehicle to the eye.
    toward: Position,
    scale: f32,
    shift: Point,
}

impl Lens {
    /// The lens at a viewpoint, directed at `target`.
    pub(super) fn new(viewpoint: Viewpoint, target: Position) -> Self {
        let (sin, cos) = viewpoint.azimuth.sin_cos();
        let (rise, level) = viewpoint.elevation.sin_cos();
        let toward = [cos * level, sin * level, rise];
        Self {
            eye: plus(target, times(toward, viewpoint.distance)),
            right: [-sin, cos, 0.0],
            up: [-cos * rise, -sin * rise, level],
            toward,
            scale: 1.0,
            shift: [0.0, 0.0],
        }
    }

    /// This lens zoomed and shifted so that `positions` fill the frame.
    pub(super) fn framing(self, positions: &[Position], frame: Frame) -> Self {
        let seen: Vec<Point> = positions
            .iter()
            .map(|&position| self.see(position))
            .collect();
        let span = |axis: usize| {
            let along = seen.iter().map(|point| point[axis]);
            along.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            })
        };
        let [(left, right), (top, bottom)] = [span(0), span(1)];
        let scale = frame.zoom * (frame.aspect / (right - left)).min(1.0 / (bottom - top));
        let [across, down] = frame.aside;
        let shift = [
            across - scale * f32::midpoint(left, right),
            0.5 + down - scale * f32::midpoint(top, bottom),
        ];
        Self {
            scale,
            shift,
            ..self
        }
    }

    /// This lens in the coordinate system of a vehicle at `position`.
    pub(super) fn relative_to(self, position: Position) -> Self {
        Self {
            eye: minus(self.eye, position),
            ..self
        }
    }

    /// Projects a position to its point in the image.
    pub(super) fn see(&self, position: Position) -> Point {
        let from_eye = minus(position, self.eye);
        let metre = self.metre(position);
        [
            self.shift[0] + metre * dot(from_eye, self.right),
            self.shift[1] - metre * dot(from_eye, self.up),
        ]
    }

    /// Depth of a position: its distance from the lens along the optical axis, in metres.
    pub(super) fn depth(&self, position: Position) -> f32 {
        dot(minus(self.eye, position), self.toward)
    }

    /// Length of a metre at a position, in image heights.
    pub(super) fn metre(&self, position: Position) -> f32 {
        self.scale / self.depth(position).max(NEAR)
    }

    /// Whether the lens sees the outer side of a face with this normal.
    pub(super) fn sees(&self, position: Position, normal: Position) -> bool {
        dot(minus(self.eye, position), normal) > 0.0
    }

    /// The image y coordinate of the road surface, `metres` beyond the vehicle.
    pub(super) fn far_ground(&self, metres: f32) -> f32 {
        let [forward, left, _] = times(self.toward, -metres / self.up[2].max(0.1));
        self.see([forward, left, 0.0])[1]
    }
}

pub(super) fn plus(one: Position, other: Position) -> Position {
    [one[0] + other[0], one[1] + other[1], one[2] + other[2]]
}

pub(super) fn minus(one: Position, other: Position) -> Position {
    [one[0] - other[0], one[1] - other[1], one[2] - other[2]]
}

pub(super) fn times(position: Position, factor: f32) -> Position {
    position.map(|value| value * factor)
}

pub(super) fn dot(one: Position, other: Position) -> f32 {
    one[0] * other[0] + one[1] * other[1] + one[2] * other[2]
}

/// The cross product.
pub(super) fn cross(one: Position, other: Position) -> Position {
    [
        one[1] * other[2] - one[2] * other[1],
        one[2] * other[0] - one[0] * other[2],
        one[0] * other[1] - one[1] * other[0],
    ]
}

pub(super) fn length(position: Position) -> f32 {
    dot(position, position).sqrt()
}

/// Interpolates linearly: `one` at `share` 0, `other` at `share` 1.
pub(super) fn between(one: Position, other: Position, share: f32) -> Position {
    plus(one, times(minus(other, one), share))
}

#[cfg(test)]
mod tests {
    use std::f32::consts::FRAC_PI_2;

    use super::*;

    fn lens(azimuth: f32, elevation: f32) -> Lens {
        let viewpoint = Viewpoint {
            azimuth,
            elevation,
            distance: 10.0,
        };
        Lens::new(viewpoint, [0.0; 3])
    }

    fn near(one: Point, other: Point) -> bool {
        (one[0] - other[0]).hypot(one[1] - other[1]) < 1e-5
    }

    #[test]
    fn positions_are_projected_from_every_side() {
        // From 10 m in front: 1 m to the vehicle's left and 2 m up are 0.1 to the right and 0.2 up.
        assert!(near(lens(0.0, 0.0).see([0.0, 1.0, 2.0]), [0.1, -0.2]));
        // 2 m nearer, the distance is 8 m: 1 / 8.
        assert!(near(lens(0.0, 0.0).see([2.0, 1.0, 0.0]), [0.125, 0.0]));
        // From the left side, the front of the vehicle is on the left of the image.
        assert!(near(lens(FRAC_PI_2, 0.0).see([1.0, 0.0, 0.0]), [-0.1, 0.0]));
        // From above, the front of the vehicle is at the bottom of the image.
        assert!(near(lens(0.0, FRAC_PI_2).see([1.0, 0.0, 0.0]), [0.0, 0.1]));
    }

    #[test]
    fn a_framed_vehicle_touches_two_edges() {
        let frame = Frame {
            aspect: 2.0,
            zoom: 1.0,
            aside: [0.0, 0.0],
        };
        // A square vehicle in an image twice as wide as high: it touches the upper and the lower edge.
        let corners = [[0.0, -1.0, 0.0], [0.0, 1.0, 2.0]];
        let framed = lens(0.0, 0.0).framing(&corners, frame);
        assert!(near(framed.see(corners[0]), [-0.5, 1.0]));
        assert!(near(framed.see(corners[1]), [0.5, 0.0]));
    }

    #[test]
    fn far_ground_is_behind_the_vehicle() {
        // At an elevation of 0.3, ground 5 m behind is 5 · cos 0.3 deeper and 5 · sin 0.3 higher.
        let seen = lens(0.0, 0.3).far_ground(5.0);
        let expected = -5.0 * 0.3_f32.sin() / (10.0 + 5.0 * 0.3_f32.cos());
        assert!((seen - expected).abs() < 1e-5, "{seen} {expected}");
    }
}
