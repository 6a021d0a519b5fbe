//! Coachwork: the details on each panel of the body, the cabin and the container.

use super::{
    super::{canvas::Point, colour::Colour},
    livery::{self, Side},
    model::Model,
    panel::Sheet,
    solid::Face,
    vehicle::{Lamps, Stripes, Vehicle},
};

const HEADLAMP: u32 = 0xf5_f2da;
const TAIL_LAMP: u32 = 0xb8_1f1f;
const DARK: u32 = 0x1d_1e21;

/// Right and left of the middle.
const SIDES: [f32; 2] = [-1.0, 1.0];

/// Paints a panel of the body.
pub(super) fn body(vehicle: &Vehicle, face: Face, sheet: &mut Sheet<'_, '_>) {
    sheet.rectangle([0.0, 0.0], [1.0, 1.0], vehicle.paint);
    let bare = vehicle.model.cargo.is_some();
    match face {
        Face::Front => front(vehicle, sheet),
        Face::Slope => bonnet(vehicle, sheet),
        Face::Top => deck(vehicle, sheet),
        // The container of a lorry is behind its cab.
        Face::Rear if bare => {}
        Face::Rear => rear(vehicle, sheet),
        Face::Left => flank(vehicle, Side::Left, sheet),
        Face::Right => flank(vehicle, Side::Right, sheet),
    }
}

fn front(vehicle: &Vehicle, sheet: &mut Sheet<'_, '_>) {
    livery::stripes(vehicle, Side::Front, sheet);
    sheet.rectangle([0.0, 0.0], [1.0, 0.36], vehicle.trim);
    sheet.rectangle([0.0, 0.36], [1.0, 0.39], Colour::BLACK.veil(0.4));
    sheet.rectangle([0.28, 0.46], [0.72, 0.8], Colour::hex(DARK));
    for up in [0.56, 0.68] {
        sheet.rectangle([0.28, up], [0.72, up + 0.03], Colour::hex(0x86_8b90));
    }
    lamps(vehicle, 0.64, HEADLAMP, sheet);
    plate(vehicle, [0.5, 0.2], sheet);
    livery::mend(vehicle, Side::Front, sheet);
    livery::dirt(vehicle, sheet);
}

fn bonnet(vehicle: &Vehicle, sheet: &mut Sheet<'_, '_>) {
    if sheet.size()[1] < 0.4 {
        return;
    }
    livery::stripes(vehicle, Side::Bonnet, sheet);
    livery::logo(vehicle, [0.5, 0.52], 0.62, sheet);
    livery::sticker(vehicle, Side::Bonnet, sheet);
    for along in [0.06, 0.94] {
        let seam = [[along, 0.04], [along, 0.98]];
        sheet.line(&seam, 0.02, Colour::BLACK.veil(0.35));
    }
    livery::mend(vehicle, Side::Bonnet, sheet);
}

fn deck(vehicle: &Vehicle, sheet: &mut Sheet<'_, '_>) {
    let Model {
        cabin,
        cowl,
        back,
        bed,
        ..
    } = vehicle.model;
    if matches!(vehicle.stripes, Some((Stripes::Lengthwise, _))) {
        livery::stripes(vehicle, Side::Bonnet, sheet);
    }
    if *bed {
        let behind_cabin = (cowl[0] - cabin.floor[1] + 0.05) / (cowl[0] - back);
        sheet.rectangle([0.08, behind_cabin], [0.92, 0.97], Colour::hex(0x2c_2d30));
        sheet.rectangle([0.14, behind_cabin], [0.86, 0.93], Colour::hex(0x46_484b));
    }
}

fn rear(vehicle: &Vehicle, sheet: &mut Sheet<'_, '_>) {
    livery::stripes(vehicle, Side::Rear, sheet);
    sheet.rectangle([0.0, 0.0], [1.0, 0.3], vehicle.trim);
    sheet.rectangle([0.0, 0.3], [1.0, 0.33], Colour::BLACK.veil(0.4));
    for along in [0.08, 0.92] {
        let seam = [[along, 0.32], [along, 0.98]];
        sheet.line(&seam, 0.02, Colour::BLACK.veil(0.35));
    }
    livery::logo(vehicle, [0.5, 0.74], 0.42, sheet);
    livery::sticker(vehicle, Side::Rear, sheet);
    lamps(vehicle, 0.68, TAIL_LAMP, sheet);
    plate(vehicle, [0.5, 0.42], sheet);
    livery::mend(vehicle, Side::Rear, sheet);
    livery::dirt(vehicle, sheet);
}

fn flank(vehicle: &Vehicle, side: Side, sheet: &mut Sheet<'_, '_>) {
    let model = vehicle.model;
    let at = |along: f32| (along - model.back) / (model.front - model.back);
    sheet.rectangle([0.0, 0.8], [1.0, 0.88], Colour::WHITE.veil(0.22));
    sheet.rectangle([0.0, 0.1], [1.0, 0.34], Colour::BLACK.veil(0.13));
    if model.cargo.is_none() {
        livery::stripes(vehicle, side, sheet);
    }
    sheet.rectangle([0.0, 0.0], [1.0, 0.16], vehicle.trim);
    for (end, reach) in [(0.0, 0.35), (1.0, -0.35)] {
        let bumper = end + reach / sheet.size()[0];
        sheet.rectangle(
            [end.min(bumper), 0.0],
            [end.max(bumper), 0.33],
            vehicle.trim,
        );
    }
    for along in doors(model) {
        let seam = [[at(along), 0.17], [at(along), 0.97]];
        sheet.line(&seam, 0.022, Colour::BLACK.veil(0.5));
        sheet.tile([at(along) + 0.03, 0.76], [0.16, 0.04], Colour::hex(DARK));
    }
    if model.cargo.is_none() {
        livery::logo(vehicle, [0.52, 0.52], 0.58, sheet);
        livery::sticker(vehicle, side, sheet);
    }
    livery::mend(vehicle, side, sheet);
    livery::dirt(vehicle, sheet);
    let lamp = vehicle.lamps;
    let high = if lamp == Lamps::Tall { 0.24 } else { 0.12 };
    let nose = (model.nose - model.sill) / (model.shoulder() - model.sill);
    sheet.tile([0.985, 0.64 * nose], [0.16, high], Colour::hex(HEADLAMP));
    if model.cargo.is_none() {
        sheet.tile([0.01, 0.68], [0.14, high], Colour::hex(TAIL_LAMP));
    }
}

/// The positions of the door seams along the vehicle.
fn doors(model: &Model) -> Vec<f32> {
    let [front, _] = model.cabin.floor;
    if model.cargo.is_some() {
        return vec![model.back + 0.15];
    }
    let first = front - 0.15;
    match model.panes {
        1 => vec![first, first - 1.25],
        7 => vec![first - 0.1, first - 1.1, -0.6, -1.6],
        _ => vec![first, first - 0.95, first - 1.8],
    }
}

fn lamps(vehicle: &Vehicle, up: f32, colour: u32, sheet: &mut Sheet<'_, '_>) {
    let colour = Colour::hex(colour);
    let rim = Colour::hex(DARK);
    for side in SIDES {
        let centre = [0.5 + 0.385 * side, up];
        match vehicle.lamps {
            Lamps::Round => {
                sheet.disc(centre, 0.16, rim);
                sheet.disc(centre, 0.13, colour);
            }
            Lamps::Wide => {
                sheet.tile(centre, [0.42, 0.16], rim);
                sheet.tile(centre, [0.38, 0.11], colour);
            }
            Lamps::Tall => {
                sheet.tile(centre, [0.21, 0.34], rim);
                sheet.tile(centre, [0.17, 0.3], colour);
            }
            Lamps::Twin => {
                for aside in [-0.1, 0.1] {
                    let [x, y] = centre;
                    let centre = [x + aside / sheet.size()[0], y];
                    sheet.disc(centre, 0.1, rim);
                    sheet.disc(centre, 0.075, colour);
                }
            }
        }
    }
}

fn plate(vehicle: &Vehicle, centre: Point, sheet: &mut Sheet<'_, '_>) {
    sheet.tile(centre, [0.62, 0.18], Colour::hex(DARK));
    sheet.tile(centre, [0.58, 0.14], vehicle.plate);
    let ink = if vehicle.plate.channels()[1] > 0.5 {
        DARK
    } else {
        0xe8_e8e4
    };
    sheet.tile(centre, [0.4, 0.04], Colour::hex(ink).veil(0.6));
}

/// Paints a panel of the cabin.
pub(super) fn cabin(vehicle: &Vehicle, face: Face, sheet: &mut Sheet<'_, '_>) {
    sheet.rectangle([0.0, 0.0], [1.0, 1.0], vehicle.roof);
    let model = vehicle.model;
    match face {
        Face::Front | Face::Slope => pane(vehicle, [0.06, 0.06], [0.94, 0.92], sheet),
        Face::Top => {
            if let Some((Stripes::Lengthwise, colour)) = vehicle.stripes {
                livery::lengthwise(sheet, vehicle.boldness, colour);
            }
        }
        Face::Rear if model.blind > 0.5 => {
            for [from, to] in [[0.1, 0.45], [0.55, 0.9]] {
                pane(vehicle, [from, 0.45], [to, 0.86], sheet);
            }
            livery::logo(vehicle, [0.5, 0.2], 0.5, sheet);
            sheet.line(&[[0.5, 0.0], [0.5, 1.0]], 0.025, Colour::BLACK.veil(0.5));
        }
        Face::Rear => pane(vehicle, [0.1, 0.12], [0.9, 0.88], sheet),
        Face::Left | Face::Right => windows(vehicle, sheet),
    }
}

/// Paints the side windows with pillars between them.
fn windows(vehicle: &Vehicle, sheet: &mut Sheet<'_, '_>) {
    let Model { panes, blind, .. } = *vehicle.model;
    let (from, to) = (blind + 0.05, 0.95);
    let step = (to - from) / panes as f32;
    for index in 0..panes {
        let left = from + step * index as f32;
        let right = left + step - 0.1 / sheet.size()[0];
        pane(vehicle, [left, 0.1], [right, 0.86], sheet);
    }
    if blind > 0.5 {
        livery::logo(vehicle, [0.4, 0.5], 0.85, sheet);
    }
}

/// Paints a window: the lower half darker, with a reflection across.
fn pane(vehicle: &Vehicle, from: Point, to: Point, sheet: &mut Sheet<'_, '_>) {
    let [left, low] = from;
    let [right, high] = to;
    sheet.rectangle(from, to, vehicle.glass);
    let middle = f32::midpoint(low, high);
    sheet.rectangle(from, [right, middle], Colour::BLACK.veil(0.28));
    let at = |share: f32| left + share * (right - left);
    let glint = [
        [at(0.25), low],
        [at(0.45), low],
        [at(0.7), high],
        [at(0.5), high],
    ];
    sheet.polygon(&glint, Colour::WHITE.veil(0.22));
}

/// Paints a panel of a lorry's container.
pub(super) fn cargo(vehicle: &Vehicle, face: Face, sheet: &mut Sheet<'_, '_>) {
    sheet.rectangle([0.0, 0.0], [1.0, 1.0], vehicle.roof);
    let side = match face {
        Face::Left => Side::Left,
        Face::Right => Side::Right,
        Face::Rear => Side::Rear,
        Face::Front | Face::Slope | Face::Top => return,
    };
    livery::stripes(vehicle, side, sheet);
    livery::logo(vehicle, [0.5, 0.6], 1.2, sheet);
    livery::sticker(vehicle, side, sheet);
    if side == Side::Rear {
        let middle = [[0.5, 0.14], [0.5, 1.0]];
        sheet.line(&middle, 0.03, Colour::BLACK.veil(0.5));
    }
    sheet.rectangle([0.0, 0.0], [1.0, 0.12], vehicle.trim);
    livery::mend(vehicle, side, sheet);
    livery::dirt(vehicle, sheet);
    if side == Side::Rear {
        lamps(vehicle, 0.09, TAIL_LAMP, sheet);
        plate(vehicle, [0.5, 0.06], sheet);
    }
}
