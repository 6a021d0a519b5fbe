//! Raw images: uncompressed images inside a larger file, such as those of CIFAR's binary version.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use image::RgbImage;
use reid_core::InputSize;

use super::unreadable;
use crate::Error;

/// The largest height and width, that of the input of a network.
const MAX_SIDE: usize = 8192;

/// An uncompressed image inside a larger file: a plane of red, one of green and one of blue values, each row
/// by row with one byte per value.
///
/// It has a path, which continues after that of the file with height, width and byte offset, such as
/// `data_batch_1.bin/32x32@3074`. [`open_image`](crate::open_image) and all loaders read images by their
/// paths, so they read these too. The path cannot be that of another file, because a file has no entries.
///
/// ```
/// use reid_core::InputSize;
/// use reid_data::{RawImage, open_image};
///
/// # let folder = tempfile::tempdir()?;
/// # let file = folder.path().join("images.bin");
/// std::fs::write(&file, [9, 10, 11, 20, 21, 30, 31])?; // one other byte, then an image of 1 x 2
/// let image = RawImage { file, offset: 1, size: InputSize::new(1, 2) };
/// assert!(image.path().ends_with("images.bin/1x2@1"));
/// let pixels = open_image(image.path())?;
/// assert_eq!(pixels.get_pixel(1, 0).0, [11, 21, 31]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawImage {
    /// The file.
    pub file: PathBuf,
    /// The number of bytes before the image.
    pub offset: u64,
    /// The height and width, from 1 to 8192.
    pub size: InputSize,
}

impl RawImage {
    /// The path of the image.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.file.join(self.name())
    }

    fn name(&self) -> String {
        format!("{}@{}", self.size, self.offset)
    }

    /// Parses the path of a raw image. `None` if its last component has another form, or is not after that of
    /// an existing file.
    #[must_use]
    pub fn from_path(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let (size, offset) = name.split_once('@')?;
        let (height, width) = size.split_once('x')?;
        let side = |text: &str| -> Option<usize> {
            let side = text.parse().ok()?;
            (1..=MAX_SIDE).contains(&side).then_some(side)
        };
        let image = Self {
            file: path.parent()?.to_owned(),
            offset: offset.parse().ok()?,
            size: InputSize::new(side(height)?, side(width)?),
        };
        // Other spellings, such as `+1`, are no paths of images.
        (image.name() == name && image.file.is_file()).then_some(image)
    }

    /// The number of values of a plane.
    const fn plane(&self) -> usize {
        self.size.pixels()
    }

    /// The width and height, if the file has all bytes of the image.
    pub(super) fn dimensions(&self) -> Result<(u32, u32), Error> {
        let metadata = self.file.metadata().map_err(|error| self.io(error))?;
        let end = self.offset.checked_add(3 * self.plane() as u64);
        if end.is_none_or(|end| end > metadata.len()) {
            return Err(self.beyond(metadata.len()));
        }
        let InputSize { height, width } = self.size;
        let side = |side: usize| u32::try_from(side).expect("at most 8192");
        Ok((side(width), side(height)))
    }

    /// Reads the image.
    pub(super) fn read(&self) -> Result<RgbImage, Error> {
        let (width, height) = self.dimensions()?;
        let mut file = File::open(&self.file).map_err(|error| self.io(error))?;
        let mut planes = vec![0; 3 * self.plane()];
        file.seek(SeekFrom::Start(self.offset))
            .and_then(|_| file.read_exact(&mut planes))
            .map_err(|error| self.io(error))?;
        let plane = self.plane();
        let pixel = |at| [0, 1, 2].map(|channel| planes[channel * plane + at]);
        let values = (0..plane).flat_map(pixel).collect();
        Ok(RgbImage::from_raw(width, height, values).expect("3 values per pixel"))
    }

    fn io(&self, source: io::Error) -> Error {
        unreadable(&self.path(), source)
    }

    fn beyond(&self, length: u64) -> Error {
        Error::Record {
            path: self.file.clone(),
            offset: self.offset,
            expected: format!("{} bytes of an image of {}", 3 * self.plane(), self.size),
            found: format!("the end of the file after {length} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{decode, dimensions, open_image};

    const SIZE: InputSize = InputSize::new(3, 2);

    /// A file of one byte, an image of 3 x 2 with the values 0 to 17, and two bytes.
    fn file() -> (tempfile::TempDir, RawImage) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.bin");
        let bytes: Vec<u8> = [99].into_iter().chain(0..18).chain([99; 2]).collect();
        fs::write(&file, bytes).unwrap();
        let offset = 1;
        (
            folder,
            RawImage {
                file,
                offset,
                size: SIZE,
            },
        )
    }

    #[test]
    fn planes_become_pixels_row_by_row() {
        let (_folder, raw) = file();
        let image = open_image(raw.path()).unwrap();
        assert_eq!(dimensions(raw.path()).unwrap(), (2, 3));
        assert_eq!(image.dimensions(), (2, 3));
        for row in 0..3 {
            for column in 0..2 {
                let at = u8::try_from(2 * row + column).unwrap();
                assert_eq!(image.get_pixel(column, row).0, [at, 6 + at, 12 + at]);
            }
        }
        assert_eq!(decode(raw.path(), SIZE).unwrap(), image);
    }

    #[test]
    fn an_image_beyond_the_end_names_file_offset_and_length() {
        let (_folder, raw) = file();
        for offset in [4, 100, u64::MAX] {
            let raw = RawImage {
                offset,
                ..raw.clone()
            };
            for error in [
                open_image(raw.path()).expect_err("too short").to_string(),
                dimensions(raw.path()).expect_err("too short").to_string(),
            ] {
                let expected = format!(
                    "a.bin: byte {offset}: expected 18 bytes of an image of 3x2, found the end of the file \
                     after 21 bytes"
                );
                assert!(error.ends_with(&expected), "{error}");
            }
        }
    }

    #[test]
    fn other_paths_are_not_raw_images() {
        let (_folder, raw) = file();
        assert_eq!(RawImage::from_path(&raw.path()), Some(raw.clone()));
        for name in [
            "3x2@+1",
            "03x2@1",
            "3x2",
            "3@1",
            "0x2@1",
            "8193x2@1",
            "3x2@-1",
            "3x2@1.png",
            "@",
            "x@",
        ] {
            assert_eq!(RawImage::from_path(&raw.file.join(name)), None, "{name}");
        }
        // A folder has entries.
        let folder = raw.file.parent().unwrap();
        assert_eq!(RawImage::from_path(&folder.join("3x2@1")), None);
    }
}
