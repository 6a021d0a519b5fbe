//! Obstructions between a vehicle and the camera.

use rand::RngExt;
use reid_core::{Seed, Stream};

use super::{super::obstacle, panel::Brush, shape, space::Viewpoint, vehicle::Vehicle};

/// Height of a person in metres. It is the unit of posts, bins and bushes.
const PERSON: f32 = 1.75;

/// Paints another vehicle or an obstacle at the roadside in front of the vehicle.
pub(super) fn paint(
    brush: &mut Brush<'_>,
    vehicle: &Vehicle,
    viewpoint: Viewpoint,
    seed: Seed,
    difficulty: f32,
) {
    let mut stream = seed.stream();
    if stream.random_bool(0.45) {
        let other = Vehicle::stranger(seed.named("other"), difficulty);
        let before = brush.lens;
        brush.lens = before.relative_to(beside(vehicle, &other, viewpoint, &mut stream));
        shape::paint(&other, brush);
        brush.lens = before;
        return;
    }
    let (sin, cos) = viewpoint.azimuth.sin_cos();
    let model = vehicle.model;
    let away = 0.5 + (model.front * cos).abs() + (model.half_width * sin).abs();
    let along = stream.random_range(-0.5..0.5) * (model.front * sin).hypot(model.half_width * cos);
    let foot = [away * cos - along * sin, away * sin + along * cos, 0.0];
    let [x, y] = brush.lens.see(foot);
    // Seen from a low viewpoint, a vehicle ends close to the edge. The obstacle must still be visible.
    let y = y.min(0.97);
    let unit = PERSON * brush.lens.metre(foot);
    brush.canvas.moved([x, y - unit], unit, |canvas| {
        obstacle::paint(canvas, seed.named("obstacle"), difficulty);
    });
}

/// The position of another vehicle that is nearer to the camera and hides one end of this one.
fn beside(
    vehicle: &Vehicle,
    other: &Vehicle,
    viewpoint: Viewpoint,
    stream: &mut Stream,
) -> [f32; 3] {
    let (sin, cos) = viewpoint.azimuth.sin_cos();
    let halves = vehicle.model.front + other.model.front;
    let side = if stream.random_bool(0.5) { 1.0 } else { -1.0 };
    if cos.abs() > 0.7 {
        // Ahead of the vehicle or behind it, partly in the next lane.
        let aside = side * stream.random_range(1.3..1.9);
        return [cos.signum() * (halves + 0.8), aside, 0.0];
    }
    let along = side * halves * stream.random_range(0.62..0.85);
    [along, sin.signum() * 2.6, 0.0]
}
