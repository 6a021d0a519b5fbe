//! Space: places around a vehicle in metres, and the lens they are seen through.

use super::super::canvas::Point;

/// A place on or around a vehicle, in metres: forward, to its left, and above the road.
pub(super) type Place = [f32; 3];

/// The least depth that is drawn, in metres: nearer things are behind the lens, or about to be.
pub(super) const NEAR: f32 = 0.8;

/// From where a vehicle is seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Viewpoint {
    /// Turn in radians: 0 faces the vehicle, π/2 sees its left side, π its rear.
    pub(super) azimuth: f32,
    /// Angle above the road in radians.
    pub(super) elevation: f32,
    /// Distance of the lens from the vehicle's middle, in metres.
    pub(super) distance: f32,
}

/// What part of what is seen becomes the picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    /// Width of the picture in its heights.
    pub(super) aspect: f32,
    /// Size of the vehicle; 1 touches two opposite edges.
    pub(super) zoom: f32,
    /// How far the vehicle is off the middle, in picture heights.
    pub(super) aside: Point,
}

/// A lens: places become points, in picture heights from the middle of the upper edge.
///
/// ```text
/// q = place − eye,  depth = −q · toward
/// point = scale / depth · (q · right, −q · up) + shift
/// ```
#[derive(Clone, Copy, Debug)]
pub(super) struct Lens {
    eye: Place,
    right: Place,
    up: Place,
    /// From the vehicle to the eye.
    toward: Place,
    scale: f32,
    shift: Point,
}

impl Lens {
    /// The lens at a viewpoint, which looks at `target`.
    pub(super) fn new(viewpoint: Viewpoint, target: Place) -> Self {
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

    /// This lens zoomed and shifted so that `places` fill the frame.
    pub(super) fn framing(self, places: &[Place], frame: Frame) -> Self {
        let seen: Vec<Point> = places.iter().map(|&place| self.see(place)).collect();
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

    /// This lens before a vehicle that stands at `place` instead of at the origin.
    pub(super) fn before(self, place: Place) -> Self {
        Self {
            eye: minus(self.eye, place),
            ..self
        }
    }

    /// Where a place is seen.
    pub(super) fn see(&self, place: Place) -> Point {
        let from_eye = minus(place, self.eye);
        let metre = self.metre(place);
        [
            self.shift[0] + metre * dot(from_eye, self.right),
            self.shift[1] - metre * dot(from_eye, self.up),
        ]
    }

    /// Distance of a place from the lens along its axis, in metres.
    pub(super) fn depth(&self, place: Place) -> f32 {
        dot(minus(self.eye, place), self.toward)
    }

    /// Length of a metre at a place, in picture heights.
    pub(super) fn metre(&self, place: Place) -> f32 {
        self.scale / self.depth(place).max(NEAR)
    }

    /// Whether the lens is on the side of a face to which its normal points.
    pub(super) fn sees(&self, place: Place, normal: Place) -> bool {
        dot(minus(self.eye, place), normal) > 0.0
    }

    /// How high on the picture the road is seen that is `metres` behind the vehicle.
    pub(super) fn far_ground(&self, metres: f32) -> f32 {
        let [forward, left, _] = times(self.toward, -metres / self.up[2].max(0.1));
        self.see([forward, left, 0.0])[1]
    }
}

pub(super) fn plus(one: Place, other: Place) -> Place {
    [one[0] + other[0], one[1] + other[1], one[2] + other[2]]
}

pub(super) fn minus(one: Place, other: Place) -> Place {
    [one[0] - other[0], one[1] - other[1], one[2] - other[2]]
}

pub(super) fn times(place: Place, factor: f32) -> Place {
    place.map(|value| value * factor)
}

pub(super) fn dot(one: Place, other: Place) -> f32 {
    one[0] * other[0] + one[1] * other[1] + one[2] * other[2]
}

/// The product at a right angle to both.
pub(super) fn cross(one: Place, other: Place) -> Place {
    [
        one[1] * other[2] - one[2] * other[1],
        one[2] * other[0] - one[0] * other[2],
        one[0] * other[1] - one[1] * other[0],
    ]
}

pub(super) fn length(place: Place) -> f32 {
    dot(place, place).sqrt()
}

/// The place `share` of the way from one to the other.
pub(super) fn between(one: Place, other: Place, share: f32) -> Place {
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
    fn a_lens_in_front_sees_left_on_its_right() {
        // 10 m before the vehicle: 1 m to its left and 2 m up are 0.1 to the right and 0.2 up.
        assert!(near(lens(0.0, 0.0).see([0.0, 1.0, 2.0]), [0.1, -0.2]));
        // 2 m nearer, 8 m are left: 1 / 8.
        assert!(near(lens(0.0, 0.0).see([2.0, 1.0, 0.0]), [0.125, 0.0]));
        // From its left the front is on the left.
        assert!(near(lens(FRAC_PI_2, 0.0).see([1.0, 0.0, 0.0]), [-0.1, 0.0]));
        // From above the front is below.
        assert!(near(lens(0.0, FRAC_PI_2).see([1.0, 0.0, 0.0]), [0.0, 0.1]));
    }

    #[test]
    fn what_is_framed_touches_two_edges() {
        let frame = Frame {
            aspect: 2.0,
            zoom: 1.0,
            aside: [0.0, 0.0],
        };
        // As wide as high, in a picture twice as wide: it touches above and below, in the middle.
        let corners = [[0.0, -1.0, 0.0], [0.0, 1.0, 2.0]];
        let framed = lens(0.0, 0.0).framing(&corners, frame);
        assert!(near(framed.see(corners[0]), [-0.5, 1.0]));
        assert!(near(framed.see(corners[1]), [0.5, 0.0]));
    }

    #[test]
    fn far_ground_is_behind_the_vehicle() {
        // From an angle of 0.3 behind, level ground 5 m on: 5 · cos 0.3 deeper, 5 · sin 0.3 higher.
        let seen = lens(0.0, 0.3).far_ground(5.0);
        let expected = -5.0 * 0.3_f32.sin() / (10.0 + 5.0 * 0.3_f32.cos());
        assert!((seen - expected).abs() < 1e-5, "{seen} {expected}");
    }
}
