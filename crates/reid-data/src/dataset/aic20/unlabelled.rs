//! The test set of the challenge, which has no public labels.

use std::path::{Path, PathBuf};

use reid_core::{Camera, Identity, Sample, Track};

use super::Images;
use crate::{
    Error,
    dataset::reading::{listing, notices::Notices},
};

/// The images of the test set of the challenge, for a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlabelled {
    /// The query images, in the order of their file names.
    pub query: Vec<UnlabelledImage>,
    /// The gallery images, in the order of their file names.
    pub gallery: Vec<UnlabelledImage>,
}

/// An image of a vehicle without a public label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnlabelledImage {
    /// The path of the image.
    pub path: PathBuf,
    /// The camera; `None` if there is no `query_label.xml` or `test_label.xml`.
    pub camera: Option<Camera>,
    /// The track that contains the image; `None` if there is no track file or it does not name the image.
    pub track: Option<Track>,
}

impl UnlabelledImage {
    /// Converts the image to a sample with the given placeholder identity, because embedding needs samples.
    ///
    /// Use one identity for all queries and another one for the whole gallery. Then no protocol ignores any
    /// gallery image, and the ranked lists are complete. Metrics of such samples are meaningless.
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

/// Lists the images of the test set of the challenge, which has no public labels.
///
/// ```text
/// root/image_query/000001.jpg      query
/// root/image_test/000001.jpg       gallery
/// root/test_track_id.txt           tracks of image_test; optional
/// root/query_label.xml             cameras, in later years of the challenge; optional
/// root/test_label.xml              the same for image_test
/// ```
///
/// A submission has one line for each query, in the order of their file names. A line lists the numbers in
/// the file names of the 100 nearest gallery images.
///
/// # Errors
/// [`Error::NoImages`] for a folder without images. [`Error::MissingFolder`], [`Error::LeftOut`],
/// [`Error::NoLabel`], [`Error::Line`], [`Error::Entry`], [`Error::NotUnicode`] and [`Error::Io`] as
/// [`labelled`](super::labelled).
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
    fn cameras_and_tracks_are_optional() {
        let root = tree::with_files(&[
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
    fn an_incomplete_test_set_is_rejected() {
        let root = tree::with_files(&["image_query/000001.jpg"]);
        let message = || unlabelled(root.path()).expect_err("incomplete").to_string();
        assert!(message().contains("image_test: no such folder"));
        fs::create_dir(root.path().join("image_test")).unwrap();
        assert!(message().contains("image_test: no images"));
        tree::write(root.path(), "query_label.xml", "<Items></Items>");
        assert!(message().contains("image_query/000001.jpg: no label"));
    }
}
