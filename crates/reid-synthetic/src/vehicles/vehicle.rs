//! Vehicle: model, paint and fittings. Only they distinguish identities.

use reid_core::Seed;

use super::{
    super::{
        colour::Colour,
        team::{self, Attribute},
    },
    model::{MODELS, Model},
};

/// The appearance of a vehicle.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Vehicle {
    pub(super) model: &'static Model,
    pub(super) paint: Colour,
    /// Colour of the roof and the pillars, of the sides of a van's cabin, and of a lorry's container.
    pub(super) roof: Colour,
    /// Colour of bumpers and sills.
    pub(super) trim: Colour,
    pub(super) glass: Colour,
    pub(super) plate: Colour,
    pub(super) rims: (Rims, Colour),
    pub(super) lamps: Lamps,
    pub(super) stripes: Option<(Stripes, Colour)>,
    pub(super) logo: Option<(Logo, Colour)>,
    pub(super) load: Option<(Load, Colour)>,
    pub(super) sticker: Option<(Sticker, Colour)>,
    pub(super) mend: Option<Mend>,
    pub(super) dirt: Option<Dirt>,
    /// Relative size of stripes, logo, sticker and load: 1 at difficulty 0.
    pub(super) boldness: f32,
}

/// The style of the rims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rims {
    Disc,
    FiveSpokes,
    Rays,
}

/// The shape of all lamps, at the front and the rear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lamps {
    Round,
    Wide,
    Tall,
    Twin,
}

/// Stripes, visible from all sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stripes {
    /// A band around the body.
    Waist,
    /// Two bands lengthwise.
    Lengthwise,
    Chevrons,
    /// A row of squares around the body.
    Checks,
}

/// The logo on the sides, the bonnet and the rear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logo {
    Disc,
    Square,
    Diamond,
    Cross,
    Triangle,
}

/// The load on the roof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    Rack,
    Chest,
    /// A board across the roof, like a taxi sign.
    Board,
    Beacons,
}

/// The position of the sticker on each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sticker {
    FrontHigh,
    FrontLow,
    RearHigh,
    RearLow,
}

/// The corner with bare primer and scratches from a repair. It is visible from two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mend {
    FrontLeft,
    FrontRight,
    RearLeft,
    RearRight,
}

/// The dirty parts of the vehicle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dirt {
    Sills,
    Body,
    Dust,
}

const PAINTS: [u32; 14] = [
    0xf1_efe9, 0xc8_2a2e, 0x2a_5fa8, 0xa9_aeb4, 0xe5_b62c, 0x2b_2e33, 0x3c_8a55, 0xe0_7a2c,
    0x5f_666e, 0x23_3158, 0xc9_b48c, 0x7b_2436, 0x4f_b0b4, 0x6b_4a35,
];
const PRINTS: [u32; 5] = [0xf6_f4ee, 0x1f_2024, 0xf1_c232, 0x2f_6fc0, 0xcf_3434];
const ROOFS: [u32; 5] = [0xee_ece6, 0x26_272b, 0x8f_959b, 0xb0_3a34, 0x33_5c94];
const TRIMS: [u32; 4] = [0x25_2629, 0x7d_8186, 0xcf_d2d4, 0x7a_5a40];
const GLASS: [u32; 5] = [0x9d_b4c2, 0x24_282d, 0x5a_8f78, 0x80_5f40, 0x3a_63a0];
const PLATES: [u32; 4] = [0xf4_f4f0, 0xec_c531, 0x1c_1d20, 0x35_5fae];
const RIMS: [u32; 4] = [0xc4_c8cc, 0x3a_3c40, 0xc9_a244, 0xf2_f2f0];
const LOADS: [u32; 3] = [0x26_272a, 0xea_e6da, 0xe0_8a2a];
const RIM_STYLES: [Rims; 3] = [Rims::Disc, Rims::FiveSpokes, Rims::Rays];
const LAMPS: [Lamps; 4] = [Lamps::Round, Lamps::Wide, Lamps::Tall, Lamps::Twin];
const STRIPES: [Stripes; 4] = [
    Stripes::Waist,
    Stripes::Lengthwise,
    Stripes::Chevrons,
    Stripes::Checks,
];
const LOGOS: [Logo; 5] = [
    Logo::Disc,
    Logo::Square,
    Logo::Diamond,
    Logo::Cross,
    Logo::Triangle,
];
const ON_ROOF: [Load; 4] = [Load::Rack, Load::Chest, Load::Board, Load::Beacons];
const STICKERS: [Sticker; 4] = [
    Sticker::FrontHigh,
    Sticker::FrontLow,
    Sticker::RearHigh,
    Sticker::RearLow,
];
const MENDS: [Mend; 4] = [
    Mend::FrontLeft,
    Mend::FrontRight,
    Mend::RearLeft,
    Mend::RearRight,
];
const DIRT: [Dirt; 3] = [Dirt::Sills, Dirt::Body, Dirt::Dust];

/// The attributes in which vehicles may differ, in pairs: an attribute that is visible from all sides, and
/// one that is not, or that is small. Two vehicles therefore never differ only in something that is visible
/// from a single side. For prints, roofs and trims, the colour nearest to the paint is excluded, because it
/// would be invisible on the paint.
const ATTRIBUTES: [Attribute; 12] = [
    Attribute::at_most_one_of(STRIPES.len() * (PRINTS.len() - 1)),
    Attribute::one_of(PLATES.len()),
    Attribute::at_most_one_of(ROOFS.len() - 1),
    Attribute::one_of(RIM_STYLES.len() * RIMS.len()),
    Attribute::at_most_one_of(LOGOS.len() * (PRINTS.len() - 1)),
    Attribute::one_of(LAMPS.len()),
    Attribute::at_most_one_of(ON_ROOF.len() * LOADS.len()),
    Attribute::at_most_one_of(STICKERS.len() * (PRINTS.len() - 1)),
    Attribute::one_of(GLASS.len()),
    Attribute::at_most_one_of(MENDS.len()),
    Attribute::at_most_one_of(TRIMS.len() - 1),
    Attribute::at_most_one_of(DIRT.len()),
];

/// A value for each attribute.
type Values = [usize; ATTRIBUTES.len()];

/// The index of the fleet of a vehicle. Each fleet has six vehicles.
fn fleet(vehicle: u64) -> u64 {
    vehicle / team::size(ATTRIBUTES.len())
}

impl Vehicle {
    /// The appearance of one vehicle.
    ///
    /// Vehicles belong to fleets of six of one model. The number of attributes in which a vehicle may differ
    /// from its fleet falls with `difficulty`: twelve at 0, four at 0.5, two at 1. At 1 each vehicle of a
    /// fleet differs in another pair. The paint is individual at 0 and that of the fleet from 0.5 on. Colours
    /// become more similar, and prints smaller, as `difficulty` grows.
    pub(super) fn of_identity(vehicle: u64, seed: Seed, difficulty: f32) -> Self {
        let fleet = fleet(vehicle);
        let own = team::drawn(&ATTRIBUTES, seed.named("vehicle").at(vehicle));
        // The square root reduces the individual attributes faster: at 0.5 only four are left.
        let values = team::values(&ATTRIBUTES, vehicle, seed, difficulty.sqrt(), own);
        let start = seed.named("start").number() % 1000;
        let paint_at = |step| Colour::hex(PAINTS[5 * team::remainder(step + start, 14) % 14]);
        let individual = (1.0 - 2.0 * difficulty).max(0.0);
        let paint = paint_at(fleet).mix(paint_at(vehicle), individual);
        let model = MODELS[team::remainder(fleet + start, MODELS.len())];
        Self::from_values(model, paint, values, difficulty)
    }

    /// A random vehicle, outside the labelled identities.
    pub(super) fn stranger(seed: Seed, difficulty: f32) -> Self {
        let values = team::drawn(&ATTRIBUTES, seed);
        let any = |name: &str, count| team::remainder(seed.named(name).number(), count);
        let paint = Colour::hex(PAINTS[any("paint", PAINTS.len())]);
        let model = MODELS[any("model", MODELS.len())];
        Self::from_values(model, paint, values, difficulty)
    }

    fn from_values(model: &'static Model, paint: Colour, values: Values, difficulty: f32) -> Self {
        let [
            stripes,
            plate,
            roof,
            rims,
            logo,
            lamps,
            load,
            sticker,
            glass,
            mend,
            trim,
            dirt,
        ] = values;
        // At difficulty 1 paints are halfway to grey, and they differ by less than the light of the cameras.
        let grey = Colour::hex(0x6d_7078);
        let paint = paint.mix(grey, 0.5 * difficulty);
        let near = |colour: Colour| {
            colour
                .mix(grey, 0.3 * difficulty)
                .mix(paint, 0.25 * difficulty)
        };
        let print = |value| {
            let (kind, colour) = team::kind_and_colour(value, PRINTS.len() - 1)?;
            Some((kind, near(others(&PRINTS, paint)[colour])))
        };
        let second = |value: usize, palette: &[u32]| {
            let other = value.checked_sub(1);
            other.map_or(paint, |other| near(others(palette, paint)[other]))
        };
        Self {
            model,
            paint,
            roof: second(roof, &ROOFS),
            trim: second(trim, &TRIMS),
            glass: near(Colour::hex(GLASS[glass])),
            plate: Colour::hex(PLATES[plate]),
            rims: (
                RIM_STYLES[rims / RIMS.len()],
                Colour::hex(RIMS[rims % RIMS.len()]),
            ),
            lamps: LAMPS[lamps],
            stripes: print(stripes).map(|(kind, colour)| (STRIPES[kind], colour)),
            logo: print(logo).map(|(kind, colour)| (LOGOS[kind], colour)),
            load: team::kind_and_colour(load, LOADS.len())
                .map(|(kind, colour)| (ON_ROOF[kind], near(Colour::hex(LOADS[colour])))),
            sticker: print(sticker).map(|(kind, colour)| (STICKERS[kind], colour)),
            mend: mend.checked_sub(1).map(|at| MENDS[at]),
            dirt: dirt.checked_sub(1).map(|at| DIRT[at]),
            boldness: 1.0 - 0.4 * difficulty,
        }
    }
}

/// The colours of a palette without the one nearest to `paint`.
fn others(palette: &[u32], paint: Colour) -> Vec<Colour> {
    let mut colours: Vec<_> = palette.iter().map(|&rgb| Colour::hex(rgb)).collect();
    let nearest = (0..colours.len())
        .min_by(|&one, &other| {
            let [one, other] = [one, other].map(|at| colours[at].distance(paint));
            one.total_cmp(&other)
        })
        .unwrap_or(0);
    colours.remove(nearest);
    colours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_vehicles_differ() {
        for number in 0..5 {
            for difficulty in [0.0, 0.3, 0.5, 0.8, 1.0] {
                let seed = Seed::new(number);
                let every: Vec<_> = (1..=200)
                    .map(|vehicle| Vehicle::of_identity(vehicle, seed, difficulty))
                    .collect();
                for (index, vehicle) in every.iter().enumerate() {
                    let other = every[..index].iter().position(|other| other == vehicle);
                    assert_eq!(other, None, "{index} of seed {number} at {difficulty}");
                }
            }
        }
    }

    #[test]
    fn fleets_share_a_model_and_from_difficulty_one_half_their_paint() {
        let seed = Seed::new(3);
        for difficulty in [0.0, 0.5, 1.0] {
            let members: Vec<_> = (6..12)
                .map(|vehicle| Vehicle::of_identity(vehicle, seed, difficulty))
                .collect();
            let next = Vehicle::of_identity(12, seed, difficulty);
            for pair in members.windows(2) {
                assert_eq!(pair[0].model, pair[1].model);
                assert_eq!(pair[0].paint == pair[1].paint, difficulty >= 0.5);
            }
            assert_ne!(members[0].model, next.model);
        }
    }

    #[test]
    fn at_difficulty_1_each_vehicle_differs_from_its_fleet_in_one_pair() {
        // Vehicles 6 to 11 are a fleet. Each differs from it in another pair of attributes, so two vehicles
        // differ in four attributes.
        let seed = Seed::new(3);
        let vehicle = |identity| Vehicle::of_identity(identity, seed, 1.0);
        for (one, other) in [(6, 7), (6, 11), (8, 10)] {
            let (one, other) = (vehicle(one), vehicle(other));
            let differ = [
                one.stripes != other.stripes,
                one.plate != other.plate,
                one.roof != other.roof,
                one.rims != other.rims,
                one.logo != other.logo,
                one.lamps != other.lamps,
                one.load != other.load,
                one.sticker != other.sticker,
                one.glass != other.glass,
                one.mend != other.mend,
                one.trim != other.trim,
                one.dirt != other.dirt,
            ];
            assert_eq!(differ.iter().filter(|&&differs| differs).count(), 4);
        }
    }

    #[test]
    fn no_print_has_the_colour_of_the_paint() {
        let white = Colour::hex(0xf1_efe9);
        let left: Vec<_> = PRINTS[1..].iter().map(|&rgb| Colour::hex(rgb)).collect();
        assert_eq!(others(&PRINTS, white), left);
    }
}
