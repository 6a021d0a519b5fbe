//! The road of a camera and the scene beyond it.

use rand::RngExt;
use reid_core::Seed;

use super::{
    super::{colour::Colour, scene::Scene},
    panel::Brush,
};

/// Half the width of a lane, in metres. Vehicles drive in the middle of their lane.
const LANE: f32 = 1.75;
/// Length of the painted road in each direction, in metres.
const REACH: f32 = 60.0;

/// Distance between the vehicle and the beginning of the scene, in metres.
const BEYOND: f32 = 11.0;

/// The road of one camera.
#[derive(Clone, Copy, Debug)]
pub(super) struct Road {
    scene: Scene,
    asphalt: Colour,
    verge: Colour,
    marks: Colour,
    /// Number of lanes to the left and to the right of the middle lane.
    lanes: [f32; 2],
    /// Whether the lines between lanes are broken.
    broken: bool,
    /// Whether there is a zebra crossing.
    zebra: bool,
}

impl Road {
    /// The road at camera `number`.
    pub(super) fn of_camera(number: u32, seed: Seed) -> Self {
        let mut stream = seed.stream();
        let mut pick = |palette: [u32; 4]| Colour::hex(palette[stream.random_range(0..4_usize)]);
        let asphalt = pick([0x63_666b, 0x74_7370, 0x55_585e, 0x8a_8781]);
        let verge = pick([0xa9_a59b, 0x86_a066, 0xb5_aa98, 0x94_979a]);
        let marks = pick([0xe6_e4dc, 0xe6_e4dc, 0xd8_b648, 0xcf_cdc6]);
        Self {
            scene: Scene::beyond_a_road(number, seed.named("beyond")),
            asphalt,
            verge,
            marks,
            lanes: [(); 2].map(|()| f32::from(stream.random_range(0..=2_u8))),
            broken: stream.random_bool(0.7),
            zebra: stream.random_bool(0.3),
        }
    }

    /// Paints the road and the scene beyond it, shifted along the road by `pan` metres.
    pub(super) fn paint(&self, brush: &mut Brush<'_>, aspect: f32, pan: f32) {
        self.paint_beyond(brush, aspect, pan);
        let [left, right] = self.lanes.map(|lanes| LANE * (1.0 + 2.0 * lanes));
        let kerb = Colour::hex(0xbd_bab2);
        strip(brush, [-right - 4.0, left + 4.0], self.verge);
        strip(brush, [-right - 0.25, left + 0.25], kerb);
        strip(brush, [-right, left], self.asphalt);
        for aside in [left, -right] {
            // Gutters, and the seams of old repairs.
            let inside = aside - 0.35 * aside.signum();
            strip(
                brush,
                [aside.min(inside), aside.max(inside)],
                self.asphalt.lit(0.9),
            );
        }
        let mut aside = -right + 2.0 * LANE;
        while aside < left - LANE {
            self.paint_line(brush, aside, pan);
            aside += 2.0 * LANE;
        }
        if self.zebra {
            self.paint_zebra(brush, [-right, left], pan);
        }
    }

    /// The lanes to the right and to the left of the middle lane that vehicles drive in, in metres to the
    /// left.
    pub(super) fn lanes(&self) -> Vec<f32> {
        let [left, right] = self.lanes;
        let mut lane = -right;
        let mut lanes = Vec::new();
        while lane <= left {
            lanes.push(2.0 * LANE * lane);
            lane += 1.0;
        }
        lanes
    }

    /// Paints the ground in the colours `pavement` and `asphalt`, without the scene beyond it and without
    /// marks.
    pub(super) fn paint_ground(
        &self,
        brush: &mut Brush<'_>,
        aspect: f32,
        [pavement, asphalt]: [Colour; 2],
    ) {
        let foot = brush.lens.far_ground(BEYOND);
        let wide = aspect.max(1.0);
        brush.canvas.rectangle([-wide, foot], [wide, 1.0], pavement);
        let [left, right] = self.lanes.map(|lanes| LANE * (1.0 + 2.0 * lanes));
        strip(brush, [-right - 4.0, left + 4.0], pavement);
        strip(brush, [-right, left], asphalt);
    }

    fn paint_beyond(&self, brush: &mut Brush<'_>, aspect: f32, pan: f32) {
        let foot = brush.lens.far_ground(BEYOND);
        // The scene extends 1.5 units to both sides, and its ground begins 0.7 units below its origin.
        let unit = (0.5 * aspect / 1.4).max(foot / 1.1);
        let scene = self.scene;
        brush
            .canvas
            .moved([0.0, foot - 0.7 * unit], unit, |canvas| {
                scene.paint(canvas, 0.2 * pan);
            });
        let wide = aspect.max(1.0);
        brush
            .canvas
            .rectangle([-wide, foot], [wide, 1.0], self.verge.lit(0.93));
    }

    fn paint_line(&self, brush: &mut Brush<'_>, aside: f32, pan: f32) {
        let [right, left] = [aside - 0.07, aside + 0.07];
        if !self.broken {
            return strip(brush, [right, left], self.marks);
        }
        let mut from = pan.rem_euclid(6.0) - 36.0;
        while from < 36.0 {
            patch(brush, [from, from + 3.0], [right, left], self.marks);
            from += 6.0;
        }
    }

    fn paint_zebra(&self, brush: &mut Brush<'_>, [right, left]: [f32; 2], pan: f32) {
        let from = pan.rem_euclid(18.0) - 9.0;
        let mut aside = right + 0.4;
        while aside + 0.5 < left {
            patch(brush, [from, from + 2.6], [aside, aside + 0.5], self.marks);
            aside += 1.0;
        }
    }
}

/// Paints the ground between two lines along the road.
fn strip(brush: &mut Brush<'_>, between: [f32; 2], colour: Colour) {
    patch(brush, [-REACH, REACH], between, colour);
}

/// Paints a rectangle of the ground.
fn patch(brush: &mut Brush<'_>, [from, to]: [f32; 2], [right, left]: [f32; 2], colour: Colour) {
    let corners = [
        [from, right, 0.0],
        [to, right, 0.0],
        [to, left, 0.0],
        [from, left, 0.0],
    ];
    brush.polygon(&corners, colour);
}
