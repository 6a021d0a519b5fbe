//! The load on the roof of a vehicle.

use super::{
    super::colour::Colour,
    model::Upper,
    panel::Brush,
    solid,
    space::Position,
    vehicle::{Load, Vehicle},
};

/// An upright block: its lower right rear and its upper left front corner.
type Block = [Position; 2];

/// Paints the load on the roof of the cabin.
pub(super) fn paint(vehicle: &Vehicle, brush: &mut Brush<'_>) {
    let Some((kind, colour)) = vehicle.load else {
        return;
    };
    let roof = Roof::of_vehicle(vehicle);
    let dark = Colour::hex(0x2a_2b2e);
    let (foot, blocks) = match kind {
        Load::Rack => (None, roof.rack()),
        Load::Chest => (None, roof.chest()),
        Load::Board => (None, roof.board()),
        Load::Beacons => (Some(roof.bar()), roof.beacons()),
    };
    let foot = foot.into_iter().map(|block| (block, dark));
    for ([from, to], colour) in foot.chain(blocks.into_iter().map(|block| (block, colour))) {
        for (_, panel) in solid::block(from, to) {
            brush.on(&panel, |sheet| {
                sheet.rectangle([0.0, 0.0], [1.0, 1.0], colour);
            });
        }
    }
}

/// The roof of a cabin, in metres.
struct Roof {
    middle: f32,
    /// Half the usable length.
    reach: f32,
    half_width: f32,
    height: f32,
    /// Relative size of the load: 1 at difficulty 0.
    size: f32,
}

impl Roof {
    fn of_vehicle(vehicle: &Vehicle) -> Self {
        let Upper {
            roof: [front, rear],
            heights: [_, height],
            half_widths: [_, half_width],
            ..
        } = vehicle.model.cabin;
        Self {
            middle: f32::midpoint(front, rear),
            reach: (0.5 * (front - rear)).min(1.1),
            half_width,
            height,
            size: 0.55 + 0.45 * vehicle.boldness,
        }
    }

    /// A block by its extents along, aside and above the roof.
    fn block(&self, along: [f32; 2], aside: [f32; 2], above: [f32; 2]) -> Block {
        [0, 1].map(|end| [along[end], aside[end], self.height + above[end]])
    }

    /// Three bars across and two along.
    fn rack(&self) -> Vec<Block> {
        let Self {
            middle,
            reach,
            half_width: half,
            ..
        } = *self;
        let top = 0.16 * self.size;
        let across = [-0.85, 0.0, 0.85].map(|share| {
            let at = middle + share * reach;
            self.block([at - 0.05, at + 0.05], [-half, half], [0.0, top])
        });
        let along = [-half, half].map(|at| {
            let ends = [middle - reach, middle + reach];
            self.block(ends, [at - 0.04, at + 0.04], [top - 0.05, top])
        });
        [&across[..], &along].concat()
    }

    fn chest(&self) -> Vec<Block> {
        let ends = [-0.85, 0.85].map(|share| self.middle + share * self.reach);
        let wide = 0.62 * self.half_width;
        vec![self.block(ends, [-wide, wide], [0.04, 0.08 + 0.3 * self.size])]
    }

    fn board(&self) -> Vec<Block> {
        let at = self.forward();
        let wide = 0.55 * self.half_width * self.size;
        vec![self.block(
            [at - 0.12, at + 0.12],
            [-wide, wide],
            [0.0, 0.3 * self.size],
        )]
    }

    /// The bar on which the beacons are mounted.
    fn bar(&self) -> Block {
        let at = self.forward();
        let wide = 0.8 * self.half_width;
        self.block([at - 0.1, at + 0.1], [-wide, wide], [0.0, 0.06])
    }

    fn beacons(&self) -> Vec<Block> {
        let at = self.forward();
        let beacon = |share: f32| {
            let aside = share * self.half_width;
            let above = [0.06, 0.08 + 0.16 * self.size];
            self.block([at - 0.13, at + 0.13], [aside - 0.17, aside + 0.17], above)
        };
        vec![beacon(-0.55), beacon(0.55)]
    }

    /// The position of a board or of beacons along the vehicle: slightly in front of the middle.
    fn forward(&self) -> f32 {
        self.middle + 0.3 * self.reach
    }
}
