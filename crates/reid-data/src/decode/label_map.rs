//! Label maps: images whose grey values are labels, which may not be converted.

use std::{
    fs,
    io::{BufRead, BufReader, Cursor, Seek},
    path::Path,
};

use image::{
    DynamicImage, ExtendedColorType, GrayImage, ImageDecoder, ImageFormat, metadata::Orientation,
};

use super::{check_file, content, open_start, pixels, refusal::Refusal, unreadable};
use crate::Error;

/// The offset of the bit depth in a PNG file.
const PNG_DEPTH: usize = 24;

/// Reads an image file of 8-bit grey values as they are: the labels of a dataset for segmentation.
///
/// PNG, TIFF and BMP files are supported, because lossy compression would change labels. The EXIF orientation
/// is applied, as to the image that the labels belong to.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("labels.png");
/// image::GrayImage::from_raw(2, 1, vec![7, 255]).expect("two pixels").save(&path)?;
/// assert_eq!(reid_data::open_label_map(&path)?.into_raw(), [7, 255]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Those of [`open_image`](crate::open_image), and [`Error::ImageFormat`] if the file has another format or
/// colour type, such as RGB or a palette.
pub fn open_label_map(path: impl AsRef<Path>) -> Result<GrayImage, Error> {
    let path = path.as_ref();
    check_file(path)?;
    let bytes = fs::read(path).map_err(|source| unreadable(path, source))?;
    read(&bytes).map_err(|refusal| refused(path, refusal))
}

/// Reads the width and height of a label map from the header of its file, and checks the format.
///
/// # Errors
/// Those of [`open_label_map`], except for problems after the header.
pub(crate) fn label_map_dimensions(path: &Path) -> Result<(u32, u32), Error> {
    let (mut file, start) = open_start(path)?;
    file.rewind().map_err(|source| unreadable(path, source))?;
    let decoder = decoder(BufReader::new(file), &start);
    let (decoder, orientation) = decoder.map_err(|refusal| refused(path, refusal))?;
    Ok(pixels::oriented(decoder.dimensions(), orientation))
}

fn refused(path: &Path, refusal: Refusal) -> Error {
    match refusal {
        Refusal::Format(found) => Error::ImageFormat {
            path: path.to_owned(),
            expected: "a PNG, TIFF or BMP image of 8-bit grey values, which are labels",
            found,
        },
        other => other.with_path(path),
    }
}

fn read(bytes: &[u8]) -> Result<GrayImage, Refusal> {
    let start = &bytes[..bytes.len().min(content::LENGTH)];
    let (decoder, orientation) = decoder(Cursor::new(bytes), start)?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image.into_luma8())
}

/// Creates a decoder of 8-bit grey values. `start` is the first [`content::LENGTH`] bytes of the file.
fn decoder<'reader, R: BufRead + Seek + 'reader>(
    reader: R,
    start: &[u8],
) -> Result<(impl ImageDecoder + 'reader, Orientation), Refusal> {
    let format = content::format(start).map_err(|found| Refusal::Format(found.to_owned()))?;
    let lossless = [ImageFormat::Png, ImageFormat::Tiff, ImageFormat::Bmp];
    if !lossless.contains(&format) {
        return Err(Refusal::Format(format!("{format:?}")));
    }
    // The decoder would stretch values of fewer bits to 8 bits.
    let depth = start.get(PNG_DEPTH).filter(|_| format == ImageFormat::Png);
    if let Some(depth @ 0..8) = depth {
        return Err(Refusal::Format(format!("values of {depth} bits")));
    }
    let (decoder, orientation) = pixels::decoder(reader, format)?;
    let colours = decoder.original_color_type();
    if colours != ExtendedColorType::L8 {
        return Err(Refusal::Format(format!("colours of the type {colours:?}")));
    }
    Ok((decoder, orientation))
}

#[cfg(test)]
mod tests {
    use image::{Luma, RgbImage};

    use super::*;

    fn error(name: &str, save: impl FnOnce(&Path)) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        save(&path);
        let error = open_label_map(&path).expect_err("no label map").to_string();
        let (file, reason) = error.split_once(": ").expect("a path and a reason");
        assert!(file.ends_with(name), "{error}");
        reason.to_owned()
    }

    #[test]
    fn values_are_not_converted() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("labels.png");
        let labels = GrayImage::from_fn(16, 16, |x, y| Luma([(16 * y + x).to_le_bytes()[0]]));
        labels.save(&path).expect("written");
        assert_eq!(open_label_map(&path).expect("a label map"), labels);
    }

    #[test]
    fn other_colour_types_and_formats_are_rejected() {
        let expected = "expected a PNG, TIFF or BMP image of 8-bit grey values, which are labels";
        let rgb = error("a.png", |path| {
            RgbImage::new(2, 2).save(path).expect("saved");
        });
        assert_eq!(rgb, format!("{expected}, found colours of the type Rgb8"));
        let wide = image::ImageBuffer::<Luma<u16>, Vec<u16>>::new(2, 2);
        let wide = error("b.png", |path| wide.save(path).expect("saved"));
        assert_eq!(wide, format!("{expected}, found colours of the type L16"));
        let bits = error("e.png", |path| {
            GrayImage::new(2, 2).save(path).expect("saved");
            let mut bytes = fs::read(path).expect("read");
            assert_eq!(bytes[PNG_DEPTH], 8);
            bytes[PNG_DEPTH] = 4;
            fs::write(path, bytes).expect("written");
        });
        assert_eq!(bits, format!("{expected}, found values of 4 bits"));
        let lossy = error("c.jpg", |path| {
            GrayImage::new(8, 8).save(path).expect("saved");
        });
        assert_eq!(lossy, format!("{expected}, found Jpeg"));
        let text = error("d.png", |path| fs::write(path, "a label").expect("saved"));
        assert_eq!(text, format!("{expected}, found an unknown format"));
    }
}
