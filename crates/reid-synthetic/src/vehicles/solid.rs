//! Solids: the parts of a vehicle as convex bodies. Each is a list of panels.

use super::{
    super::canvas::Point,
    model::{Model, Upper},
    panel::Panel,
    space::Position,
};

/// The face of a part. It also defines the directions on its panel.
///
/// On `Front`, `Slope`, `Top` and `Rear`, the first coordinate goes from right to left, and the second from
/// the lower or front edge to the upper or rear edge. On `Left` and `Right`, they go from rear to front and
/// up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Face {
    Front,
    /// The slope behind the front: bonnet or windscreen.
    Slope,
    Top,
    Rear,
    Left,
    Right,
}

/// A face and its panel.
pub(super) type Faced = (Face, Panel);

/// The panels of the body, which is the part below the windows.
pub(super) fn body(model: &Model) -> Vec<Faced> {
    let half = model.half_width;
    let (sill, shoulder) = (model.sill, model.shoulder());
    let foot = [model.front, sill];
    let nose = [model.front - 0.06, model.nose];
    let tail = [model.back + 0.03, model.tail];
    let heel = [model.back, sill];
    // Slightly narrower at the sills than at the shoulders.
    let width = |height: f32| half * (0.95 + 0.05 * (height - sill) / (shoulder - sill));
    let faces = [
        (Face::Front, [foot, nose]),
        (Face::Slope, [nose, model.cowl]),
        (Face::Top, [model.cowl, tail]),
        (Face::Rear, [heel, tail]),
    ];
    let middle = [
        f32::midpoint(model.front, model.back),
        0.0,
        f32::midpoint(sill, model.nose),
    ];
    let mut panels: Vec<_> = faces
        .into_iter()
        .map(|(face, edge)| (face, across(edge, width, middle)))
        .collect();
    let ends = [model.back, model.front];
    let share = |[along, height]: Point| {
        [
            (along - ends[0]) / (ends[1] - ends[0]),
            (height - sill) / (shoulder - sill),
        ]
    };
    let outline = [heel, foot, nose, model.cowl, tail].map(share).to_vec();
    for (face, side) in [(Face::Left, 1.0), (Face::Right, -1.0)] {
        let corners = [
            [ends[0], side * width(sill), sill],
            [ends[1], side * width(sill), sill],
            [ends[1], side * width(shoulder), shoulder],
            [ends[0], side * width(shoulder), shoulder],
        ];
        let panel = Panel::new(corners, middle).clipped_to(outline.clone());
        panels.push((face, panel));
    }
    panels
}

/// The panels of a cabin or a container.
pub(super) fn upper(upper: &Upper) -> Vec<Faced> {
    let [low, high] = upper.heights;
    let [wide, narrow] = upper.half_widths;
    let width = |height: f32| wide + (narrow - wide) * (height - low) / (high - low);
    let [front, rear] = upper.floor;
    let [roof_front, roof_rear] = upper.roof;
    let middle = [f32::midpoint(front, rear), 0.0, f32::midpoint(low, high)];
    let faces = [
        (Face::Slope, [[front, low], [roof_front, high]]),
        (Face::Top, [[roof_front, high], [roof_rear, high]]),
        (Face::Rear, [[rear, low], [roof_rear, high]]),
    ];
    let mut panels: Vec<_> = faces
        .into_iter()
        .map(|(face, edge)| (face, across(edge, width, middle)))
        .collect();
    for (face, side) in [(Face::Left, 1.0), (Face::Right, -1.0)] {
        let corners = [
            [rear, side * wide, low],
            [front, side * wide, low],
            [roof_front, side * narrow, high],
            [roof_rear, side * narrow, high],
        ];
        panels.push((face, Panel::new(corners, middle)));
    }
    panels
}

/// The panels of an upright block from its lower right rear to its upper left front corner.
pub(super) fn block(from: Position, to: Position) -> Vec<Faced> {
    let half = 0.5 * (to[1] - from[1]);
    let ends = [to[0], from[0]];
    let aside = f32::midpoint(from[1], to[1]);
    let block = Upper {
        floor: ends,
        roof: ends,
        heights: [from[2], to[2]],
        half_widths: [half, half],
    };
    let mut panels = upper(&block);
    for (_, panel) in &mut panels {
        panel.shift(aside);
    }
    panels
}

/// The panel that spans the width of the vehicle along an edge of its side outline.
fn across(edge: [Point; 2], width: impl Fn(f32) -> f32, inside: Position) -> Panel {
    let [[from, low], [to, high]] = edge;
    let corners = [
        [from, -width(low), low],
        [from, width(low), low],
        [to, width(high), high],
        [to, -width(high), high],
    ];
    Panel::new(corners, inside)
}
