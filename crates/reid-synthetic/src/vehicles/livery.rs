//! Livery: stripes, logo, sticker, repaired corners and dirt on each side of a vehicle.

use super::{
    super::{canvas::Point, colour::Colour},
    panel::Sheet,
    vehicle::{Dirt, Logo, Mend, Sticker, Stripes, Vehicle},
};

/// The side of a vehicle to which a panel belongs.
///
/// On `Left` and `Right`, the first coordinate is 0 at the rear and 1 at the front. On the others, it is 0 on
/// the right and 1 on the left. On `Bonnet`, the second coordinate is 0 at the front end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
    Front,
    Rear,
    Bonnet,
}

use Side::{Bonnet, Front, Left, Rear, Right};

impl Side {
    fn is_flank(self) -> bool {
        matches!(self, Left | Right)
    }
}

/// Paints the stripes of one side.
pub(super) fn stripes(vehicle: &Vehicle, side: Side, sheet: &mut Sheet<'_, '_>) {
    let Some((kind, colour)) = vehicle.stripes else {
        return;
    };
    let bold = vehicle.boldness;
    match kind {
        Stripes::Waist => {
            let [low, high] = waist(side, bold);
            sheet.rectangle([0.0, low], [1.0, high], colour);
        }
        Stripes::Lengthwise if side.is_flank() => {
            for low in [0.25, 0.43] {
                sheet.rectangle([0.0, low], [1.0, low + 0.11 * bold], colour);
            }
        }
        Stripes::Lengthwise => lengthwise(sheet, bold, colour),
        Stripes::Chevrons => chevrons(side, bold, sheet, colour),
        Stripes::Checks => {
            let [low, high] = waist(side, bold);
            checks(sheet, [low, high], colour);
        }
    }
}

/// Paints two bands from end to end on a panel at the front, the rear or the top.
pub(super) fn lengthwise(sheet: &mut Sheet<'_, '_>, bold: f32, colour: Colour) {
    for middle in [0.4, 0.6] {
        let half = 0.07 * bold;
        sheet.rectangle([middle - half, 0.0], [middle + half, 1.0], colour);
    }
}

/// The lower and the upper edge of a band around the body on this side.
fn waist(side: Side, bold: f32) -> [f32; 2] {
    let (middle, height) = match side {
        Left | Right | Rear => (0.55, 0.2),
        Front => (0.93, 0.14),
        Bonnet => (0.2, 0.28),
    };
    [middle - 0.5 * height * bold, middle + 0.5 * height * bold]
}

fn checks(sheet: &mut Sheet<'_, '_>, [low, high]: [f32; 2], colour: Colour) {
    let [width, _] = sheet.size();
    let count = (width / 0.36).round().max(2.0);
    let middle = f32::midpoint(low, high);
    let mut square = 0.0;
    while square < count {
        let [from, half, to] = [0.0, 0.5, 1.0].map(|part| (square + part) / count);
        sheet.rectangle([from, low], [half, middle], colour);
        sheet.rectangle([half, middle], [to, high], colour);
        square += 1.0;
    }
}

/// Paints slanted bars: on the rear half of the flanks, and across the other sides.
fn chevrons(side: Side, bold: f32, sheet: &mut Sheet<'_, '_>, colour: Colour) {
    let width = sheet.size()[0];
    let bar = 0.2 * bold / width;
    let starts: &[f32] = if side.is_flank() {
        &[0.08, 0.2, 0.32]
    } else {
        &[0.06, 0.28, 0.78]
    };
    for &from in starts {
        let lean = if side.is_flank() { 0.3 / width } else { 0.05 };
        let corners = [
            [from, 0.22],
            [from + bar, 0.22],
            [from + bar + lean, 0.92],
            [from + lean, 0.92],
        ];
        sheet.polygon(&corners, colour);
    }
}

/// Paints the logo around `centre`, at most `size` metres across.
pub(super) fn logo(vehicle: &Vehicle, centre: Point, size: f32, sheet: &mut Sheet<'_, '_>) {
    let Some((kind, colour)) = vehicle.logo else {
        return;
    };
    let half = 0.5 * size * vehicle.boldness;
    match kind {
        Logo::Disc => sheet.disc(centre, half, colour),
        Logo::Square => sheet.tile(centre, [1.8 * half; 2], colour),
        Logo::Diamond => {
            let wide = 1.25 * half;
            let corners = [[-wide, 0.0], [0.0, -half], [wide, 0.0], [0.0, half]];
            sheet.figure(centre, &corners, colour);
        }
        Logo::Cross => {
            sheet.tile(centre, [2.0 * half, 0.7 * half], colour);
            sheet.tile(centre, [0.7 * half, 2.0 * half], colour);
        }
        Logo::Triangle => {
            let corners = [[-1.1 * half, -half], [1.1 * half, -half], [0.0, half]];
            sheet.figure(centre, &corners, colour);
        }
    }
}

/// Paints the sticker of one side.
pub(super) fn sticker(vehicle: &Vehicle, side: Side, sheet: &mut Sheet<'_, '_>) {
    let Some((kind, colour)) = vehicle.sticker else {
        return;
    };
    let [forward, high] = match kind {
        Sticker::FrontHigh => [true, true],
        Sticker::FrontLow => [true, false],
        Sticker::RearHigh => [false, true],
        Sticker::RearLow => [false, false],
    };
    let along = match (side.is_flank(), forward) {
        (true, true) => 0.64,
        (true, false) => 0.4,
        (false, true) => 0.78,
        (false, false) => 0.22,
    };
    let up = if high { 0.74 } else { 0.36 };
    let size = 0.34 * vehicle.boldness;
    sheet.tile([along, up], [size, 0.8 * size], colour);
}

/// Paints primer and scratches on a repaired corner.
pub(super) fn mend(vehicle: &Vehicle, side: Side, sheet: &mut Sheet<'_, '_>) {
    let Some(corner) = vehicle.mend else {
        return;
    };
    let primer = Colour::hex(0x8d_8983);
    let forward = matches!(corner, Mend::FrontLeft | Mend::FrontRight);
    let left = matches!(corner, Mend::FrontLeft | Mend::RearLeft);
    let [from, to] = match side {
        Left if !left => return,
        Right if left => return,
        Front | Bonnet if !forward => return,
        Rear if forward => return,
        Left | Right if forward => [0.87, 0.99],
        Left | Right => [0.01, 0.13],
        _ if left => [0.74, 0.99],
        _ => [0.01, 0.26],
    };
    sheet.rectangle([from, 0.08], [to, 0.62], primer);
    for up in [0.3, 0.5] {
        let scratch = [[from, up], [to, up + 0.08]];
        sheet.line(&scratch, 0.03, Colour::hex(0xd8_d4cc));
    }
}

/// Paints the dirt of a side.
pub(super) fn dirt(vehicle: &Vehicle, sheet: &mut Sheet<'_, '_>) {
    let mud = Colour::hex(0x7c_6244);
    let layers: &[(f32, f32)] = match vehicle.dirt {
        None => &[],
        Some(Dirt::Sills) => &[(0.34, 0.55), (0.2, 0.45)],
        Some(Dirt::Body) => &[(0.75, 0.45), (0.5, 0.4), (0.25, 0.4)],
        Some(Dirt::Dust) => &[(1.0, 0.38)],
    };
    for &(up, opacity) in layers {
        sheet.rectangle([0.0, 0.0], [1.0, up], mud.veil(opacity));
    }
}
