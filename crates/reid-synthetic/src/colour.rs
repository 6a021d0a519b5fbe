//! Colours with opacity.

/// A colour: red, green, blue and opacity, each in `0..=1`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Colour([f32; 4]);

impl Colour {
    pub(super) const BLACK: Self = Self([0.0, 0.0, 0.0, 1.0]);
    pub(super) const WHITE: Self = Self([1.0, 1.0, 1.0, 1.0]);

    /// An opaque colour written as `0xRRGGBB`.
    pub(super) fn hex(rgb: u32) -> Self {
        let [_, red, green, blue] = rgb.to_be_bytes();
        let channel = |byte: u8| f32::from(byte) / 255.0;
        Self([channel(red), channel(green), channel(blue), 1.0])
    }

    /// Interpolates linearly: this colour at `share` 0, `other` at `share` 1.
    pub(super) fn mix(self, other: Self, share: f32) -> Self {
        let mut mixed = self.0;
        for (channel, target) in mixed.iter_mut().zip(other.0) {
            *channel += (target - *channel) * share;
        }
        Self(mixed)
    }

    /// The colour in more light (`factor` above 1) or less light (`factor` below 1).
    pub(super) fn lit(self, factor: f32) -> Self {
        let [red, green, blue, alpha] = self.0;
        let channel = |value: f32| (value * factor).clamp(0.0, 1.0);
        Self([channel(red), channel(green), channel(blue), alpha])
    }

    /// The colour with this opacity, clamped to `0..=1`.
    pub(super) fn veil(self, opacity: f32) -> Self {
        let [red, green, blue, _] = self.0;
        Self([red, green, blue, opacity.clamp(0.0, 1.0)])
    }

    /// The Euclidean distance of two colours over all four channels.
    pub(super) fn distance(self, other: Self) -> f32 {
        let squares = self.0.iter().zip(other.0).map(|(a, b)| (a - b).powi(2));
        squares.sum::<f32>().sqrt()
    }

    /// The channels: red, green, blue, opacity.
    pub(super) fn channels(self) -> [f32; 4] {
        self.0
    }
}
