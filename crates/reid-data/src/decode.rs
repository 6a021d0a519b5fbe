//! Decode: an image file as RGB of one size.

use std::{fs, io::Cursor, path::Path};

use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage,
    error::{DecodingError, ImageFormatHint},
};
use reid_core::InputSize;

use crate::{Error, resize::resize};

/// Reads an image file as RGB of the given size.
///
/// The format is told from the content, not from the name. The turn that a camera noted in EXIF is
/// carried out. Grey, 1-bit, 16-bit and CMYK images become RGB; transparency is dropped. Resizing
/// is Pillow's antialiased bilinear filter on 8 bits and does not keep the aspect ratio, as in the
/// published pipelines.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::Image`] if it is no image or a truncated one.
///
/// ```
/// use reid_core::InputSize;
/// use reid_data::decode;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("grey.png");
/// image::GrayImage::from_pixel(40, 90, image::Luma([7])).save(&path)?;
///
/// let image = decode(&path, InputSize::PERSON)?;
/// assert_eq!((image.height(), image.width()), (256, 128));
/// assert!(image.pixels().all(|pixel| pixel.0 == [7, 7, 7]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn decode(path: impl AsRef<Path>, size: InputSize) -> Result<RgbImage, Error> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(|source| Error::Io {
        path: path.to_owned(),
        source,
    })?;
    let image = whole_image(&bytes).map_err(|source| Error::Image {
        path: path.to_owned(),
        source,
    })?;
    Ok(resize(&image, size))
}

/// The image in these bytes, at its own size.
fn whole_image(bytes: &[u8]) -> Result<RgbImage, ImageError> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    if reader.format() == Some(ImageFormat::Jpeg) && !jpeg_is_complete(bytes) {
        let reason = "the file ends before the image does";
        let format = ImageFormatHint::Exact(ImageFormat::Jpeg);
        return Err(ImageError::Decoding(DecodingError::new(format, reason)));
    }
    let mut decoder = reader.into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

/// Whether an end-of-image marker follows the first scan; decoders paint a truncated JPEG grey from
/// where it breaks off, and say nothing.
///
/// Segments before the scan are stepped over by their length, for a thumbnail in one of them has an
/// end marker of its own. Compressed data cannot contain one.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    const SCAN: u8 = 0xda;
    const END: [u8; 2] = [0xff, 0xd9];

    let mut rest = bytes.get(2..).unwrap_or_default();
    loop {
        match *rest {
            [0xff, 0xff, ..] => rest = &rest[1..], // padding before a marker
            [0xff, SCAN, ..] => return rest.windows(2).any(|pair| pair == END),
            [0xff, _, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([high, low]));
                match rest.get(2 + length..) {
                    Some(after) => rest = after,
                    None => return false,
                }
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use image::{ImageEncoder, Luma, Rgb, RgbaImage, codecs::jpeg::JpegEncoder};
    use tempfile::TempDir;

    use super::*;

    const SIZE: InputSize = InputSize::new(2, 2);

    fn file(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    /// Left half black, right half white.
    fn halves(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |column, _| {
            Rgb([if column < width / 2 { 0 } else { 255 }; 3])
        })
    }

    fn encoded(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn image_error(name: &str, bytes: &[u8]) -> String {
        let (_folder, path) = file(name, bytes);
        match decode(&path, SIZE) {
            Err(error @ Error::Image { .. }) => {
                let message = error.to_string();
                assert!(message.contains(name), "{message}");
                message
            }
            other => panic!("expected an image error, found {other:?}"),
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = decode("no/such.jpg", SIZE).expect_err("there is none");
        assert!(matches!(error, Error::Io { .. }));
        assert!(error.to_string().starts_with("no/such.jpg: "), "{error}");
    }

    #[test]
    fn what_is_no_image_is_named() {
        image_error("a.jpg", b"not an image at all");
        image_error("b.png", b"");
        image_error("c.jpg", &[0xff, 0xd8, 0xff]);
    }

    #[test]
    fn truncated_images_are_named_wherever_they_break_off() {
        let noisy = RgbImage::from_fn(64, 64, |c, r| {
            Rgb([c * r, 3 * c, 3 * r].map(|v| v.to_le_bytes()[0]))
        });
        for (name, format) in [("a.jpg", ImageFormat::Jpeg), ("a.png", ImageFormat::Png)] {
            let bytes = encoded(&noisy, format);
            for percent in [1, 10, 30, 50, 80, 95, 99] {
                image_error(name, &bytes[..bytes.len() * percent / 100]);
            }
        }
        let jpeg = encoded(&noisy, ImageFormat::Jpeg);
        let message = image_error("b.jpg", &jpeg[..jpeg.len() - 1]);
        assert!(message.contains("ends before the image does"), "{message}");
    }

    #[test]
    fn the_content_decides_not_the_name() {
        let (_folder, path) = file("png.jpg", &encoded(&halves(2, 2), ImageFormat::Png));
        assert_eq!(decode(path, SIZE).unwrap(), halves(2, 2));
    }

    /// Bytes from their hexadecimal digits.
    fn bytes(digits: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(byte).collect()
    }

    #[test]
    fn one_bit_images_become_rgb() {
        // Image.frombytes("1", (2, 2), bytes([0b01000000, 0b10000000])).save("bit.png"), Pillow
        let png = "89504e470d0a1a0a0000000d49484452000000020000000201000000005acd3089\
                   0000000c49444154789c6370607200000108008318868bce0000000049454e44ae426082";
        let (_folder, path) = file("bit.png", &bytes(png));
        let image = decode(path, SIZE).unwrap();
        let pixels: Vec<[u8; 3]> = image.pixels().map(|pixel| pixel.0).collect();
        assert_eq!(pixels, [[0; 3], [255; 3], [255; 3], [0; 3]]);
    }

    #[test]
    fn cmyk_images_become_rgb() {
        // Image.new("CMYK", (2, 2), (10, 60, 120, 30)).save("cmyk.jpg", quality=50, optimize=True)
        // Pillow's .convert("RGB") has (218, 174, 121) everywhere; JPEG decoders differ by a few.
        let jpeg = "ffd8ffee000e41646f626500640000000000ffdb004300100b0c0e0c0a100e0d0e1211\
                    101318281a181616183123251d283a333d3c3933383740485c4e404457453738506d51\
                    575f626768673e4d71797064785c656763ffc000140800020002044311004d11005911\
                    004b1100ffc4001500010100000000000000000000000000000603ffc4001410010000\
                    0000000000000000000000000000ffda000e0443004d0059004b00003f007644a18bff\
                    d9";
        let (_folder, path) = file("cmyk.jpg", &bytes(jpeg));
        for pixel in decode(path, SIZE).unwrap().pixels() {
            let close = |(&found, expected): (&u8, u8)| found.abs_diff(expected) <= 3;
            assert!(pixel.0.iter().zip([218, 174, 121]).all(close), "{pixel:?}");
        }
    }

    #[test]
    fn transparency_is_dropped() {
        let clear = RgbaImage::from_pixel(3, 3, image::Rgba([10, 20, 30, 0]));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clear.png");
        clear.save(&path).unwrap();
        let image = decode(path, SIZE).unwrap();
        assert!(image.pixels().all(|pixel| pixel.0 == [10, 20, 30]));
    }

    #[test]
    fn sixteen_bits_become_eight() {
        let deep = image::ImageBuffer::from_pixel(2, 2, Luma([0x80_80_u16]));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep.png");
        DynamicImage::ImageLuma16(deep).save(&path).unwrap();
        let image = decode(path, SIZE).unwrap();
        assert!(image.pixels().all(|pixel| pixel.0 == [0x80; 3]));
    }

    #[test]
    fn the_turn_in_exif_is_carried_out() {
        // A TIFF header, one entry: tag 0x0112 (orientation), type 3 (short), count 1, value 6:
        // the camera was turned, so the picture needs a quarter turn clockwise.
        let exif: [u8; 26] = [
            b'I', b'I', 42, 0, 8, 0, 0, 0, // little endian, entries at byte 8
            1, 0, 0x12, 0x01, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, // one entry
            0, 0, 0, 0,
        ];
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 100);
        encoder.set_exif_metadata(exif.to_vec()).unwrap();
        encoder.encode_image(&halves(32, 16)).unwrap();
        let (_folder, path) = file("turned.jpg", &bytes);
        let image = decode(path, InputSize::new(32, 16)).unwrap();
        // Left was black: a quarter turn clockwise brings it to the top.
        assert!(image.get_pixel(8, 2).0[0] < 10);
        assert!(image.get_pixel(8, 29).0[0] > 245);
    }
}
