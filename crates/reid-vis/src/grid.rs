//! Contact sheet: a grid of images with named columns.

use image::RgbImage;
use reid_core::InputSize;

use crate::canvas::{Align, Area, Canvas, INK, TEXT_HEIGHT, text_width};

/// White margin around the sheet, in pixels.
const MARGIN: usize = 12;
/// Space between neighbouring images, horizontally and vertically, in pixels.
const GAP: usize = 8;
/// Space between a column's name and its first image, in pixels.
const CAPTION_GAP: usize = 4;

/// A contact sheet: a grid of images with named columns, such as *input | baseline | ours*, and one row
/// per example.
///
/// ```
/// use reid_core::InputSize;
/// use reid_vis::{ContactSheet, RgbImage};
///
/// let picture = || RgbImage::new(64, 128);
/// let sheet = ContactSheet::new(["input", "baseline", "ours"])
///     .with_row([picture(), picture(), picture()])
///     .with_row([picture(), picture(), picture()]);
/// // 12 + 3 · 96 + 2 · 8 + 12 across, 12 + 16 + 4 + 2 · 192 + 8 + 12 down.
/// let size = InputSize::new(192, 96);
/// assert_eq!(sheet.with_cell(size).draw().dimensions(), (328, 436));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ContactSheet {
    captions: Vec<String>,
    rows: Vec<Vec<RgbImage>>,
    cell: InputSize,
}

impl ContactSheet {
    /// An empty sheet with these column names and cells of 256 x 128 pixels (height x width).
    ///
    /// A column is as wide as its name if the name is wider than the cells. A column with an empty name has
    /// no caption.
    #[must_use]
    pub fn new<Name: Into<String>>(captions: impl IntoIterator<Item = Name>) -> Self {
        Self {
            captions: captions.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
            cell: InputSize::PERSON,
        }
    }

    /// Sets the size to which every image is resized: stretched, not cropped. Default:
    /// [`InputSize::PERSON`].
    #[must_use]
    pub fn with_cell(self, cell: InputSize) -> Self {
        Self { cell, ..self }
    }

    /// Adds a row of images, from the left. Cells without an image stay white.
    ///
    /// # Panics
    /// If there are more images than columns.
    #[must_use]
    pub fn with_row(mut self, pictures: impl IntoIterator<Item = RgbImage>) -> Self {
        let pictures: Vec<RgbImage> = pictures.into_iter().collect();
        assert!(
            pictures.len() <= self.captions.len(),
            "the contact sheet has {} columns, found a row of {} images",
            self.captions.len(),
            pictures.len()
        );
        self.rows.push(pictures);
        self
    }

    /// Draws the sheet.
    ///
    /// # Panics
    /// If its width or height does not fit in 32 bits.
    #[must_use]
    pub fn draw(&self) -> RgbImage {
        let widths: Vec<usize> = self
            .captions
            .iter()
            .map(|caption| text_width(caption).max(self.cell.width))
            .collect();
        let gaps = GAP * widths.len().saturating_sub(1);
        let width = 2 * MARGIN + widths.iter().sum::<usize>() + gaps;
        let captioned = self.captions.iter().any(|caption| !caption.is_empty());
        let first = MARGIN + usize::from(captioned) * (TEXT_HEIGHT + CAPTION_GAP);
        let gaps = GAP * self.rows.len().saturating_sub(1);
        let height = first + self.rows.len() * self.cell.height + gaps + MARGIN;

        let mut canvas = Canvas::white(width, height);
        let mut left = MARGIN;
        for (column, (caption, width)) in self.captions.iter().zip(&widths).enumerate() {
            canvas.text(caption, (left + width / 2, MARGIN), Align::Centre, INK);
            for (row, pictures) in self.rows.iter().enumerate() {
                if let Some(picture) = pictures.get(column) {
                    let area = Area {
                        left: left + (width - self.cell.width) / 2,
                        top: first + row * (self.cell.height + GAP),
                        width: self.cell.width,
                        height: self.cell.height,
                    };
                    canvas.paste(picture, area);
                }
            }
            left += width + GAP;
        }
        canvas.into_picture()
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    const RED: Rgb<u8> = Rgb([200, 0, 0]);
    const BLUE: Rgb<u8> = Rgb([0, 0, 200]);
    const WHITE: Rgb<u8> = Rgb([255; 3]);

    fn uniform(colour: Rgb<u8>) -> RgbImage {
        RgbImage::from_pixel(3, 3, colour)
    }

    #[test]
    fn images_are_drawn_in_their_cells() {
        let sheet = ContactSheet::new(["", ""])
            .with_cell(InputSize::new(20, 10))
            .with_row([uniform(RED), uniform(BLUE)])
            .with_row([uniform(BLUE)])
            .draw();
        // 12 + 10 + 8 + 10 + 12 across, 12 + 20 + 8 + 20 + 12 down: without names there is no line for them.
        assert_eq!(sheet.dimensions(), (52, 72));
        assert_eq!(*sheet.get_pixel(12, 12), RED);
        assert_eq!(*sheet.get_pixel(21, 31), RED);
        assert_eq!(*sheet.get_pixel(22, 31), WHITE);
        assert_eq!(*sheet.get_pixel(30, 12), BLUE);
        assert_eq!(*sheet.get_pixel(12, 40), BLUE);
        assert_eq!(*sheet.get_pixel(30, 40), WHITE, "the row was short");
    }

    #[test]
    fn a_column_is_as_wide_as_its_name() {
        let name = "a name wider than its images";
        let sheet = ContactSheet::new([name])
            .with_cell(InputSize::new(8, 8))
            .with_row([uniform(RED)])
            .draw();
        let width = text_width(name);
        assert_eq!(sheet.width() as usize, 12 + width + 12);
        // The image is centred, below 12 + 16 + 4 rows.
        let centre = u32::try_from(12 + width / 2).expect("small");
        assert_eq!(*sheet.get_pixel(centre, 32), RED);
        assert_eq!(*sheet.get_pixel(centre, 31), WHITE);
    }

    #[test]
    fn an_empty_sheet_has_only_its_margins() {
        let none: [&str; 0] = [];
        assert_eq!(ContactSheet::new(none).draw().dimensions(), (24, 24));
    }

    #[test]
    #[should_panic(expected = "has 1 columns, found a row of 2 images")]
    fn a_row_longer_than_the_columns_is_rejected() {
        let _ = ContactSheet::new(["only"]).with_row([uniform(RED), uniform(RED)]);
    }
}
