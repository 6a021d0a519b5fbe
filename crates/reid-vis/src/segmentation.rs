//! Segmentation overlay: the class of every pixel, blended over the image, with a legend.

use image::{Rgb, RgbImage};

use crate::{
    canvas::{Align, Area, Canvas, INK, TEXT_HEIGHT, text_width},
    mix::mix,
};

/// Side of the colour patches of the legend, in pixels.
const PATCH: usize = TEXT_HEIGHT;
/// Space around the entries of the legend, in pixels.
const GAP: usize = 6;

/// The names and colours of classes.
///
/// ```
/// use reid_vis::Palette;
///
/// let palette = Palette::new([("road", [128, 64, 128]), ("car", [0, 0, 142])]);
/// assert_eq!(palette.names(), ["road", "car"]);
/// assert_eq!(Palette::distinct(["road", "car"]).names(), ["road", "car"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Palette {
    classes: Vec<(String, Rgb<u8>)>,
}

/// Colours that are easy to tell apart, also with red-green colour blindness (Okabe and Ito, 2008), and
/// darker ones for further classes.
const DISTINCT: [[u8; 3]; 16] = [
    [230, 159, 0],
    [86, 180, 233],
    [0, 158, 115],
    [240, 228, 66],
    [0, 114, 178],
    [213, 94, 0],
    [204, 121, 167],
    [120, 120, 120],
    [115, 80, 0],
    [43, 90, 117],
    [0, 79, 58],
    [120, 114, 33],
    [0, 57, 89],
    [107, 47, 0],
    [102, 61, 84],
    [40, 40, 40],
];

impl Palette {
    /// The colours of the 19 classes of Cityscapes.
    #[must_use]
    pub fn cityscapes() -> Self {
        Self::new([
            ("road", [128, 64, 128]),
            ("sidewalk", [244, 35, 232]),
            ("building", [70, 70, 70]),
            ("wall", [102, 102, 156]),
            ("fence", [190, 153, 153]),
            ("pole", [153, 153, 153]),
            ("traffic light", [250, 170, 30]),
            ("traffic sign", [220, 220, 0]),
            ("vegetation", [107, 142, 35]),
            ("terrain", [152, 251, 152]),
            ("sky", [70, 130, 180]),
            ("person", [220, 20, 60]),
            ("rider", [255, 0, 0]),
            ("car", [0, 0, 142]),
            ("truck", [0, 0, 70]),
            ("bus", [0, 60, 100]),
            ("train", [0, 80, 100]),
            ("motorcycle", [0, 0, 230]),
            ("bicycle", [119, 11, 32]),
        ])
    }

    /// Names and colours, which are red, green and blue from 0 to 255, in the order of the classes.
    #[must_use]
    pub fn new<Name: Into<String>>(classes: impl IntoIterator<Item = (Name, [u8; 3])>) -> Self {
        let classes = classes.into_iter();
        Self {
            classes: classes
                .map(|(name, colour)| (name.into(), Rgb(colour)))
                .collect(),
        }
    }

    /// Names with colours that are easy to tell apart. They repeat after 16 classes.
    #[must_use]
    pub fn distinct<Name: Into<String>>(names: impl IntoIterator<Item = Name>) -> Self {
        Self::new(names.into_iter().zip(DISTINCT.into_iter().cycle()))
    }

    /// The names of the classes.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.classes.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The colour of a class; `None` for labels beyond the classes, such as 255.
    fn colour(&self, label: u8) -> Option<Rgb<u8>> {
        let class = self.classes.get(usize::from(label));
        class.map(|(_, colour)| *colour)
    }
}

/// Blends the colour of each pixel's class over the image. Pixels without a class, such as those with the
/// label 255, show the image.
///
/// ```
/// use reid_vis::{Palette, RgbImage, SegmentationOverlay};
///
/// let palette = Palette::new([("road", [128, 64, 128]), ("car", [0, 0, 142])]);
/// let overlay = SegmentationOverlay::new(palette).with_opacity(1.0);
/// let picture = overlay.draw(&RgbImage::new(2, 1), &[1, 255]);
/// assert_eq!(picture.get_pixel(0, 0).0, [0, 0, 142]);
/// assert_eq!(picture.get_pixel(1, 0).0, [0, 0, 0]);
/// assert!(overlay.legend().width() > 50);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentationOverlay {
    palette: Palette,
    opacity: f32,
}

impl SegmentationOverlay {
    /// An overlay with opacity 0.6.
    #[must_use]
    pub const fn new(palette: Palette) -> Self {
        Self {
            palette,
            opacity: 0.6,
        }
    }

    /// Sets the opacity of the colours: 0 shows only the image, 1 only the colours. Default: 0.6.
    ///
    /// # Panics
    /// If `opacity` is outside 0..=1.
    #[must_use]
    pub fn with_opacity(self, opacity: f32) -> Self {
        assert!(
            (0.0..=1.0).contains(&opacity),
            "the opacity must be from 0 to 1, found {opacity}"
        );
        Self { opacity, ..self }
    }

    /// Draws the classes of all pixels, `[height, width]` row by row, over the image. The result has the size of the
    /// image.
    ///
    /// # Panics
    /// If there is not one label per pixel.
    #[must_use]
    pub fn draw(&self, image: &RgbImage, labels: &[u8]) -> RgbImage {
        let (width, height) = image.dimensions();
        let pixels = width as usize * height as usize;
        assert_eq!(
            labels.len(),
            pixels,
            "an image of {height}x{width} pixels needs {pixels} labels, found {}",
            labels.len()
        );
        let mut picture = image.clone();
        for (pixel, &label) in picture.pixels_mut().zip(labels) {
            if let Some(colour) = self.palette.colour(label) {
                *pixel = mix(*pixel, colour, self.opacity);
            }
        }
        picture
    }

    /// Draws the legend: a patch of colour and the name of each class, one below the other.
    #[must_use]
    pub fn legend(&self) -> RgbImage {
        let names = self.palette.names();
        let widest = names.iter().map(|name| text_width(name)).max().unwrap_or(0);
        let line = TEXT_HEIGHT + GAP;
        let mut canvas = Canvas::white(PATCH + widest + 3 * GAP, line * names.len() + GAP);
        for (index, (name, colour)) in self.palette.classes.iter().enumerate() {
            let top = GAP + line * index;
            let area = Area {
                left: GAP,
                top,
                width: PATCH,
                height: PATCH,
            };
            canvas.paste(&RgbImage::from_pixel(1, 1, *colour), area);
            canvas.text(name, (PATCH + 2 * GAP, top), Align::Left, INK);
        }
        canvas.into_picture()
    }

    /// Appends the legend to the right of a picture, such as an overlay or a contact sheet of overlays.
    #[must_use]
    pub fn with_legend(&self, picture: &RgbImage) -> RgbImage {
        let legend = self.legend();
        let [[left, height], [width, lines]] =
            [picture, &legend].map(|of| [of.width() as usize, of.height() as usize]);
        let mut canvas = Canvas::white(left + width, height.max(lines));
        for (picture, left, [width, height]) in [
            (picture, 0, [left, height]),
            (&legend, left, [width, lines]),
        ] {
            let area = Area {
                left,
                top: 0,
                width,
                height,
            };
            canvas.paste(picture, area);
        }
        canvas.into_picture()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_opacity_mixes_image_and_class() {
        let palette = Palette::new([("a", [200, 0, 100])]);
        let image = RgbImage::from_pixel(2, 1, Rgb([100; 3]));
        let overlay = SegmentationOverlay::new(palette).with_opacity(0.5);
        let picture = overlay.draw(&image, &[0, 1]);
        assert_eq!(picture.get_pixel(0, 0).0, [150, 50, 100]);
        assert_eq!(picture.get_pixel(1, 0).0, [100; 3]);
    }

    #[test]
    fn the_legend_has_a_patch_and_a_line_per_class() {
        let palette = Palette::cityscapes();
        assert_eq!(palette.names().len(), 19);
        let legend = SegmentationOverlay::new(palette.clone()).legend();
        let line = u32::try_from(TEXT_HEIGHT + GAP).expect("a small number");
        let gap = u32::try_from(GAP).expect("a small number");
        assert_eq!(legend.height(), 19 * line + gap);
        for (index, (_, colour)) in (0..).zip(&palette.classes) {
            assert_eq!(legend.get_pixel(gap + 2, gap + line * index + 2), colour);
        }
        let picture = RgbImage::from_pixel(5, 3, Rgb([9; 3]));
        let both = SegmentationOverlay::new(palette).with_legend(&picture);
        assert_eq!(both.dimensions(), (5 + legend.width(), legend.height()));
        assert_eq!(both.get_pixel(4, 2).0, [9; 3]);
        assert_eq!(both.get_pixel(5 + gap + 2, gap + 2).0, [128, 64, 128]);
        let empty = SegmentationOverlay::new(Palette::distinct(Vec::<String>::new()));
        assert_eq!(empty.legend().height(), gap);
    }

    #[test]
    #[should_panic(expected = "an image of 1x2 pixels needs 2 labels, found 3")]
    fn another_number_of_labels_panics() {
        let overlay = SegmentationOverlay::new(Palette::cityscapes());
        let _ = overlay.draw(&RgbImage::new(2, 1), &[0; 3]);
    }
}
