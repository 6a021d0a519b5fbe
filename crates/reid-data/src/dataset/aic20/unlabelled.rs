//! Unlabelled: the challenge's own test, whose labels are kept back.

use std::path::{Path, PathBuf};

use reid_core::{Camera, Identity, Sample, Track};

use super::Images;
use crate::{
    Error,
    dataset::reading::{listing, notices::Notices},
};

/// The images of the challenge's own test, for a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlabelled {
    /// Images that are searched for, in the order of names.
    pub query: Vec<UnlabelledImage>,
    /// Images that are searched in, in the order of names.
    pub gallery: Vec<UnlabelledImage>,
}

/// An image of a vehicle that nobody says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnlabelledImage {
    /// Where the image is.
    pub path: PathBuf,
    /// Which camera took it; `None` where there is no `query_label.xml` or `test_label.xml`.
    pub camera: Option<Camera>,
    /// Which track it is part of; always `None` for queries.
    pub track: Option<Track>,
}

impl UnlabelledImage {
    /// The image as a sample of a made-up identity, because descriptors are made of samples.
    ///
    /// With one identity for all queries and another for the whole gallery, no protocol takes anything
    /// out of a ranking; what a report says about them means nothing.
    ///
    /// ```
    /// use reid_core::{Camera, Identity};
    /// use reid_data::dataset::aic20::UnlabelledImage;
    ///
    /// let camera = Some(Camera::new(1));
    /// let image = UnlabelledImage { path: "image_query/000001.jpg".into(), camera, track: None };
    /// assert_eq!(image.into_sample(Identity::new(1)).camera, camera);
    /// ```
    #[must_use]
    pub fn into_sample(self, identity: Identity) -> Sample {
        let Self {
            path,
            camera,
            track,
        } = self;
        let mut sample = Sample::new(path, identity);
        (sample.camera, sample.track) = (camera, track);
        sample
    }
}

/// Lists the images of the challenge's own test, whose labels are kept back.
///
/// ```text
/// root/image_query/000001.jpg      query
/// root/image_test/000001.jpg       gallery
/// root/test_track_id.txt           tracks of image_test; may be missing
/// root/query_label.xml             cameras, in later years of the challenge; may be missing
/// root/test_label.xml
/// ```
///
/// A submission has a line per query, in the order of names, with the numbers in the names of the 100
/// nearest gallery images.
///
/// # Errors
/// [`Error::MissingFolder`], [`Error::NoImages`], [`Error::LeftOut`] for images that are not read, and [`Error::NoLabel`], [`Error::Line`] and
/// [`Error::Io`] as [`labelled`](super::labelled).
///
/// ```
/// use reid_core::Track;
/// use reid_data::dataset::aic20;
///
/// # let root = tempfile::tempdir()?;
/// for image in ["image_query/000001.jpg", "image_test/000001.jpg", "image_test/000002.jpg"] {
///     let path = root.path().join(image);
///     std::fs::create_dir_all(path.parent().expect("has one"))?;
///     std::fs::write(path, "")?;
/// }
/// std::fs::write(root.path().join("test_track_id.txt"), "2 \n1 \n")?;
/// let unlabelled = aic20::unlabelled(root.path())?;
/// assert_eq!(unlabelled.query.len(), 1);
/// assert_eq!(unlabelled.gallery[0].track, Some(Track::new(2)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn unlabelled(root: impl AsRef<Path>) -> Result<Unlabelled, Error> {
    let root = listing::unpacked(root.as_ref(), "image_test", &super::ARCHIVES);
    let read = |name: &str| -> Result<Vec<UnlabelledImage>, Error> {
        let folder = root.join(format!("image_{name}"));
        let mut notices = Notices::default();
        let images = Images::in_folder(&folder, &mut notices)?;
        notices.refuse_images(&folder)?;
        if images.paths.is_empty() {
            return Err(Error::NoImages {
                path: folder,
                expected: "jpg images",
            });
        }
        let tracks = images.tracks(&root, name)?;
        let labels = root.join(format!("{name}_label.xml"));
        let cameras = if labels.exists() {
            images.labels(&labels, |item| item.camera().map(Some))?
        } else {
            vec![None; images.paths.len()]
        };
        let images = images.paths.into_iter().zip(cameras);
        Ok(images
            .map(|(path, camera)| UnlabelledImage {
                camera,
                track: tracks.get(listing::file_name(&path)).copied(),
                path,
            })
            .collect())
    };
    Ok(Unlabelled {
        query: read("query")?,
        gallery: read("test")?,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::dataset::testing::tree;

    #[test]
    fn the_test_has_cameras_and_tracks_where_they_are_given() {
        let root = tree::of(&[
            "AIC20_ReID/image_query/000002.jpg",
            "AIC20_ReID/image_query/000001.jpg",
            "AIC20_ReID/image_test/000001.jpg",
        ]);
        tree::write(
            root.path(),
            "AIC20_ReID/query_label.xml",
            "<Items><Item imageName='000001.jpg' cameraID='c006'/>\
             <Item imageName='000002.jpg' cameraID='c007'/></Items>",
        );
        let unlabelled = unlabelled(root.path()).unwrap();
        let cameras = |images: &[UnlabelledImage]| -> Vec<_> {
            images
                .iter()
                .map(|image| image.camera.map(Camera::number))
                .collect()
        };
        assert_eq!(cameras(&unlabelled.query), [Some(6), Some(7)]);
        assert_eq!(cameras(&unlabelled.gallery), [None]);
        assert_eq!(unlabelled.gallery[0].track, None);
    }

    #[test]
    fn an_incomplete_test_is_refused() {
        let root = tree::of(&["image_query/000001.jpg"]);
        let message = || unlabelled(root.path()).expect_err("incomplete").to_string();
        assert!(message().contains("image_test: no such folder"));
        fs::create_dir(root.path().join("image_test")).unwrap();
        assert!(message().contains("image_test: no images"));
        tree::write(root.path(), "query_label.xml", "<Items></Items>");
        assert!(message().contains("image_query/000001.jpg: no label"));
    }
}
