//! Team: look-alikes, of whom each differs from the others in a few attributes.

use rand::RngExt;
use reid_core::Seed;

/// One thing members may differ in, and among how many values.
pub(super) struct Attribute {
    values: usize,
    /// Whether the value 0 means "none" and is then as likely as all others together.
    optional: bool,
}

impl Attribute {
    pub(super) const fn one_of(values: usize) -> Self {
        Self {
            values,
            optional: false,
        }
    }

    /// None, the value 0, or one of `values`.
    pub(super) const fn at_most_one_of(values: usize) -> Self {
        Self {
            values: values + 1,
            optional: true,
        }
    }
}

/// Members of a team with this many attributes: as many as there are pairs of attributes.
pub(super) const fn size(attributes: usize) -> u64 {
    attributes as u64 / 2
}

/// The values of a member: those of the team, but for as many as `difficulty` leaves of its `own`.
///
/// At a difficulty of 0 all are its own, at 1 a pair, and then no two members of a team have the
/// same pair of their own.
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
        // A member's first pair is what tells it from the team, so there it has to.
        if alike && step < 2 && count < N {
            values[at] = (own[at] + 1) % attributes[at].values;
        }
    }
    values
}

/// Any values: each attribute by itself.
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

#[expect(clippy::cast_possible_truncation, reason = "less than `of`")]
pub(super) fn remainder(number: u64, of: usize) -> usize {
    (number % of as u64) as usize
}

/// Kind and colour of something optional: 0 is none, then every colour of the first kind, and so on.
pub(super) fn kind_and_colour(value: usize, colours: usize) -> Option<(usize, usize)> {
    let value = value.checked_sub(1)?;
    Some((value / colours, value % colours))
}
