//! Pictures: decoded and resized images, kept in memory while there is room.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use image::RgbImage;
use reid_core::InputSize;

use crate::{Error, decode, transform::Picture};

/// Decoded and resized images of one size, kept as 8 bits while there is room. The first to come
/// stay: an epoch visits every image about once, so there is no better one to drop.
#[derive(Debug)]
pub(super) struct Pictures {
    size: InputSize,
    room: usize,
    kept: RwLock<HashMap<PathBuf, Arc<RgbImage>>>,
}

impl Pictures {
    /// Room for as many images as fit into this many bytes.
    pub(super) fn new(size: InputSize, bytes: usize) -> Self {
        Self {
            size,
            room: bytes / (3 * size.pixels()),
            kept: RwLock::default(),
        }
    }

    pub(super) fn size(&self) -> InputSize {
        self.size
    }

    /// The image as a picture, from memory or from disk.
    pub(super) fn get(&self, path: &Path) -> Result<Picture, Error> {
        // A thread that panics holds no lock while it decodes, so a poisoned map is a whole one.
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(image) = kept.get(path) {
            let image = Arc::clone(image);
            drop(kept);
            return Ok(Picture::from(&*image));
        }
        let full = kept.len() >= self.room;
        drop(kept);

        let image = decode(path, self.size)?;
        let picture = Picture::from(&image);
        if !full {
            let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < self.room {
                kept.insert(path.to_owned(), Arc::new(image));
            }
        }
        Ok(picture)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_fits_is_decoded_once_and_the_rest_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a.png", "b.png"].map(|name| folder.path().join(name));
        for path in &paths {
            RgbImage::from_pixel(4, 4, image::Rgb([255; 3]))
                .save(path)
                .unwrap();
        }
        // 2x2 images have 12 bytes: 23 are room for one.
        let pictures = Pictures::new(InputSize::new(2, 2), 23);
        for path in &paths {
            assert_eq!(pictures.get(path).unwrap().values, [1.0; 12]);
            fs::remove_file(path).unwrap();
        }
        assert_eq!(pictures.get(&paths[0]).unwrap().values, [1.0; 12]);
        assert!(matches!(pictures.get(&paths[1]), Err(Error::Io { .. })));
    }
}
