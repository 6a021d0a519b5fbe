//! Random affine transforms: rotates, shifts, scales and shears a picture, like torchvision's `RandomAffine`.

use reid_core::{Problems, Stream, Validate, interpolation::lerp};
use serde::{Deserialize, Serialize};

use super::{Picture, Transform, draw};

/// A transform that rotates, shifts, scales and shears a picture around its centre by random amounts.
///
/// ```text
/// p' = centre + shift + R(angle) · S(shear) · scale · (p - centre)
/// R = [cos -sin; sin cos],  S = [1 -tan; 0 1],  y downwards: positive angles rotate clockwise
/// ```
///
/// Each amount is drawn uniformly from its range. Values are sampled with bilinear interpolation.
///
/// ```
/// use reid_core::Seed;
/// use reid_data::transform::{Picture, RandomAffine, Transform};
///
/// let affine = RandomAffine { degrees: 10.0, translate: (0.0, 0.1), ..RandomAffine::IDENTITY };
/// let mut picture = Picture::new(8, 4, vec![0.5; 96]);
/// affine.apply(&mut picture, &mut Seed::new(1).stream());
/// assert_eq!((picture.height, picture.width), (8, 4));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomAffine {
    /// The largest rotation in either direction, in degrees, 0 to 180.
    pub degrees: f32,
    /// The largest shift in either direction: horizontally as a fraction of the width, and vertically as a
    /// fraction of the height; each 0 to 1.
    pub translate: (f32, f32),
    /// The smallest and the largest scale factor, above 0 and up to [`MAX_SCALE`](Self::MAX_SCALE).
    pub scale: (f32, f32),
    /// The largest horizontal shear in either direction, in degrees, at least 0 and below 90.
    pub shear: f32,
    /// The grey value of positions outside the original picture, 0 to 1.
    pub fill: f32,
}

impl RandomAffine {
    /// No rotation, shift, scaling or shear, and a black fill: a start for struct update syntax.
    pub const IDENTITY: Self = Self {
        degrees: 0.0,
        translate: (0.0, 0.0),
        scale: (1.0, 1.0),
        shear: 0.0,
        fill: 0.0,
    };

    /// The largest valid scale factor: 100.
    pub const MAX_SCALE: f32 = 100.0;
}

impl Validate for RandomAffine {
    fn validate(&self, problems: &mut Problems) {
        problems.number("degrees", self.degrees, 0.0..=180.0);
        problems.at("translate", |problems| {
            problems.number("[0]", self.translate.0, 0.0..=1.0);
            problems.number("[1]", self.translate.1, 0.0..=1.0);
        });
        let (least, largest) = self.scale;
        problems.require(
            "scale",
            0.0 < least && least <= largest && largest <= Self::MAX_SCALE,
            format_args!("0 < min <= max <= {}", Self::MAX_SCALE),
            format_args!("{least} and {largest}"),
        );
        problems.number("shear", self.shear, 0.0..90.0);
        problems.number("fill", self.fill, 0.0..=1.0);
    }
}

impl Transform for RandomAffine {
    fn apply(&self, picture: &mut Picture, stream: &mut Stream) {
        let map = Affine {
            angle: draw::within(self.degrees, stream).to_radians(),
            across: draw::within(self.translate.0, stream) * picture.width as f32,
            down: draw::within(self.translate.1, stream) * picture.height as f32,
            scale: draw::between(self.scale.0, self.scale.1, stream),
            shear: draw::within(self.shear, stream).to_radians(),
        };
        map.apply(picture, self.fill);
    }
}

/// One affine transform, with angles in radians and shifts in pixels.
struct Affine {
    angle: f32,
    across: f32,
    down: f32,
    scale: f32,
    shear: f32,
}

impl Affine {
    fn apply(&self, picture: &mut Picture, fill: f32) {
        let Picture { height, width, .. } = *picture;
        let (centre_x, centre_y) = ((width - 1) as f32 / 2.0, (height - 1) as f32 / 2.0);
        let inverse = self.inverse();
        let mut values = Vec::with_capacity(picture.values.len());
        for plane in picture.planes() {
            for row in 0..height {
                for column in 0..width {
                    let x = column as f32 - centre_x - self.across;
                    let y = row as f32 - centre_y - self.down;
                    let from_x = inverse[0][0] * x + inverse[0][1] * y + centre_x;
                    let from_y = inverse[1][0] * x + inverse[1][1] * y + centre_y;
                    values.push(sample(plane, width, (from_x, from_y), fill));
                }
            }
        }
        picture.values = values;
    }

    /// The matrix that maps a position of the new picture, relative to the shifted centre, to the old
    /// picture: `S⁻¹ · R⁻¹ / scale`, where `S⁻¹ = [1 tan; 0 1]` and `R⁻¹ = [cos sin; -sin cos]`.
    fn inverse(&self) -> [[f32; 2]; 2] {
        let (sin, cos) = self.angle.sin_cos();
        let tan = self.shear.tan();
        let matrix = [[cos - tan * sin, sin + tan * cos], [-sin, cos]];
        matrix.map(|row| row.map(|value| value / self.scale))
    }
}

/// Interpolates a plane bilinearly at a fractional position; cells outside the plane have the value `fill`.
fn sample(plane: &[f32], width: usize, (x, y): (f32, f32), fill: f32) -> f32 {
    let (left, top) = (x.floor(), y.floor());
    let (across, down) = (x - left, y - top);
    let height = plane.len() / width;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "inside the plane"
    )]
    let at = |column: f32, row: f32| {
        let inside = column >= 0.0 && column < width as f32 && row >= 0.0 && row < height as f32;
        if inside {
            plane[row as usize * width + column as usize]
        } else {
            fill
        }
    };
    let above = lerp(at(left, top), at(left + 1.0, top), across);
    let below = lerp(at(left, top + 1.0), at(left + 1.0, top + 1.0), across);
    lerp(above, below, down)
}

#[cfg(test)]
mod tests {
    use reid_core::Seed;

    use super::*;

    const IDENTITY: Affine = Affine {
        angle: 0.0,
        across: 0.0,
        down: 0.0,
        scale: 1.0,
        shear: 0.0,
    };

    /// 1 to 9 in three rows, on every plane.
    fn nine() -> Picture {
        Picture::new(
            3,
            3,
            (1..=9).map(|v| v as f32).collect::<Vec<_>>().repeat(3),
        )
    }

    fn assert_planes(picture: &Picture, expected: [f32; 9]) {
        for plane in picture.planes() {
            let close = |(value, want): (&f32, f32)| (value - want).abs() < 1e-5;
            assert!(plane.iter().zip(expected).all(close), "{plane:?}");
        }
    }

    #[test]
    fn a_rotation_by_90_degrees_is_clockwise() {
        let mut picture = nine();
        let rotation = Affine {
            angle: 90_f32.to_radians(),
            ..IDENTITY
        };
        rotation.apply(&mut picture, 0.0);
        assert_planes(&picture, [7.0, 4.0, 1.0, 8.0, 5.0, 2.0, 9.0, 6.0, 3.0]);
    }

    #[test]
    fn a_shift_fills_the_border() {
        // One column to the right, half a row down: the first column is the fill, rows are means of two.
        let mut picture = nine();
        let shift = Affine {
            across: 1.0,
            down: 0.5,
            ..IDENTITY
        };
        shift.apply(&mut picture, 10.0);
        // Column 1 comes from 1, 4, 7 with fill 10 above: (10+1)/2, (1+4)/2, (4+7)/2; column 2 from 2, 5, 8.
        assert_planes(&picture, [10.0, 5.5, 6.0, 10.0, 2.5, 3.5, 10.0, 5.5, 6.5]);
    }

    #[test]
    fn a_scale_of_2_samples_at_half_the_distance() {
        // The centre 5 stays. Its right neighbour is (5+6)/2, its lower neighbour (5+8)/2, and so on.
        let mut picture = nine();
        let double = Affine {
            scale: 2.0,
            ..IDENTITY
        };
        double.apply(&mut picture, 0.0);
        assert_planes(&picture, [3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5, 7.0]);
    }

    #[test]
    fn a_shear_shifts_rows_horizontally() {
        // tan 45° = 1: x' = x - y, so the upper row moves right by one and the lower row left by one.
        let mut picture = nine();
        let shear = Affine {
            shear: 45_f32.to_radians(),
            ..IDENTITY
        };
        shear.apply(&mut picture, 0.0);
        assert_planes(&picture, [0.0, 1.0, 2.0, 4.0, 5.0, 6.0, 8.0, 9.0, 0.0]);
    }

    #[test]
    fn the_identity_changes_nothing() {
        let mut picture = nine();
        RandomAffine::IDENTITY.apply(&mut picture, &mut Seed::new(1).stream());
        assert_eq!(picture, nine());
    }

    #[test]
    fn amounts_stay_within_their_range() {
        // Shifts are at most 0.4 of 10 columns, so the value of column 5 stays in columns 1 to 9.
        let affine = RandomAffine {
            translate: (0.4, 0.0),
            ..RandomAffine::IDENTITY
        };
        for number in 0..100 {
            let plane: Vec<f32> = (0..10).map(|at| f32::from(u8::from(at == 5))).collect();
            let mut picture = Picture::new(1, 10, plane.repeat(3));
            affine.apply(&mut picture, &mut Seed::new(number).stream());
            let total: f32 = picture.values[..10].iter().sum();
            assert!((total - 1.0).abs() < 1e-4 && picture.values[0] == 0.0);
        }
    }
}
