//! Draws shared by the random transforms.

use rand::RngExt;
use reid_core::{Problems, Stream};

use super::Picture;

/// Whether something of this probability happens; always one draw, so that what follows in the
/// stream does not depend on the probability.
pub(super) fn happens(probability: f32, stream: &mut Stream) -> bool {
    stream.random::<f32>() < probability
}

/// A number between the two, each as likely.
pub(super) fn between(low: f32, high: f32, stream: &mut Stream) -> f32 {
    low + (high - low) * stream.random::<f32>()
}

/// A number from `-reach` to `reach`, each as likely.
pub(super) fn within(reach: f32, stream: &mut Stream) -> f32 {
    between(-reach, reach, stream)
}

/// Where red, green and blue are in a list.
pub(super) const COLOURS: [&str; 3] = ["[0]", "[1]", "[2]"];

/// Refuses a colour outside 0 to 1.
pub(super) fn validate_colour(field: &str, colour: [f32; 3], problems: &mut Problems) {
    problems.at(field, |problems| {
        for (item, value) in COLOURS.into_iter().zip(colour) {
            problems.number(item, value, 0.0..=1.0);
        }
    });
}

/// Paints over a rectangle at a place drawn evenly from those inside the picture.
pub(super) fn paint_somewhere(
    picture: &mut Picture,
    [height, width]: [usize; 2],
    fill: [f32; 3],
    stream: &mut Stream,
) {
    let top = stream.random_range(0..=picture.height - height);
    let left = stream.random_range(0..=picture.width - width);
    let stride = picture.width;
    for (plane, fill) in picture.planes_mut().zip(fill) {
        for row in plane.chunks_exact_mut(stride).skip(top).take(height) {
            row[left..left + width].fill(fill);
        }
    }
}

#[cfg(test)]
mod tests {
    use reid_core::Seed;

    use super::*;

    #[test]
    fn certain_and_impossible_are_exact() {
        let mut stream = Seed::new(1).stream();
        for _ in 0..1000 {
            assert!(happens(1.0, &mut stream));
            assert!(!happens(0.0, &mut stream));
        }
    }

    #[test]
    fn half_happens_half_the_time() {
        // 10 000 draws: the standard deviation is 50, so 200 is 4 of them.
        let mut stream = Seed::new(1).stream();
        let count = (0..10_000).filter(|_| happens(0.5, &mut stream)).count();
        assert!(count.abs_diff(5000) < 200, "{count}");
    }
}
