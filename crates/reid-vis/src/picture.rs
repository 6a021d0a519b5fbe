//! Picture: RGB images from and to files.

use std::{fs, io::Cursor, path::Path};

use image::{ImageFormat, RgbImage};
use reid_core::write_atomic;

use crate::Error;

/// Reads a picture as RGB, as networks see it: by [`reid_data::open_image`], with the turn that a camera
/// noted in EXIF carried out.
///
/// # Errors
/// If the file cannot be read or is no picture that is read ([`Error::Open`]).
pub fn open_picture(path: impl AsRef<Path>) -> Result<RgbImage, Error> {
    Ok(reid_data::open_image(path)?)
}

/// Writes a picture in the format of the file's extension: `png`, `jpg` or `bmp`.
///
/// Missing folders are created. The file is complete or not there ([`reid_core::write_atomic`]).
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
/// If the extension names no format or the format cannot hold the picture ([`Error::Encode`]), or
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

/// Writes a file so that it is complete or not there, creating its folder.
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
    fn a_missing_file_is_named() {
        let error = open_picture("nowhere/a.png").expect_err("no such file");
        assert!(matches!(error, Error::Open { .. }));
        assert!(error.to_string().starts_with("nowhere/a.png: "), "{error}");
    }

    #[test]
    fn a_text_is_no_picture() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.png");
        fs::write(&path, "not a picture").expect("written");
        let error = open_picture(&path).expect_err("a text");
        assert!(matches!(error, Error::Open { .. }), "{error}");
    }

    #[test]
    fn an_unknown_extension_is_refused_and_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.tulip");
        let error = save_picture(&path, &RgbImage::new(2, 1)).expect_err("no such format");
        assert!(matches!(error, Error::Encode { .. }), "{error}");
        assert!(error.to_string().contains("a picture of 1x2"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 0);
    }

    #[test]
    fn a_failed_move_leaves_no_draft() {
        let folder = tempfile::tempdir().expect("a folder");
        let taken = folder.path().join("taken.png");
        fs::create_dir(&taken).expect("created");
        let error = save_picture(&taken, &RgbImage::new(1, 1)).expect_err("a folder is there");
        assert!(matches!(error, Error::Write { .. }), "{error}");
        assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 1);
    }

    #[test]
    fn a_grey_picture_is_read_as_rgb() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("grey.png");
        let grey = image::GrayImage::from_pixel(1, 1, [7].into());
        grey.save(&path).expect("written");
        let rgb = open_picture(&path).expect("read");
        assert_eq!(rgb.get_pixel(0, 0).0, [7, 7, 7]);
    }

    #[test]
    fn a_turned_picture_is_opened_upright() {
        // A TIFF header and one entry: tag 0x0112 (orientation), a short, value 6: a quarter turn
        // clockwise is missing.
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
        let path = folder.path().join("turned.jpg");
        fs::write(&path, bytes).expect("written");
        let picture = open_picture(&path).expect("read");
        assert_eq!(picture.dimensions(), (16, 32));
        assert!(
            picture.get_pixel(8, 2).0[0] < 10,
            "the left comes to the top"
        );
        assert!(picture.get_pixel(8, 29).0[0] > 245);
    }
}
