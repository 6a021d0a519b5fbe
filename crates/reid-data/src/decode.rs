//! Image decoding: reads an image file as RGB.
//!
//! All images are opened by this module, whether for training, evaluation or figures.

mod content;
mod jpeg;
mod jpeg_pixels;
mod kind;
mod label_map;
mod pixels;
mod raw;
mod refusal;
mod tiff_tags;
mod webp_exif;

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Seek},
    path::Path,
};

use image::{ImageFormat, RgbImage};
use reid_core::InputSize;

pub(crate) use self::label_map::label_map_dimensions;
use self::refusal::Refusal;
pub use self::{
    kind::{FileKind, file_kind},
    label_map::open_label_map,
    raw::RawImage,
};
use crate::{Error, resize::resize};

/// The maximum size of a file, and of the memory for its pixels: 2 GiB.
const MAX_BYTES: u64 = 1 << 31;

/// The maximum memory that a decoder needs per pixel. A progressive JPEG with three channels needs 4 bytes
/// per channel: a coefficient of 2 bytes, and a value of 1 byte both before and after colour conversion.
const BYTES_PER_PIXEL: u64 = 12;

/// The maximum number of pixels of an image: 178,956,970, which fit into 2 GiB during decoding.
///
/// Larger images are rejected, as by Pillow. The check uses the size in the header, before memory for the
/// pixels is allocated.
pub const MAX_PIXELS: u64 = MAX_BYTES / BYTES_PER_PIXEL;

/// The number of bytes of a JPEG in which the frame header is searched for, before the whole file is read.
const JPEG_START: u64 = 1 << 16;

/// Reads an image file as RGB and resizes it to `size`.
///
/// The file is read by [`open_image`] and resized by [`resize`](fn@crate::resize): Pillow's antialiased
/// bilinear filter on 8 bits. As in the published training code, the aspect ratio is not kept.
///
/// # Errors
/// Those of [`open_image`].
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
    open_image(path).map(|image| resize(&image, size))
}

/// Reads an image file as RGB at its original size.
///
/// JPEG, PNG, WebP, TIFF, GIF and BMP files are supported. If a file contains several images, the first is
/// read. The format is detected from the content, not from the file name. The EXIF orientation is applied.
/// Grey, 1-bit, 16-bit and CMYK images are converted to 8-bit RGB, and the alpha channel is dropped.
///
/// The path may also be that of a [`RawImage`], an image inside a larger file.
///
/// # Errors
/// - [`Error::Record`] if a raw image is beyond the end of its file.
/// - [`Error::Io`] if the file cannot be read, is not a regular file, or is larger than 2 GiB.
/// - [`Error::ImageFormat`] if it is not an image, has no pixels, or is in a format or variant that is not
///   supported.
/// - [`Error::ImageSize`] if it declares more than [`MAX_PIXELS`] pixels, or more than fit into memory.
/// - [`Error::Image`] if it is damaged or truncated.
pub fn open_image(path: impl AsRef<Path>) -> Result<RgbImage, Error> {
    let path = path.as_ref();
    if let Some(raw) = RawImage::from_path(path) {
        return raw.read();
    }
    check_file(path)?;
    let bytes = fs::read(path).map_err(|source| unreadable(path, source))?;
    image_from_bytes(&bytes, path)
}

/// Reads an image as [`open_image`] does, from the content of a file. `path` is used only in error messages.
///
/// # Errors
/// Those of [`open_image`], except [`Error::Io`].
pub fn image_from_bytes(bytes: &[u8], path: impl AsRef<Path>) -> Result<RgbImage, Error> {
    pixels::read(bytes).map_err(|refusal| refusal.with_path(path.as_ref()))
}

/// Reads the width and height of an image from the file's header, without decoding the pixels.
///
/// The EXIF orientation is applied, so these are the dimensions of the image that [`open_image`] returns.
/// Only the header is checked. Damaged pixel data and some unsupported JPEG variants are found only by
/// decoding.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("wide.png");
/// image::RgbImage::new(40, 30).save(&path)?;
/// assert_eq!(reid_data::dimensions(&path)?, (40, 30));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Those of [`open_image`], except for problems after the header.
pub fn dimensions(path: impl AsRef<Path>) -> Result<(u32, u32), Error> {
    let path = path.as_ref();
    if let Some(raw) = RawImage::from_path(path) {
        return raw.dimensions();
    }
    let in_file = |source| unreadable(path, source);
    let (mut file, mut start) = open_start(path)?;
    let refused = |refusal: Refusal| refusal.with_path(path);
    let format =
        content::format(&start).map_err(|found| refused(Refusal::Format(found.to_owned())))?;
    if format == ImageFormat::Jpeg {
        file.by_ref()
            .take(JPEG_START)
            .read_to_end(&mut start)
            .map_err(in_file)?;
        let found = jpeg_pixels::dimensions(&start);
        if found.is_ok() {
            return found.map_err(refused);
        }
        file.read_to_end(&mut start).map_err(in_file)?;
        return jpeg_pixels::dimensions(&start).map_err(refused);
    }
    file.rewind().map_err(in_file)?;
    pixels::dimensions(BufReader::new(file), format).map_err(refused)
}

/// Opens an image file, and reads the first bytes, which show its format.
fn open_start(path: &Path) -> Result<(File, Vec<u8>), Error> {
    check_file(path)?;
    let in_file = |source| unreadable(path, source);
    let mut file = File::open(path).map_err(in_file)?;
    let mut start = Vec::new();
    let length = content::LENGTH as u64;
    let first = file.by_ref().take(length).read_to_end(&mut start);
    first.map_err(in_file)?;
    Ok((file, start))
}

/// Rejects anything but a regular file, because a device may never end, and a file that is too large.
fn check_file(path: &Path) -> Result<(), Error> {
    let metadata = fs::metadata(path).map_err(|source| unreadable(path, source))?;
    let reason = if !metadata.is_file() {
        "expected an image file, found a folder or a device".to_owned()
    } else if metadata.len() > MAX_BYTES {
        format!(
            "expected an image file of at most {MAX_BYTES} bytes, found {}",
            metadata.len()
        )
    } else {
        return Ok(());
    };
    let source = io::Error::new(io::ErrorKind::InvalidInput, reason);
    Err(unreadable(path, source))
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use image::{DynamicImage, ImageEncoder, Luma, Rgb, RgbaImage, codecs::jpeg::JpegEncoder};
    use std::io::Cursor;
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
            Err(error @ (Error::Image { .. } | Error::ImageFormat { .. })) => {
                let message = error.to_string();
                assert!(message.contains(name), "{message}");
                message
            }
            other => panic!("expected an image error, found {other:?}"),
        }
    }

    #[test]
    fn the_error_of_a_missing_file_has_its_path() {
        let error = decode("no/such.jpg", SIZE).expect_err("no such file");
        assert!(matches!(error, Error::Io { .. }));
        assert!(error.to_string().starts_with("no/such.jpg: "), "{error}");
    }

    #[test]
    fn the_error_of_a_file_that_is_not_an_image_has_its_path() {
        image_error("a.jpg", b"not an image at all");
        image_error("b.png", b"");
        image_error("c.jpg", &[0xff, 0xd8, 0xff]);
    }

    #[test]
    fn the_error_of_a_truncated_image_has_its_path() {
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
    fn the_format_is_detected_from_the_content() {
        let (_folder, path) = file("png.jpg", &encoded(&halves(2, 2), ImageFormat::Png));
        assert_eq!(decode(path, SIZE).unwrap(), halves(2, 2));
    }

    /// Parses hexadecimal digits.
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
        // Pillow's .convert("RGB") gives (218, 174, 121) everywhere; JPEG decoders differ slightly.
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
    fn the_alpha_channel_is_dropped() {
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
    fn the_exif_orientation_is_applied() {
        // A TIFF header with one entry: tag 0x0112 (orientation), type 3 (short), count 1, value 6,
        // which means that the image must be rotated by 90° clockwise.
        let exif: [u8; 26] = [
            b'I', b'I', 42, 0, 8, 0, 0, 0, // little endian, entries at byte 8
            1, 0, 0x12, 0x01, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, // one entry
            0, 0, 0, 0,
        ];
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 100);
        encoder.set_exif_metadata(exif.to_vec()).unwrap();
        encoder.encode_image(&halves(32, 16)).unwrap();
        let (_folder, path) = file("rotated.jpg", &bytes);
        let image = decode(path, InputSize::new(32, 16)).unwrap();
        // The left half was black; after the rotation it is the upper half.
        assert!(image.get_pixel(8, 2).0[0] < 10);
        assert!(image.get_pixel(8, 29).0[0] > 245);
    }
}
