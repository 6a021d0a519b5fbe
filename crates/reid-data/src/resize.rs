//! Image resizing, bit-identical to Pillow's antialiased bilinear filter.
//!
//! Published weights were trained on images that Pillow resized. When an image shrinks, Pillow's filter
//! becomes wider, so that every source pixel contributes. Bilinear interpolation between four neighbours
//! ignores many pixels and costs accuracy. The horizontal pass comes first, and each pass rounds to 8 bits.

use image::RgbImage;
use pulp::{Arch, Simd, WithSimd};
use reid_core::InputSize;

/// The number of fraction bits of a weight. 255 times the sum of all weights still fits an `i32`.
const BITS: u32 = 22;

/// The source cells that contribute to one target cell, with their weights.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// Resizes an image as [`decode`](crate::decode) does: with an antialiased bilinear filter on 8 bits.
///
/// The result is bit-identical to Pillow's `Image.resize` with `BILINEAR`. The aspect ratio is not kept.
///
/// ```
/// use reid_core::InputSize;
///
/// let image = image::RgbImage::from_pixel(40, 90, image::Rgb([7, 8, 9]));
/// let resized = reid_data::resize(&image, InputSize::PERSON);
/// assert_eq!(resized.dimensions(), (128, 256));
/// assert_eq!(resized.get_pixel(100, 200).0, [7, 8, 9]);
/// ```
///
/// # Panics
/// If the image has no pixels.
#[must_use]
pub fn resize(image: &RgbImage, size: InputSize) -> RgbImage {
    let width = image.width() as usize;
    assert!(
        width > 0 && image.height() > 0,
        "an image of {}x{width} has no pixels to resize",
        image.height()
    );
    let passes = Passes {
        values: image.as_raw(),
        width,
        columns: &taps(width, size.width),
        rows: &taps(image.height() as usize, size.height),
    };
    let values = Arch::new().dispatch(passes);
    let pixels = |side: usize| u32::try_from(side).expect("an image side fits 32 bits");
    RgbImage::from_raw(pixels(size.width), pixels(size.height), values).expect("3 values per pixel")
}

/// Both passes over an image of RGB pixels, compiled for the widest vectors of the processor.
struct Passes<'a> {
    values: &'a [u8],
    width: usize,
    columns: &'a [Taps],
    rows: &'a [Taps],
}

impl WithSimd for Passes<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<u8> {
        let (from, to) = (3 * self.width, 3 * self.columns.len());
        let mut narrow = vec![0; self.values.len() / from * to];
        let mut block = Block::new(self.width, self.columns.len());
        let blocks = self.values.chunks(LINES * from);
        for (lines, narrow) in blocks.zip(narrow.chunks_mut(LINES * to)) {
            block.transpose(lines, from);
            block.across(self.columns);
            block.write(narrow, to);
        }
        let mut values = vec![0; to * self.rows.len()];
        let mut sums = vec![0; to];
        for (values, Taps { first, weights }) in values.chunks_exact_mut(to).zip(self.rows) {
            sums.fill(HALF);
            let rows = narrow[first * to..].chunks_exact(to);
            for (row, weight) in rows.zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(row) {
                    *sum += weight * i32::from(value);
                }
            }
            for (value, &sum) in values.iter_mut().zip(&sums) {
                *value = rounded(sum);
            }
        }
        values
    }
}

/// The number of rows that are resized to another width at once.
const LINES: usize = 16;

/// Some rows of an image, transposed: the values of all rows at one position are adjacent, so that one weight
/// multiplies a vector of them.
struct Block {
    /// What is read, `[3 · width]`.
    wide: Vec<[u8; LINES]>,
    /// What is written, `[3 · columns]`.
    narrow: Vec<[u8; LINES]>,
}

impl Block {
    fn new(width: usize, columns: usize) -> Self {
        Self {
            wide: vec![[0; LINES]; 3 * width],
            narrow: vec![[0; LINES]; 3 * columns],
        }
    }

    /// Reads at most [`LINES`] rows of `stride` values.
    #[inline(always)]
    fn transpose(&mut self, lines: &[u8], stride: usize) {
        for (line, row) in lines.chunks_exact(stride).enumerate() {
            for (values, &value) in self.wide.iter_mut().zip(row) {
                values[line] = value;
            }
        }
    }

    #[inline(always)]
    fn across(&mut self, columns: &[Taps]) {
        let pixels = self.wide.as_chunks::<3>().0;
        let narrow = self.narrow.as_chunks_mut::<3>().0;
        for (narrow, Taps { first, weights }) in narrow.iter_mut().zip(columns) {
            let mut sums = [[HALF; LINES]; 3];
            for (pixel, weight) in pixels[*first..].iter().zip(weights) {
                for (sums, values) in sums.iter_mut().zip(pixel) {
                    for (sum, &value) in sums.iter_mut().zip(values) {
                        *sum += weight * i32::from(value);
                    }
                }
            }
            *narrow = sums.map(|sums| sums.map(rounded));
        }
    }

    /// Writes the rows that were read last.
    #[inline(always)]
    fn write(&self, lines: &mut [u8], stride: usize) {
        for (line, row) in lines.chunks_exact_mut(stride).enumerate() {
            for (value, values) in row.iter_mut().zip(&self.narrow) {
                *value = values[line];
            }
        }
    }
}

/// One half, which rounds a sum to the nearest value.
const HALF: i32 = 1 << (BITS - 1);

/// Rounds a weighted sum to 8 bits; the initial value of the sum already includes the one half for rounding.
#[expect(clippy::cast_sign_loss, reason = "clamped to 0 to 255")]
#[inline(always)]
fn rounded(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// Computes the taps of each of `to` target cells: a triangle filter around the cell's centre among `from`
/// source cells.
///
/// The triangle extends `max(1, from / to)` source cells to each side. It is clipped at the border, and its
/// weights are normalised to a sum of 1.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounded by the number of cells"
)]
fn taps(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let reach = scale.max(1.0);
    let tap = |cell: usize| {
        let centre = (cell as f64 + 0.5) * scale;
        let first = (centre - reach + 0.5).max(0.0) as usize;
        let end = ((centre + reach + 0.5) as usize).min(from);
        let height =
            |source: usize| (1.0 - ((source as f64 + 0.5 - centre) / reach).abs()).max(0.0);
        let total: f64 = (first..end).map(height).sum();
        let unit = f64::from(1 << BITS) / total;
        let weights = (first..end).map(|source| (height(source) * unit + 0.5) as i32);
        Taps {
            first,
            weights: weights.collect(),
        }
    };
    (0..to).map(tap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image with irregular values: `(37 r² + 91 c² + 53 r c + 101 k) mod 256`.
    fn irregular(height: u32, width: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |c, r| {
            let value = 37 * r * r + 91 * c * c + 53 * r * c;
            image::Rgb([0, 1, 2].map(|k| (value + 101 * k).to_le_bytes()[0]))
        })
    }

    #[test]
    fn halving_gives_the_values_computed_by_hand() {
        // Reach 2 around 1.0: cells 0, 1, 2 have centres 0.5, 1.5, 2.5, so weights 0.75, 0.75, 0.25.
        // (0·0.75 + 70·0.75 + 140·0.25) / 1.75 = 87.5 / 1.75 = 50; by symmetry the other value is 160.
        let grey = |value| image::Rgb([value; 3]);
        let row = RgbImage::from_fn(4, 1, |c, _| grey([0, 70, 140, 210][c as usize]));
        let half = resize(&row, InputSize::new(1, 2));
        assert_eq!(
            (half.get_pixel(0, 0), half.get_pixel(1, 0)),
            (&grey(50), &grey(160))
        );
    }

    #[test]
    fn shrinking_gives_pillows_values() {
        // numpy.array(Image.fromarray(irregular(11, 9)).resize((4, 3), Image.BILINEAR)), Pillow 13.0.0
        let pillow: [u8; 36] = [
            115, 148, 107, 152, 116, 148, 132, 119, 145, 121, 111, 153, //
            100, 129, 129, 132, 134, 141, 122, 141, 85, 124, 114, 105, //
            147, 111, 132, 150, 137, 125, 155, 127, 107, 117, 135, 95,
        ];
        assert_eq!(
            resize(&irregular(11, 9), InputSize::new(3, 4)).as_raw(),
            &pillow
        );
    }

    #[test]
    fn enlarging_gives_pillows_values() {
        // numpy.array(Image.fromarray(irregular(3, 2)).resize((3, 5), Image.BILINEAR)), Pillow 13.0.0
        let pillow: [u8; 45] = [
            0, 101, 202, 46, 147, 120, 91, 192, 37, //
            15, 116, 217, 71, 121, 145, 127, 126, 73, //
            37, 138, 239, 109, 82, 183, 181, 26, 127, //
            104, 205, 152, 115, 165, 112, 126, 124, 72, //
            148, 249, 94, 119, 220, 65, 89, 190, 35,
        ];
        assert_eq!(
            resize(&irregular(3, 2), InputSize::new(5, 3)).as_raw(),
            &pillow
        );
    }

    #[test]
    #[should_panic(expected = "an image of 3x0 has no pixels to resize")]
    fn an_image_without_pixels_panics() {
        let _ = resize(&RgbImage::new(0, 3), InputSize::new(2, 2));
    }

    #[test]
    fn resizing_to_the_same_size_changes_nothing() {
        assert_eq!(
            resize(&irregular(7, 5), InputSize::new(7, 5)),
            irregular(7, 5)
        );
    }
}
