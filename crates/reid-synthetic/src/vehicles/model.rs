//! Vehicle models: shapes in metres.

use super::super::canvas::Point;

/// The shape shared by the vehicles of a fleet. Positions along the vehicle increase from the rear to the
/// front. Heights are above the road. All lengths are in metres.
#[derive(Debug, PartialEq)]
pub(super) struct Model {
    pub(super) front: f32,
    /// Rear end of the whole vehicle.
    pub(super) rear: f32,
    /// Rear end of the body; for a lorry, of its cab.
    pub(super) back: f32,
    pub(super) half_width: f32,
    /// Height of the lower edge of the body.
    pub(super) sill: f32,
    /// Height of the front end of the bonnet.
    pub(super) nose: f32,
    /// The point where the bonnet meets the windscreen: position along the vehicle, and height.
    pub(super) cowl: Point,
    /// Height of the upper edge of the body at its back.
    pub(super) tail: f32,
    pub(super) cabin: Upper,
    /// Number of windows on each side.
    pub(super) panes: usize,
    /// Share of the cabin's side, at the rear, without windows.
    pub(super) blind: f32,
    /// The container of a lorry.
    pub(super) cargo: Option<Upper>,
    /// Whether it has an open bed behind the cabin.
    pub(super) bed: bool,
    /// Radius of the wheels.
    pub(super) wheel: f32,
    /// Positions of the front and the rear axle along the vehicle.
    pub(super) axles: [f32; 2],
}

/// A cabin or a container: a box whose roof may be shorter and narrower than its floor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Upper {
    /// Front and rear end of the floor.
    pub(super) floor: [f32; 2],
    /// Front and rear end of the roof.
    pub(super) roof: [f32; 2],
    /// Height of floor and roof.
    pub(super) heights: [f32; 2],
    /// Half the width of floor and roof.
    pub(super) half_widths: [f32; 2],
}

const HATCHBACK: Model = Model {
    front: 1.95,
    rear: -1.95,
    back: -1.95,
    half_width: 0.86,
    sill: 0.24,
    nose: 0.72,
    cowl: [0.95, 0.95],
    tail: 0.98,
    cabin: Upper {
        floor: [1.0, -1.9],
        roof: [0.3, -1.45],
        heights: [0.94, 1.48],
        half_widths: [0.84, 0.66],
    },
    panes: 2,
    blind: 0.0,
    cargo: None,
    bed: false,
    wheel: 0.32,
    axles: [1.25, -1.2],
};

const SALOON: Model = Model {
    front: 2.3,
    rear: -2.3,
    back: -2.3,
    half_width: 0.9,
    nose: 0.7,
    cabin: Upper {
        floor: [1.05, -1.45],
        roof: [0.25, -0.8],
        heights: [0.94, 1.43],
        half_widths: [0.87, 0.66],
    },
    axles: [1.42, -1.35],
    ..HATCHBACK
};

const ESTATE: Model = Model {
    tail: 1.0,
    cabin: Upper {
        floor: [1.05, -2.25],
        roof: [0.3, -1.95],
        heights: [0.95, 1.5],
        half_widths: [0.87, 0.68],
    },
    panes: 3,
    ..SALOON
};

const COUPE: Model = Model {
    front: 2.15,
    rear: -2.1,
    back: -2.1,
    half_width: 0.93,
    sill: 0.19,
    nose: 0.58,
    cowl: [0.7, 0.84],
    tail: 0.88,
    cabin: Upper {
        floor: [0.8, -1.75],
        roof: [-0.05, -0.75],
        heights: [0.83, 1.24],
        half_widths: [0.86, 0.62],
    },
    panes: 1,
    wheel: 0.34,
    axles: [1.38, -1.3],
    ..HATCHBACK
};

const OFF_ROADER: Model = Model {
    front: 2.15,
    rear: -2.15,
    back: -2.15,
    half_width: 0.95,
    sill: 0.42,
    nose: 0.98,
    cowl: [0.95, 1.1],
    tail: 1.12,
    cabin: Upper {
        floor: [0.98, -2.1],
        roof: [0.5, -1.95],
        heights: [1.09, 1.82],
        half_widths: [0.92, 0.78],
    },
    panes: 3,
    wheel: 0.4,
    axles: [1.35, -1.3],
    ..HATCHBACK
};

const VAN: Model = Model {
    front: 2.5,
    rear: -2.5,
    back: -2.5,
    half_width: 0.97,
    sill: 0.3,
    nose: 0.95,
    cowl: [1.7, 1.2],
    tail: 1.2,
    cabin: Upper {
        floor: [1.72, -2.48],
        roof: [1.0, -2.42],
        heights: [1.19, 2.2],
        half_widths: [0.96, 0.86],
    },
    panes: 1,
    blind: 0.72,
    wheel: 0.35,
    axles: [1.65, -1.55],
    ..HATCHBACK
};

const PICK_UP: Model = Model {
    front: 2.6,
    rear: -2.6,
    back: -2.6,
    cowl: [1.15, 1.08],
    tail: 1.05,
    cabin: Upper {
        floor: [1.2, -0.75],
        roof: [0.55, -0.6],
        heights: [1.05, 1.74],
        half_widths: [0.91, 0.75],
    },
    panes: 2,
    bed: true,
    axles: [1.65, -1.55],
    ..OFF_ROADER
};

const LORRY: Model = Model {
    front: 3.1,
    rear: -3.1,
    back: 1.6,
    half_width: 1.1,
    sill: 0.45,
    nose: 1.3,
    cowl: [3.0, 1.4],
    tail: 1.4,
    cabin: Upper {
        floor: [3.0, 1.6],
        roof: [2.8, 1.65],
        heights: [1.39, 2.4],
        half_widths: [1.09, 1.0],
    },
    panes: 1,
    blind: 0.25,
    cargo: Some(Upper {
        floor: [1.45, -3.1],
        roof: [1.45, -3.1],
        heights: [0.75, 2.85],
        half_widths: [1.15, 1.15],
    }),
    bed: false,
    wheel: 0.46,
    axles: [2.3, -1.9],
};

const BUS: Model = Model {
    front: 4.0,
    rear: -4.0,
    back: -4.0,
    half_width: 1.2,
    sill: 0.36,
    nose: 1.15,
    cowl: [3.95, 1.25],
    tail: 1.25,
    cabin: Upper {
        floor: [3.95, -4.0],
        roof: [3.8, -3.95],
        heights: [1.24, 2.8],
        half_widths: [1.2, 1.12],
    },
    panes: 7,
    blind: 0.0,
    cargo: None,
    wheel: 0.47,
    axles: [2.6, -2.3],
    ..LORRY
};

/// All models, in the order in which fleets use them.
pub(super) const MODELS: [&Model; 9] = [
    &HATCHBACK,
    &VAN,
    &SALOON,
    &OFF_ROADER,
    &BUS,
    &ESTATE,
    &PICK_UP,
    &COUPE,
    &LORRY,
];

impl Model {
    /// Height of the whole vehicle.
    pub(super) fn height(&self) -> f32 {
        let cargo = self.cargo.map_or(0.0, |cargo| cargo.heights[1]);
        self.cabin.heights[1].max(cargo)
    }

    /// Height of the upper edge of the body.
    pub(super) fn shoulder(&self) -> f32 {
        self.tail.max(self.cowl[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_have_convex_bodies_and_matching_wheels() {
        for (index, model) in MODELS.into_iter().enumerate() {
            // The cowl must not lie below the line from the nose to the tail.
            let [nose, tail] = [[model.front, model.nose], [model.back, model.tail]];
            let share = (nose[0] - model.cowl[0]) / (nose[0] - tail[0]);
            let straight = nose[1] + share * (tail[1] - nose[1]);
            assert!(model.cowl[1] >= straight, "model {index}");
            // The cabin must touch the body, and the wheels must reach from the road into the body.
            let [floor, roof] = model.cabin.heights;
            assert!(floor <= model.shoulder() && roof > floor, "model {index}");
            assert!(2.0 * model.wheel > model.sill, "model {index}");
            let [front, rear] = model.axles;
            let inside = front + model.wheel < model.front && rear - model.wheel > model.rear;
            assert!(inside, "model {index}");
        }
    }
}
