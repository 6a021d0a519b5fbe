//! The cache of decoded and resized images.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use image::RgbImage;
use reid_core::InputSize;

use crate::{Error, decode, transform::Picture};

/// A cache of decoded images at one size, stored with 8 bits per channel.
///
/// Images are never evicted: an epoch loads each image about once, so no eviction rule would do better.
#[derive(Debug)]
pub(super) struct Pictures {
    size: InputSize,
    room: usize,
    kept: RwLock<HashMap<PathBuf, Arc<RgbImage>>>,
}

impl Pictures {
    /// Creates a cache for as many images as fit into this many bytes.
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

    /// Loads an image from the cache or from disk.
    pub(super) fn get(&self, path: &Path) -> Result<Picture, Error> {
        // No lock is held while an image is decoded, so a map is consistent even if its lock is poisoned.
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
    fn images_that_fit_the_cache_are_decoded_once_and_others_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a.png", "b.png"].map(|name| folder.path().join(name));
        for path in &paths {
            RgbImage::from_pixel(4, 4, image::Rgb([255; 3]))
                .save(path)
                .unwrap();
        }
        // A 2x2 image has 12 bytes, so 23 bytes are enough for one image.
        let pictures = Pictures::new(InputSize::new(2, 2), 23);
        for path in &paths {
            assert_eq!(pictures.get(path).unwrap().values, [1.0; 12]);
            fs::remove_file(path).unwrap();
        }
        assert_eq!(pictures.get(&paths[0]).unwrap().values, [1.0; 12]);
        assert!(matches!(pictures.get(&paths[1]), Err(Error::Io { .. })));
    }
}
