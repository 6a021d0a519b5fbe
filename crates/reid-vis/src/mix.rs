//! Linear interpolation between two colours.

use image::Rgb;
use reid_core::interpolation::lerp;

/// Interpolates linearly: `from` at `share` 0, `to` at `share` 1, each channel rounded.
pub(crate) fn mix(from: Rgb<u8>, to: Rgb<u8>, share: f32) -> Rgb<u8> {
    let channel = |index: usize| {
        let (from, to) = (f32::from(from.0[index]), f32::from(to.0[index]));
        let mixed = lerp(from, to, share);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the value lies between two bytes"
        )]
        let byte = mixed.round() as u8;
        byte
    };
    Rgb([channel(0), channel(1), channel(2)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_per_channel() {
        let (black, colour) = (Rgb([0; 3]), Rgb([255, 10, 1]));
        assert_eq!(mix(black, colour, 0.0), black);
        assert_eq!(mix(black, colour, 1.0), colour);
        // 127.5 → 128, 5, 0.5 → 1.
        assert_eq!(mix(black, colour, 0.5).0, [128, 5, 1]);
    }
}
