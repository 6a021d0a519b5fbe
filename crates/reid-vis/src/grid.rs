//! Contact sheet: pictures side by side under the names of their columns.

use image::RgbImage;
use reid_core::InputSize;

use crate::canvas::{Align, Area, Canvas, INK, TEXT_HEIGHT, text_width};

/// White space around everything, in pixels.
const MARGIN: usize = 12;
/// Between neighbours, both ways.
const GAP: usize = 8;
/// Between a column's name and its first picture.
const CAPTION_GAP: usize = 4;

/// Pictures side by side under the names of their columns, as in *input | baseline | ours*; one row
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
    /// An empty sheet with these columns, and cells of 256 x 128 pixels. A column grows with its
    /// name; an empty name is no name.
    #[must_use]
    pub fn new<Name: Into<String>>(captions: impl IntoIterator<Item = Name>) -> Self {
        Self {
            captions: captions.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
            cell: InputSize::PERSON,
        }
    }

    /// The size to which every picture is brought: stretched, not cropped. Default:
    /// [`InputSize::PERSON`].
    #[must_use]
    pub fn with_cell(self, cell: InputSize) -> Self {
        Self { cell, ..self }
    }

    /// Adds a row of pictures, from the left. Cells without a picture stay white.
    ///
    /// # Panics
    /// If there are more pictures than columns.
    #[must_use]
    pub fn with_row(mut self, pictures: impl IntoIterator<Item = RgbImage>) -> Self {
        let pictures: Vec<RgbImage> = pictures.into_iter().collect();
        assert!(
            pictures.len() <= self.captions.len(),
            "the contact sheet has {} columns, found a row of {} pictures",
            self.captions.len(),
            pictures.len()
        );
        self.rows.push(pictures);
        self
    }

    /// The sheet as a picture.
    ///
    /// # Panics
    /// If its width or height does not fit 32 bits.
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

    fn of(colour: Rgb<u8>) -> RgbImage {
        RgbImage::from_pixel(3, 3, colour)
    }

    #[test]
    fn pictures_stand_in_their_cells() {
        let sheet = ContactSheet::new(["", ""])
            .with_cell(InputSize::new(20, 10))
            .with_row([of(RED), of(BLUE)])
            .with_row([of(BLUE)])
            .draw();
        // 12 + 10 + 8 + 10 + 12 across, 12 + 20 + 8 + 20 + 12 down: no names, no line for them.
        assert_eq!(sheet.dimensions(), (52, 72));
        assert_eq!(*sheet.get_pixel(12, 12), RED);
        assert_eq!(*sheet.get_pixel(21, 31), RED);
        assert_eq!(*sheet.get_pixel(22, 31), WHITE);
        assert_eq!(*sheet.get_pixel(30, 12), BLUE);
        assert_eq!(*sheet.get_pixel(12, 40), BLUE);
        assert_eq!(*sheet.get_pixel(30, 40), WHITE, "the row was short");
    }

    #[test]
    fn a_column_grows_with_its_name() {
        let name = "a name wider than its pictures";
        let sheet = ContactSheet::new([name])
            .with_cell(InputSize::new(8, 8))
            .with_row([of(RED)])
            .draw();
        let width = text_width(name);
        assert_eq!(sheet.width() as usize, 12 + width + 12);
        // The picture stands in the middle, below 12 + 16 + 4 rows.
        let centre = u32::try_from(12 + width / 2).expect("small");
        assert_eq!(*sheet.get_pixel(centre, 32), RED);
        assert_eq!(*sheet.get_pixel(centre, 31), WHITE);
    }

    #[test]
    fn an_empty_sheet_is_its_margins() {
        let none: [&str; 0] = [];
        assert_eq!(ContactSheet::new(none).draw().dimensions(), (24, 24));
    }

    #[test]
    #[should_panic(expected = "has 1 columns, found a row of 2 pictures")]
    fn a_row_too_long_is_refused() {
        let _ = ContactSheet::new(["only"]).with_row([of(RED), of(RED)]);
    }
}
