//! Random draws and colour checks shared by the transforms.

use rand::RngExt;
use reid_core::{Problems, Stream};

use super::Picture;

/// Returns true with this probability. Always draws one number, so that later draws from the stream do not
/// depend on the probability.
pub(super) fn happens(probability: f32, stream: &mut Stream) -> bool {
    stream.random::<f32>() < probability
}

/// Draws a uniform number between `low` and `high`.
pub(super) fn between(low: f32, high: f32, stream: &mut Stream) -> f32 {
    low + (high - low) * stream.random::<f32>()
}

/// Draws a uniform number from `-reach` to `reach`.
pub(super) fn within(reach: f32, stream: &mut Stream) -> f32 {
    between(-reach, reach, stream)
}

/// The JSON indices of red, green and blue in a list.
pub(super) const COLOURS: [&str; 3] = ["[0]", "[1]", "[2]"];

/// Adds a problem for each channel of a colour that is outside 0 to 1.
pub(super) fn validate_colour(field: &str, colour: [f32; 3], problems: &mut Problems) {
    problems.at(field, |problems| {
        for (item, value) in COLOURS.into_iter().zip(colour) {
            problems.number(item, value, 0.0..=1.0);
        }
    });
}

/// Fills a rectangle with one colour, at a uniformly random position inside the picture.
pub(super) fn fill_rectangle(
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
    fn probabilities_0_and_1_are_exact() {
        let mut stream = Seed::new(1).stream();
        for _ in 0..1000 {
            assert!(happens(1.0, &mut stream));
            assert!(!happens(0.0, &mut stream));
        }
    }

    #[test]
    fn probability_one_half_is_true_half_the_time() {
        // The standard deviation of the count of 10 000 draws is 50, so 200 are 4 standard deviations.
        let mut stream = Seed::new(1).stream();
        let count = (0..10_000).filter(|_| happens(0.5, &mut stream)).count();
        assert!(count.abs_diff(5000) < 200, "{count}");
    }
}
