//! Vehicle: shape, paint and fittings, which are all that tells one vehicle from another.

use reid_core::Seed;

use super::{
    super::{
        colour::Colour,
        team::{self, Attribute},
    },
    model::{MODELS, Model},
};

/// What a vehicle looks like.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Vehicle {
    pub(super) model: &'static Model,
    pub(super) paint: Colour,
    /// Of the roof and the pillars; of a van's sides; of a lorry's container.
    pub(super) roof: Colour,
    /// Of bumpers and sills.
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
    /// Size of what is painted on it, 1 where it is easy to see.
    pub(super) boldness: f32,
}

/// How the rims are cast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rims {
    Disc,
    FiveSpokes,
    Rays,
}

/// The shape of all lamps, in front and behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lamps {
    Round,
    Wide,
    Tall,
    Twin,
}

/// Stripes, seen from all sides.
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

/// What is on doors, bonnet and tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logo {
    Disc,
    Square,
    Diamond,
    Cross,
    Triangle,
}

/// What is on the roof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    Rack,
    Chest,
    /// A board across, as taxis have.
    Board,
    Beacons,
}

/// Where there is a sticker on each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sticker {
    FrontHigh,
    FrontLow,
    RearHigh,
    RearLow,
}

/// Where there was an accident: bare primer and scratches on a corner, seen from two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mend {
    FrontLeft,
    FrontRight,
    RearLeft,
    RearRight,
}

/// Where the dirt is.
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

/// What vehicles may differ in. It stands in pairs, one that is seen from all sides with one that is
/// not, or that is small: no two vehicles differ only in what a single side shows. Of prints, roofs and trims the colour nearest to
/// the paint is left out, so that none vanishes on it.
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

/// The fleet of a vehicle; there are six vehicles in each.
fn fleet(vehicle: u64) -> u64 {
    vehicle / team::size(ATTRIBUTES.len())
}

impl Vehicle {
    /// The looks of one vehicle.
    ///
    /// Vehicles come in fleets of six of one model. Each differs from its fleet in as many
    /// attributes as `difficulty` leaves: all twelve at 0, four at 0.5, two at 1, and then no two
    /// vehicles of a fleet in the same. The paint is a vehicle's own at 0 and its fleet's from 0.5 on. Colours are
    /// drawn together, and prints are smaller, as difficulty grows.
    pub(super) fn of(vehicle: u64, seed: Seed, difficulty: f32) -> Self {
        let fleet = fleet(vehicle);
        let own = team::drawn(&ATTRIBUTES, seed.named("vehicle").at(vehicle));
        // The root: halfway, where vehicles already share paint, they share most else.
        let values = team::values(&ATTRIBUTES, vehicle, seed, difficulty.sqrt(), own);
        let start = seed.named("start").number() % 1000;
        let walk = |place| Colour::hex(PAINTS[5 * team::remainder(place + start, 14) % 14]);
        let share_of_its_own = (1.0 - 2.0 * difficulty).max(0.0);
        let paint = walk(fleet).mix(walk(vehicle), share_of_its_own);
        let model = MODELS[team::remainder(fleet + start, MODELS.len())];
        Self::from_values(model, paint, values, difficulty)
    }

    /// Any vehicle of any fleet.
    pub(super) fn stranger(seed: Seed, difficulty: f32) -> Self {
        let values = team::drawn(&ATTRIBUTES, seed);
        let any = |name: &str, of| team::remainder(seed.named(name).number(), of);
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
        // Halfway to the colour of a wet road, paints differ by less than light does.
        let road = Colour::hex(0x6d_7078);
        let paint = paint.mix(road, 0.5 * difficulty);
        let near = |colour: Colour| {
            colour
                .mix(road, 0.3 * difficulty)
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

/// The colours of a palette but for the one nearest to `paint`.
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
    fn no_two_vehicles_look_alike() {
        for number in 0..5 {
            for difficulty in [0.0, 0.3, 0.5, 0.8, 1.0] {
                let seed = Seed::new(number);
                let every: Vec<_> = (1..=200)
                    .map(|vehicle| Vehicle::of(vehicle, seed, difficulty))
                    .collect();
                for (place, vehicle) in every.iter().enumerate() {
                    let other = every[..place].iter().position(|other| other == vehicle);
                    assert_eq!(other, None, "{place} of seed {number} at {difficulty}");
                }
            }
        }
    }

    #[test]
    fn fleets_share_a_model_and_from_the_middle_on_their_paint() {
        let seed = Seed::new(3);
        for difficulty in [0.0, 0.5, 1.0] {
            let members: Vec<_> = (6..12)
                .map(|vehicle| Vehicle::of(vehicle, seed, difficulty))
                .collect();
            let next = Vehicle::of(12, seed, difficulty);
            for pair in members.windows(2) {
                assert_eq!(pair[0].model, pair[1].model);
                assert_eq!(pair[0].paint == pair[1].paint, difficulty >= 0.5);
            }
            assert_ne!(members[0].model, next.model);
        }
    }

    #[test]
    fn at_full_difficulty_a_fleet_differs_in_a_pair_each() {
        // Members 6 to 11: each has another pair that is not the fleet's, so of two members four
        // attributes differ. Here as they look: stripes, plate, roof and so on.
        let seed = Seed::new(3);
        let of = |vehicle| Vehicle::of(vehicle, seed, 1.0);
        for (one, other) in [(6, 7), (6, 11), (8, 10)] {
            let (one, other) = (of(one), of(other));
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
