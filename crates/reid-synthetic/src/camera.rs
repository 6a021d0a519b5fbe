//! Camera: its light, its usual viewing direction, and its image degradation.

use std::f32::consts::PI;

use image::{Rgb, RgbImage};
use rand::RngExt;
use reid_core::{Seed, Stream};

/// The properties of a camera that affect every image it takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// Mean yaw of the people that it sees, in radians.
    pub(super) yaw: f32,
    /// Quality of its JPEG files, in `1..=100`.
    pub(super) quality: u8,
    gains: [f32; 3],
    gamma: f32,
    /// Standard deviation of the blur, in pixels of an image 128 pixels high.
    blur: f32,
    /// Standard deviation of the noise, for values in `0..=1`.
    noise: f32,
}

impl View {
    /// Draws a camera from a seed. At a `difficulty` of 0 all cameras are nearly alike.
    pub(super) fn from_seed(seed: Seed, difficulty: f32) -> Self {
        let mut stream = seed.stream();
        let mut around = |spread: f32| stream.random_range(-1.0..1.0) * spread;
        // Light is multiplicative, so the logarithms of the gains are drawn.
        let brightness = (around(0.1 + 0.4 * difficulty) - 0.1 * difficulty).exp();
        let gains = [(); 3].map(|()| brightness * around(0.02 + 0.2 * difficulty).exp());
        let gamma = around(0.05 + 0.4 * difficulty).exp();
        let yaw = around(0.6 + (PI - 0.6) * difficulty);
        let blur = 0.2 + (0.7 + around(0.6)) * difficulty;
        let noise = 0.004 + (0.03 + around(0.02)) * difficulty;
        let loss = (0.55 + around(0.45)) * difficulty;
        Self {
            yaw,
            quality: whole(94.0 - 50.0 * loss),
            gains,
            gamma,
            blur,
            noise,
        }
    }

    /// Applies the blur, the light and the noise of this camera to an image.
    ///
    /// ```text
    /// seen = film(gain · exposure · blur(value)^gamma) + noise
    /// ```
    pub(super) fn take(&self, picture: &RgbImage, exposure: f32, stream: &mut Stream) -> RgbImage {
        let sigma = self.blur * picture.height() as f32 / 128.0;
        let mut taken = if sigma > 0.15 {
            image::imageops::blur(picture, sigma)
        } else {
            picture.clone()
        };
        let curves = self.gains.map(|gain| self.curve(gain * exposure));
        for Rgb(pixel) in taken.pixels_mut() {
            for (value, curve) in pixel.iter_mut().zip(&curves) {
                let noise = self.noise * normal(stream);
                *value = byte(curve[usize::from(*value)] + noise);
            }
        }
        taken
    }

    /// The lookup table from the 256 byte values to the values on film, before noise.
    fn curve(&self, gain: f32) -> [f32; 256] {
        std::array::from_fn(|value| film(gain * (value as f32 / 255.0).powf(self.gamma)))
    }
}

/// The response of film: linear below 0.75. Brighter light approaches 1 without reaching it, so bright
/// values remain distinct.
fn film(light: f32) -> f32 {
    let shoulder = 0.75;
    if light < shoulder {
        return light;
    }
    let room = 1.0 - shoulder;
    1.0 - room * ((shoulder - light) / room).exp()
}

/// Draws from an approximately normal distribution with mean 0 and variance 1. The sum of four uniform
/// bytes `b ~ U{0..255}` has mean 510 and variance `4 · (256² - 1) / 12 = 21845 = 147.8²`.
fn normal(stream: &mut Stream) -> f32 {
    let bytes = stream.random::<u32>().to_le_bytes();
    let sum: f32 = bytes.into_iter().map(f32::from).sum();
    (sum - 510.0) / 147.8
}

/// Converts a value in `0..=1` to a byte.
fn byte(value: f32) -> u8 {
    whole(value * 255.0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped"
)]
fn whole(value: f32) -> u8 {
    value.clamp(0.0, 255.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cameras_differ_more_as_difficulty_grows() {
        let grey = RgbImage::from_pixel(32, 64, Rgb([128; 3]));
        let spread = |difficulty| {
            let brightness = (0..8_u64).map(|number| {
                let view = View::from_seed(Seed::new(number), difficulty);
                let taken = view.take(&grey, 1.0, &mut Seed::new(number).stream());
                taken.iter().map(|&value| f32::from(value)).sum::<f32>() / taken.len() as f32
            });
            let (low, high) = brightness.fold((255.0_f32, 0.0_f32), |(low, high), value| {
                (low.min(value), high.max(value))
            });
            high - low
        };
        assert!(spread(0.0) < 40.0, "{}", spread(0.0));
        assert!(spread(1.0) > 60.0, "{}", spread(1.0));
    }

    #[test]
    fn film_keeps_bright_values_distinct() {
        // Unchanged below 0.75; 0.25 above it 1 - 0.25/e = 0.908; 0.5 above it 1 - 0.25/e² = 0.966.
        let expected = [(0.5, 0.5), (0.75, 0.75), (1.0, 0.908), (1.25, 0.966)];
        for (light, seen) in expected {
            assert!(
                (film(light) - seen).abs() < 1e-3,
                "{light}: {}",
                film(light)
            );
        }
    }

    #[test]
    fn noise_has_mean_0_and_variance_1() {
        let mut stream = Seed::new(1).stream();
        let drawn: Vec<f32> = (0..20_000).map(|_| normal(&mut stream)).collect();
        let mean = drawn.iter().sum::<f32>() / 20_000.0;
        let variance = drawn.iter().map(|x| x * x).sum::<f32>() / 20_000.0;
        // Standard errors: 1/√20000 = 0.007 for the mean, about 0.01 for the variance.
        assert!(
            mean.abs() < 0.03 && (variance - 1.0).abs() < 0.04,
            "{mean} {variance}"
        );
    }
}
