//! Reading and writing RGB images.

use std::{fs, io::Cursor, path::Path};

use image::{ImageFormat, RgbImage};
use reid_core::write_atomic;

use crate::Error;

/// Reads an image file as RGB, as networks receive it ([`reid_data::open_image`]). The EXIF orientation is
/// applied.
///
/// # Errors
/// If the file cannot be read or decoded ([`Error::Open`]).
pub fn open_picture(path: impl AsRef<Path>) -> Result<RgbImage, Error> {
    Ok(reid_data::open_image(path)?)
}

/// Writes an image in the format of the file's extension: `png`, `jpg` or `bmp`.
///
/// Missing folders are created. The file is written atomically ([`reid_core::write_atomic`]).
///
/// ```
/// use reid_vis::{RgbImage, open_picture, save_picture};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("figures/white.png");
/// let white = RgbImage::from_pixel(2, 1, [255; 3].into());
/// save_picture(&path, &white)?;
/// assert_eq!(open_picture(&path)?, white);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If the extension names no known format or the format cannot hold the image ([`Error::Encode`]), or
/// if the file cannot be written ([`Error::Write`]).
pub fn save_picture(path: impl AsRef<Path>, picture: &RgbImage) -> Result<(), Error> {
    let path = path.as_ref();
    let mut bytes = Cursor::new(Vec::new());
    ImageFormat::from_path(path)
        .and_then(|format| picture.write_to(&mut bytes, format))
        .map_err(|source| Error::Encode {
            path: path.to_owned(),
            height: picture.height(),
            width: picture.width(),
            source,
        })?;
    write_whole(path, bytes.get_ref().as_slice())
}

/// Writes a file atomically and creates its folder if it is missing.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder)
        .and_then(|()| write_atomic(path, bytes))
        .map_err(|source| Error::Write {
            path: path.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use image::{ImageEncoder, codecs::jpeg::JpegEncoder};

    use super::*;

    #[test]
    fn an_error_names_the_missing_file() {
        let error = open_picture("nowhere/a.png").expect_err("no such file");
        assert!(matches!(error, Error::Open { .. }));
        assert!(error.to_string().starts_with("nowhere/a.png: "), "{error}");
    }

    #[test]
    fn a_text_file_is_rejected() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.png");
        fs::write(&path, "not an image").expect("written");
        let error = open_picture(&path).expect_err("a text file");
        assert!(matches!(error, Error::Open { .. }), "{error}");
    }

    #[test]
    fn an_unknown_extension_is_rejected_without_writing_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.tulip");
        let error = save_picture(&path, &RgbImage::new(2, 1)).expect_err("no such format");
        assert!(matches!(error, Error::Encode { .. }), "{error}");
        assert!(error.to_string().contains("an image of 1x2"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 0);
    }

    #[test]
    fn a_failed_rename_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let taken = folder.path().join("taken.png");
        fs::create_dir(&taken).expect("created");
        let error = save_picture(&taken, &RgbImage::new(1, 1)).expect_err("a folder is there");
        assert!(matches!(error, Error::Write { .. }), "{error}");
        assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 1);
    }

    #[test]
    fn a_grey_image_is_read_as_rgb() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("grey.png");
        let grey = image::GrayImage::from_pixel(1, 1, [7].into());
        grey.save(&path).expect("written");
        let rgb = open_picture(&path).expect("read");
        assert_eq!(rgb.get_pixel(0, 0).0, [7, 7, 7]);
    }

    #[test]
    fn exif_orientation_is_applied() {
        // A TIFF header and one entry: tag 0x0112 (orientation), type short, value 6: rotate by 90 degrees
        // clockwise.
        let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 100);
        encoder
            .set_exif_metadata(exif.to_vec())
            .expect("can be set");
        // Left half black, right half white.
        let halves = RgbImage::from_fn(32, 16, |x, _| [if x < 16 { 0 } else { 255 }; 3].into());
        encoder.encode_image(&halves).expect("encoded");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rotated.jpg");
        fs::write(&path, bytes).expect("written");
        let picture = open_picture(&path).expect("read");
        assert_eq!(picture.dimensions(), (16, 32));
        assert!(
            picture.get_pixel(8, 2).0[0] < 10,
            "the left half becomes the top half"
        );
        assert!(picture.get_pixel(8, 29).0[0] > 245);
    }
}
