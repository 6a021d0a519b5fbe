//! Outfit: the clothes and build of a person. Only they distinguish identities.

use reid_core::Seed;

use super::{
    colour::Colour,
    team::{self, Attribute},
};

/// The clothes and the build of a person.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outfit {
    pub(super) upper: Colour,
    pub(super) lower: Colour,
    pub(super) shoes: Colour,
    pub(super) hair: Colour,
    pub(super) skin: Colour,
    pub(super) hairstyle: Hairstyle,
    pub(super) cut: Cut,
    pub(super) pattern: Option<(Pattern, Colour)>,
    pub(super) bag: Option<(Bag, Colour)>,
    pub(super) hat: Option<Colour>,
    pub(super) long_sleeves: bool,
    /// Width of the body relative to the average.
    pub(super) girth: f32,
}

/// The hairstyle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hairstyle {
    Short,
    Long,
    Bun,
}

/// The kind of lower garment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Trousers,
    Shorts,
    Skirt,
}

/// The pattern of the upper garment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    Hoops,
    Bars,
    Checks,
    /// A disc on the chest, invisible from the back.
    Badge,
    Band,
    Sleeves,
}

/// The kind of bag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bag {
    /// On the back, with straps visible from the front.
    Backpack,
    /// At the left hip, with a strap across the chest.
    Shoulder,
    /// In the right hand.
    Hand,
}

const UPPERS: [u32; 12] = [
    0xd7_2638, 0x1b_6ca8, 0xf2_b134, 0x2a_9d5c, 0xf5_f1e6, 0x2b_2d33, 0xe8_74a8, 0x7a_4ea3,
    0xe9_7132, 0x4f_c3c7, 0x8a_8f98, 0x7b_4b2a,
];
const LOWERS: [u32; 8] = [
    0x24_3b63, 0xe6_dfc8, 0x26_262b, 0x9a_3b2f, 0x5d_7fa8, 0x6b_7a3a, 0x8d_8f94, 0x6a_4b8a,
];
const HAIRS: [u32; 5] = [0x1e_1a19, 0x5a_3a22, 0xd9_b26a, 0xa8_4a22, 0xb9_b9b6];
const SKINS: [u32; 4] = [0xf3_cfb3, 0xd9_a57c, 0xa8_7148, 0x6d_4630];
const SHOES: [u32; 5] = [0x22_2022, 0xf4_f2ee, 0xb8_2f2f, 0x7a_5230, 0x2f_5fa5];
const HATS: [u32; 4] = [0xc4_2b34, 0x23_406e, 0xf0_e9d8, 0x3b_8a57];
const BAGS: [u32; 4] = [0x31_2a28, 0xc9_7b2d, 0x3a_6f8f, 0xa8_3a4a];
const PRINTS: [u32; 4] = [0xf8_f6f0, 0x24_2428, 0xf0_c23c, 0x3a_78b8];
const HAIRSTYLES: [Hairstyle; 3] = [Hairstyle::Short, Hairstyle::Long, Hairstyle::Bun];
const CUTS: [Cut; 3] = [Cut::Trousers, Cut::Shorts, Cut::Skirt];
const GIRTHS: [f32; 3] = [0.86, 1.0, 1.18];
const CARRIED: [Bag; 3] = [Bag::Backpack, Bag::Shoulder, Bag::Hand];
const PATTERNS: [Pattern; 6] = [
    Pattern::Hoops,
    Pattern::Bars,
    Pattern::Checks,
    Pattern::Badge,
    Pattern::Band,
    Pattern::Sleeves,
];

/// The attributes in which people may differ, in pairs of a conspicuous and an inconspicuous attribute.
/// Each member of a team differs from the team in one of these pairs.
const ATTRIBUTES: [Attribute; 12] = [
    Attribute::one_of(UPPERS.len()),
    Attribute::one_of(SKINS.len()),
    Attribute::one_of(LOWERS.len()),
    Attribute::one_of(HAIRSTYLES.len()),
    Attribute::at_most_one_of(PATTERNS.len() * PRINTS.len()),
    Attribute::one_of(SHOES.len()),
    Attribute::at_most_one_of(CARRIED.len() * BAGS.len()),
    Attribute::one_of(HAIRS.len()),
    Attribute::at_most_one_of(HATS.len()),
    Attribute::one_of(2),
    Attribute::one_of(CUTS.len()),
    Attribute::one_of(GIRTHS.len()),
];

/// A value for each attribute.
type Values = [usize; ATTRIBUTES.len()];

impl Outfit {
    /// The outfit of one person.
    ///
    /// People belong to teams of six that dress alike. The number of attributes in which a person may differ
    /// from the team falls with `difficulty`: twelve at 0, two at 1. At 1 each member of a team differs in
    /// another pair. Colours become more similar as `difficulty` grows.
    pub(super) fn of_person(person: u64, seed: Seed, difficulty: f32) -> Self {
        Self::from_values(Self::values(person, seed, difficulty), difficulty)
    }

    /// A random outfit, for a person outside the labelled identities.
    pub(super) fn stranger(seed: Seed, difficulty: f32) -> Self {
        Self::from_values(team::drawn(&ATTRIBUTES, seed), difficulty)
    }

    fn values(person: u64, seed: Seed, difficulty: f32) -> Values {
        team::values(
            &ATTRIBUTES,
            person,
            seed,
            difficulty,
            Self::own(person, seed),
        )
    }

    /// The individual values of a person. The colours of the upper and the lower garment step through their
    /// palettes, so that consecutive people have different pairs of colours until all pairs are used.
    fn own(person: u64, seed: Seed) -> Values {
        let mut values = team::drawn(&ATTRIBUTES, seed.named("person").at(person));
        let step = person + seed.named("start").number() % 1000;
        let (uppers, lowers) = (UPPERS.len(), LOWERS.len());
        values[0] = 5 * team::remainder(step, uppers) % uppers;
        values[2] = team::remainder(step + step / uppers as u64, lowers);
        values
    }

    fn from_values(values: Values, difficulty: f32) -> Self {
        let [
            upper,
            skin,
            lower,
            hairstyle,
            print,
            shoes,
            bag,
            hair,
            hat,
            sleeves,
            cut,
            girth,
        ] = values;
        // At difficulty 1 colours are halfway to grey, and the clothes of look-alikes differ by less than
        // the light of the cameras.
        let grey = Colour::hex(0x6d_7078);
        let dyed = |rgb: u32| Colour::hex(rgb).mix(grey, 0.5 * difficulty);
        Self {
            upper: dyed(UPPERS[upper]),
            lower: dyed(LOWERS[lower]),
            shoes: dyed(SHOES[shoes]),
            hair: Colour::hex(HAIRS[hair]),
            skin: Colour::hex(SKINS[skin]),
            hairstyle: HAIRSTYLES[hairstyle],
            cut: CUTS[cut],
            pattern: team::kind_and_colour(print, PRINTS.len())
                .map(|(kind, colour)| (PATTERNS[kind], dyed(PRINTS[colour]))),
            bag: team::kind_and_colour(bag, BAGS.len())
                .map(|(kind, colour)| (CARRIED[kind], dyed(BAGS[colour]))),
            hat: hat.checked_sub(1).map(|colour| dyed(HATS[colour])),
            long_sleeves: sleeves == 1,
            girth: GIRTHS[girth],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differences(one: Values, other: Values) -> usize {
        one.iter().zip(&other).filter(|(a, b)| a != b).count()
    }

    #[test]
    fn all_outfits_differ() {
        for number in 0..5 {
            for difficulty in [0.0, 0.3, 0.5, 0.8, 1.0] {
                let seed = Seed::new(number);
                let everyone: Vec<_> = (1..=60)
                    .map(|person| Outfit::of_person(person, seed, difficulty))
                    .collect();
                for (index, outfit) in everyone.iter().enumerate() {
                    assert!(
                        !everyone[..index].contains(outfit),
                        "person {index} at difficulty {difficulty}"
                    );
                }
            }
        }
    }

    #[test]
    fn at_difficulty_1_each_member_differs_from_its_team_in_one_pair() {
        // Each of two members differs from the team in another pair of attributes: 2 + 2 = 4 differ.
        let values = |person| Outfit::values(person, Seed::new(3), 1.0);
        for (one, other) in [(6, 7), (6, 11), (8, 10)] {
            assert_eq!(differences(values(one), values(other)), 4);
        }
    }

    #[test]
    fn at_difficulty_0_colours_step_through_their_palettes() {
        // 12 upper times 8 lower colours: 96 consecutive people all have different pairs.
        let colours = |person| {
            let values = Outfit::values(person, Seed::new(3), 0.0);
            (values[0], values[2])
        };
        let mut pairs: Vec<_> = (1..=96).map(colours).collect();
        pairs.sort_unstable();
        pairs.dedup();
        assert_eq!(pairs.len(), 96);
    }
}
