//! Obstruction: what is between a vehicle and the camera.

use rand::RngExt;
use reid_core::{Seed, Stream};

use super::{super::obstacle, panel::Brush, shape, space::Viewpoint, vehicle::Vehicle};

/// Height of a passer-by in metres, which posts, bins and bushes are measured in.
const PERSON: f32 = 1.75;

/// Paints another vehicle that overlaps, or things at the roadside.
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
        brush.lens = before.before(beside(vehicle, &other, viewpoint, &mut stream));
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
    // A vehicle seen from low down ends close to the edge: what is before it still has to show.
    let y = y.min(0.97);
    let unit = PERSON * brush.lens.metre(foot);
    brush.canvas.moved([x, y - unit], unit, |canvas| {
        obstacle::paint(canvas, seed.named("obstacle"), difficulty);
    });
}

/// Where another vehicle stands that is nearer to the camera and hides one end of this one.
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
        // In the same lane or half in the next, before its bonnet or behind its tail.
        let aside = side * stream.random_range(1.3..1.9);
        return [cos.signum() * (halves + 0.8), aside, 0.0];
    }
    let along = side * halves * stream.random_range(0.62..0.85);
    [along, sin.signum() * 2.6, 0.0]
}
