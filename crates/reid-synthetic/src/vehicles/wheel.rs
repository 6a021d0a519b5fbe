//! Wheels: tyres, rims and wheel arches.

use super::{
    super::{canvas::Point, colour::Colour},
    panel::{Brush, Panel, Sheet, circle},
    space::Position,
    vehicle::{Rims, Vehicle},
};

const RUBBER: u32 = 0x1c_1c1e;
/// Width of a tyre in metres.
const TYRE: f32 = 0.24;

/// The position of a wheel: its centre along the vehicle, and its side (1 for left, -1 for right).
#[derive(Clone, Copy, Debug)]
pub(super) struct Hub {
    pub(super) along: f32,
    pub(super) side: f32,
}

/// Paints the tyre. The body later covers its upper part.
pub(super) fn tyre(vehicle: &Vehicle, hub: Hub, brush: &mut Brush<'_>) {
    let Hub { along, side } = hub;
    let radius = vehicle.model.wheel;
    let outer = vehicle.model.half_width;
    for step in 0..=4 {
        let aside = side * (outer - TYRE * step as f32 / 4.0);
        brush.polygon(&ring([along, aside, radius], radius), Colour::hex(RUBBER));
    }
}

/// Paints the outer side of a wheel: the arch, the tyre and the rim.
pub(super) fn paint(vehicle: &Vehicle, hub: Hub, brush: &mut Brush<'_>) {
    let radius = vehicle.model.wheel;
    let rubber = Colour::hex(RUBBER);
    brush.on(&square(vehicle, hub), |sheet| {
        sheet.disc([0.5, 0.52], 1.24 * radius, Colour::hex(0x10_1012));
        sheet.disc([0.5, 0.5], radius, rubber);
        rim(vehicle, rubber, sheet);
    });
}

/// The square panel around the outer side of a wheel.
fn square(vehicle: &Vehicle, hub: Hub) -> Panel {
    let Hub { along, side } = hub;
    let radius = vehicle.model.wheel;
    let outer = side * (vehicle.model.half_width + 0.01);
    let corners = [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]
        .map(|[x, z]: Point| [along + x * radius, outer, radius + z * radius]);
    Panel::new(corners, [along, 0.0, radius])
}

fn rim(vehicle: &Vehicle, rubber: Colour, sheet: &mut Sheet<'_, '_>) {
    let radius = vehicle.model.wheel;
    let (style, metal) = vehicle.rims;
    let middle = [0.5, 0.5];
    let gap = 0.62 * radius;
    sheet.disc(middle, 0.7 * radius, metal);
    match style {
        Rims::Disc => sheet.disc(middle, 0.2 * radius, rubber),
        Rims::FiveSpokes => {
            sheet.disc(middle, gap, Colour::hex(0x2a_2b2e));
            for spoke in spokes(5, 0.2 * radius, gap) {
                sheet.figure(middle, &spoke, metal);
            }
            sheet.disc(middle, 0.18 * radius, metal);
        }
        Rims::Rays => {
            for ray in spokes(9, 0.09 * radius, gap) {
                sheet.figure(middle, &ray, rubber);
            }
        }
    }
}

/// The corners of a circle in the vertical plane along the vehicle.
fn ring(centre: Position, radius: f32) -> Vec<Position> {
    let [along, aside, height] = centre;
    circle(radius)
        .map(|[x, z]| [along + x, aside, height + z])
        .to_vec()
}

/// Bars from the centre outwards. The first one points upwards.
fn spokes(count: u8, half: f32, reach: f32) -> impl Iterator<Item = [Point; 4]> {
    (0..count).map(move |spoke| {
        let angle = std::f32::consts::TAU * (f32::from(spoke) / f32::from(count) + 0.25);
        let (sin, cos) = angle.sin_cos();
        [[0.0, -half], [reach, -half], [reach, half], [0.0, half]]
            .map(|[x, y]: Point| [x * cos - y * sin, x * sin + y * cos])
    })
}
