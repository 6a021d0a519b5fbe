//! Team: a group of look-alikes. Each member differs from the others in a few attributes.

use rand::RngExt;
use reid_core::Seed;

/// An attribute in which members may differ, and the number of its values.
pub(super) struct Attribute {
    values: usize,
    /// Whether the value 0 means "none". It is then as likely as all other values together.
    optional: bool,
}

impl Attribute {
    /// An attribute with this many values.
    pub(super) const fn one_of(values: usize) -> Self {
        Self {
            values,
            optional: false,
        }
    }

    /// An attribute that is absent (value 0) or has one of this many values.
    pub(super) const fn at_most_one_of(values: usize) -> Self {
        Self {
            values: values + 1,
            optional: true,
        }
    }
}

/// The number of members of a team: the number of pairs of attributes.
pub(super) const fn size(attributes: usize) -> u64 {
    attributes as u64 / 2
}

/// The attribute values of a member: some are taken from `own`, the others are those of the team.
///
/// At a difficulty of 0 all values are taken from `own`; at 1 only one pair is, and that pair is different
/// for every member of the team.
pub(super) fn values<const N: usize>(
    attributes: &[Attribute; N],
    member: u64,
    seed: Seed,
    difficulty: f32,
    own: [usize; N],
) -> [usize; N] {
    let team = member / size(N);
    let mut values = drawn(attributes, seed.named("team").at(team));
    let most = N - 2;
    let free = most as f32 * (1.0 - difficulty);
    let count = 2 + (1..=most).filter(|&n| n as f32 <= free).count();
    let rotation = seed.named("rotation").at(team).number() % size(N);
    let first = 2 * remainder(member + rotation, N / 2);
    for step in 0..count {
        let at = (first + step) % N;
        let alike = own[at] == values[at];
        values[at] = own[at];
        // The first pair distinguishes a member from its team, so its values must differ from the team's.
        if alike && step < 2 && count < N {
            values[at] = (own[at] + 1) % attributes[at].values;
        }
    }
    values
}

/// Draws the value of each attribute independently.
pub(super) fn drawn<const N: usize>(attributes: &[Attribute; N], seed: Seed) -> [usize; N] {
    let mut stream = seed.stream();
    std::array::from_fn(|at| {
        let Attribute { values, optional } = attributes[at];
        if optional && stream.random_bool(0.5) {
            0
        } else {
            stream.random_range(0..values)
        }
    })
}

#[expect(clippy::cast_possible_truncation, reason = "less than `divisor`")]
pub(super) fn remainder(number: u64, divisor: usize) -> usize {
    (number % divisor as u64) as usize
}

/// Splits the value of an optional attribute into kind and colour: 0 is none, then come all colours of the
/// first kind, and so on.
pub(super) fn kind_and_colour(value: usize, colours: usize) -> Option<(usize, usize)> {
    let value = value.checked_sub(1)?;
    Some((value / colours, value % colours))
}
