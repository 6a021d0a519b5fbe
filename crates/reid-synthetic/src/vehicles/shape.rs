//! Painting a vehicle from its parts, the farthest parts first.

use super::{
    super::colour::Colour,
    coachwork, load,
    model::Upper,
    panel::Brush,
    solid,
    space::Position,
    vehicle::Vehicle,
    wheel::{self, Hub},
};

/// Paints a vehicle that stands at the origin.
pub(super) fn paint(vehicle: &Vehicle, brush: &mut Brush<'_>) {
    let model = vehicle.model;
    shadow(vehicle, brush);
    for hub in hubs(vehicle) {
        wheel::tyre(vehicle, hub, brush);
    }
    underbody(vehicle, brush);
    mirrors(vehicle, false, brush);
    let cargo = model.cargo.as_ref();
    // If the lens is ahead of the rear end of a lorry's cab, the container is farther away than the cab and
    // is painted first.
    let behind = cargo.filter(|_| brush.lens.sees([model.back, 0.0, 0.0], [1.0, 0.0, 0.0]));
    if let Some(cargo) = behind {
        container(vehicle, cargo, brush);
    }
    for (face, panel) in solid::body(model) {
        brush.on(&panel, |sheet| coachwork::body(vehicle, face, sheet));
    }
    for (face, panel) in solid::upper(&model.cabin) {
        brush.on(&panel, |sheet| coachwork::cabin(vehicle, face, sheet));
    }
    load::paint(vehicle, brush);
    if let (Some(cargo), None) = (cargo, behind) {
        container(vehicle, cargo, brush);
    }
    for hub in hubs(vehicle) {
        wheel::paint(vehicle, hub, brush);
    }
    mirrors(vehicle, true, brush);
}

fn container(vehicle: &Vehicle, cargo: &Upper, brush: &mut Brush<'_>) {
    for (face, panel) in solid::upper(cargo) {
        brush.on(&panel, |sheet| coachwork::cargo(vehicle, face, sheet));
    }
}

/// Corners of the box around a vehicle.
pub(super) fn corners(vehicle: &Vehicle) -> Vec<Position> {
    let model = vehicle.model;
    let half = model.half_width;
    let mut corners = Vec::with_capacity(8);
    for along in [model.rear, model.front] {
        for aside in [-half, half] {
            for height in [0.0, model.height()] {
                corners.push([along, aside, height]);
            }
        }
    }
    corners
}

fn shadow(vehicle: &Vehicle, brush: &mut Brush<'_>) {
    let model = vehicle.model;
    for (wider, opacity) in [(0.22, 0.22), (0.05, 0.3)] {
        let half = model.half_width + wider;
        let (front, rear) = (model.front + wider, model.rear - wider);
        let cut = 0.35;
        let outline = [
            [front, half - cut, 0.0],
            [front - cut, half, 0.0],
            [rear + cut, half, 0.0],
            [rear, half - cut, 0.0],
            [rear, cut - half, 0.0],
            [rear + cut, -half, 0.0],
            [front - cut, -half, 0.0],
            [front, cut - half, 0.0],
        ];
        brush.polygon(&outline, Colour::BLACK.veil(opacity));
    }
}

/// Paints the dark underbody, also below a container.
fn underbody(vehicle: &Vehicle, brush: &mut Brush<'_>) {
    let model = vehicle.model;
    let half = 0.9 * model.half_width;
    let top = model.cargo.map_or(model.sill, |cargo| cargo.heights[0]) + 0.08;
    let from = [model.rear + 0.25, -half, 0.6 * model.sill];
    let to = [model.front - 0.25, half, top];
    for (_, panel) in solid::block(from, to) {
        brush.on(&panel, |sheet| {
            sheet.rectangle([0.0, 0.0], [1.0, 1.0], Colour::hex(0x18_191b));
        });
    }
}

fn hubs(vehicle: &Vehicle) -> impl Iterator<Item = Hub> + use<> {
    let sides = [-1.0, 1.0].into_iter();
    let axles = vehicle.model.axles;
    sides.flat_map(move |side| axles.map(|along| Hub { along, side }))
}

/// Paints the mirrors on the visible sides (`outside`) or on the hidden sides.
fn mirrors(vehicle: &Vehicle, outside: bool, brush: &mut Brush<'_>) {
    let model = vehicle.model;
    let [along, height] = [model.cabin.floor[0] - 0.3, model.shoulder() + 0.02];
    for side in [-1.0, 1.0] {
        let at = side * model.half_width;
        let seen = brush.lens.sees([along, at, height], [0.0, side, 0.0]);
        if seen == outside {
            let from = [along, at - 0.1, height];
            for (_, panel) in solid::block(from, [along + 0.14, at + 0.1, height + 0.16]) {
                brush.on(&panel, |sheet| {
                    sheet.rectangle([0.0, 0.0], [1.0, 1.0], vehicle.paint);
                });
            }
        }
    }
}
