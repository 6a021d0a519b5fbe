//! CityFlow-ReID as published for the AI City Challenge 2020 (Tang et al., CVPR 2019): vehicles seen by 40
//! cameras, with labels in XML, tracks, and a test set without public labels.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use reid_core::{Sample, Seed, Split, Splits, Track};

use super::reading::{
    check, digits, held_out, identities::Spellings, labels, listing, notices::Notices, tracks,
};
use crate::Error;

pub use unlabelled::{Unlabelled, UnlabelledImage, unlabelled};

/// The number of the 333 vehicles that Liu et al. held out for validation, with one query each (*Further
/// Non-local and Channel Attention Networks*, 2020). It is inferred from their image counts.
pub const HELD_OUT: usize = 100;

/// The folders that the published archives unpack to.
const ARCHIVES: [&str; 3] = ["AIC20_ReID", "AIC21_Track2_ReID", "aic19-track2-reid"];
const TRAIN: &str = "image_train";
const LABELS: &str = "train_label.xml";
const LAYOUT: &str =
    "the AIC20_ReID layout: image_train, image_query, image_test and train_label.xml";
const IMAGES: &str = "jpg images with labels in train_label.xml";
const HELD: &str = "at least 1 vehicle to hold out";

/// Loads the labelled part of CityFlow-ReID, with `held_out` of its vehicles for validation.
///
/// ```text
/// root/image_train/000001.jpg      training and validation
/// root/train_label.xml             <Item imageName="000001.jpg" vehicleID="0001" cameraID="c001"/>
/// root/train_track_id.txt          tracks of image_train; optional
/// ```
///
/// The challenge does not publish the labels of its test set, so your own validation needs vehicles of the
/// training set. `held_out` vehicles are drawn with `seed` from those seen by at least two cameras. One
/// random image of each is its query, and its other images are the gallery. With the same seed, a larger
/// `held_out` includes the vehicles of a smaller one.
///
/// [`HELD_OUT`] vehicles give the sizes of Liu et al.: 233 vehicles to train on and 100 queries. They did not
/// publish which vehicles they held out. For a submission, train on all of [`labelled`] and rank
/// [`unlabelled`].
///
/// Each line of `train_track_id.txt`, or of `train_track.txt`, names the images of one track, as `1` or as
/// `000001.jpg`. The track number is the line number, from 1.
///
/// `root` may also be the folder that contains `AIC20_ReID`. Samples are in the order of their file names.
/// The dataset is named after its folder.
///
/// | published | vehicles | images |
/// |---|---|---|
/// | labelled | 333 | 36,935 |
/// | query, without labels | | 1,052 |
/// | gallery, without labels | 333 | 18,290 |
///
/// # Errors
/// As [`labelled`], except that images in unsupported formats are counted in [`Splits::notices`].
/// [`Error::HeldOut`] if fewer vehicles can be held out or fewer than 2 others would remain, and
/// [`Error::EmptySplit`] if `held_out` is 0.
///
/// ```
/// use reid_core::Seed;
/// use reid_data::dataset::aic20;
///
/// # let root = tempfile::tempdir()?;
/// # std::fs::create_dir(root.path().join("image_train"))?;
/// # let mut labels = String::from("<?xml version=\"1.0\" encoding=\"gb2312\"?>\n<TrainingImages>\n");
/// // Vehicles 1 to 3, each with cameras 1 and 2.
/// for image in 1..=6 {
///     let (vehicle, camera) = ((image + 1) / 2, 1 + image % 2);
///     std::fs::write(root.path().join(format!("image_train/{image:06}.jpg")), "")?;
///     labels += &format!(
///         "<Item imageName=\"{image:06}.jpg\" vehicleID=\"{vehicle:04}\" cameraID=\"c{camera:03}\"/>\n",
///     );
/// }
/// # labels += "</TrainingImages>\n";
/// std::fs::write(root.path().join("train_label.xml"), labels)?;
/// let splits = aic20::load(root.path(), 1, Seed::new(0))?;
/// assert_eq!((splits.train.len(), splits.query.len(), splits.gallery.len()), (4, 1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load(root: impl AsRef<Path>, held_out: usize, seed: Seed) -> Result<Splits, Error> {
    let root = unpacked(root.as_ref());
    let mut notices = Notices::default();
    let samples = labelled_in(&root, &mut notices)?;
    let mut splits = held_out::split(samples, held_out, seed, &root.join(LABELS))?
        .with_layout("the AIC20_ReID layout")
        .with_notices(notices.into_vec());
    splits.name = listing::name(&root);
    check::checked(splits, |_| root.join(TRAIN), HELD)
}

/// Loads all labelled images, for example to train the model of a submission.
///
/// # Errors
/// - [`Error::MissingFolder`], [`Error::EmptySplit`], [`Error::Entry`], [`Error::NotUnicode`] and
///   [`Error::Io`].
/// - [`Error::LeftOut`] for images in formats that are not supported.
/// - [`Error::NoLabel`] for an image without a label in `train_label.xml`.
/// - [`Error::Line`] for malformed XML, for an invalid or duplicate label, and for a label of an image that
///   does not exist.
/// - [`Error::Line`] for a track that names an image that does not exist or is in another track.
/// - [`Error::OneIdentity`] if there is only one vehicle.
///
/// ```
/// use reid_core::{Camera, Identity};
/// use reid_data::dataset::aic20;
///
/// # let root = tempfile::tempdir()?;
/// # std::fs::create_dir(root.path().join("image_train"))?;
/// # for image in ["000001.jpg", "000002.jpg"] {
/// #     std::fs::write(root.path().join("image_train").join(image), "")?;
/// # }
/// std::fs::write(
///     root.path().join("train_label.xml"),
///     "<?xml version=\"1.0\" encoding=\"gb2312\"?>
///     <TrainingImages><Items number=\"2\">
///     <Item imageName=\"000001.jpg\" vehicleID=\"0269\" cameraID=\"c026\"/>
///     <Item imageName=\"000002.jpg\" vehicleID=\"0001\" cameraID=\"c034\"/>
///     </Items></TrainingImages>",
/// )?;
/// let samples = aic20::labelled(root.path())?;
/// assert_eq!(samples[0].identity, Identity::new(269));
/// assert_eq!(samples[0].camera, Some(Camera::new(26)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn labelled(root: impl AsRef<Path>) -> Result<Vec<Sample>, Error> {
    let root = unpacked(root.as_ref());
    let mut notices = Notices::default();
    let samples = labelled_in(&root, &mut notices)?;
    notices.refuse_images(&root.join(TRAIN))?;
    Ok(samples)
}

fn labelled_in(root: &Path, notices: &mut Notices) -> Result<Vec<Sample>, Error> {
    let images = Images::in_folder(&root.join(TRAIN), notices)?;
    if images.paths.is_empty() {
        return Err(Error::EmptySplit {
            path: root.join(TRAIN),
            split: Split::Train,
            expected: IMAGES,
        });
    }
    let tracks = images.tracks(root, "train")?;
    let mut spellings = Spellings::default();
    let labels = images.labels(&root.join(LABELS), |item| {
        Ok((item.vehicle(&mut spellings)?, item.camera()?))
    })?;
    let samples: Vec<Sample> = images
        .paths
        .into_iter()
        .zip(labels)
        .map(|(path, (vehicle, camera))| {
            let track = tracks.get(listing::file_name(&path)).copied();
            let mut sample = Sample::new(path, vehicle).with_camera(camera);
            sample.track = track;
            sample
        })
        .collect();
    check::trainable(&samples, || root.join(TRAIN))?;
    Ok(samples)
}

/// Whether this dataset is in `root`. `VeRi-776` has the same folders, but no tracks of training images.
pub(super) fn is_at(root: &Path) -> bool {
    let root = unpacked(root);
    root.join(TRAIN).exists() && track_file(&root, "train").is_some()
}

fn unpacked(root: &Path) -> PathBuf {
    listing::unpacked(root, TRAIN, &ARCHIVES)
}

/// The track file of `name`, if it exists.
fn track_file(root: &Path, name: &str) -> Option<PathBuf> {
    let files = [format!("{name}_track_id.txt"), format!("{name}_track.txt")];
    files
        .map(|file| root.join(file))
        .into_iter()
        .find(|file| file.exists())
}

/// Converts a field of a track file, such as `1`, `000001` or `000001.jpg`, to the name of the image.
fn image(field: &str) -> Option<String> {
    let digits = field.strip_suffix(".jpg").unwrap_or(field);
    let number: u64 = digits::number(digits)?;
    Some(format!("{number:06}.jpg"))
}

/// The images of a folder.
struct Images {
    paths: Vec<PathBuf>,
    names: HashSet<String>,
}

impl Images {
    fn in_folder(folder: &Path, notices: &mut Notices) -> Result<Self, Error> {
        let paths = listing::images(folder, LAYOUT, notices)?;
        let names = paths.iter().map(|path| listing::file_name(path).to_owned());
        let names = names.collect();
        Ok(Self { paths, names })
    }

    /// Reads the tracks by image name; empty if there is no track file.
    fn tracks(&self, root: &Path, name: &str) -> Result<HashMap<String, Track>, Error> {
        match track_file(root, name) {
            Some(list) => tracks::read(&list, &self.names, image),
            None => Ok(HashMap::new()),
        }
    }

    /// Reads the label of each image, in the order of `paths`.
    fn labels<T>(
        &self,
        list: &Path,
        label: impl FnMut(&labels::Item<'_>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let mut labels = labels::read(list, &self.names, label)?;
        let label_of = |path: &PathBuf| {
            labels
                .remove(listing::file_name(path))
                .ok_or_else(|| Error::NoLabel {
                    path: path.clone(),
                    labels: list.to_owned(),
                })
        };
        self.paths.iter().map(label_of).collect()
    }
}

mod unlabelled;

#[cfg(test)]
mod tests {
    use std::{fmt::Write, fs};

    use tempfile::TempDir;

    use super::*;
    use crate::dataset::testing::{published, tree};

    /// Labels of vehicles 1 to 4, each with one image from each of the cameras 1, 2 and 3, in this order.
    fn items() -> Vec<String> {
        let item = |image: u32| {
            let (vehicle, camera) = (image.div_ceil(3), 1 + (image - 1) % 3);
            format!(
                "<Item imageName=\"{image:06}.jpg\" vehicleID=\"{vehicle:04}\" cameraID=\"c{camera:03}\" />"
            )
        };
        (1..=12).map(item).collect()
    }

    fn set(items: &[String], tracks: &str) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        let mut xml =
            String::from("<?xml version=\"1.0\" encoding=\"gb2312\"?>\n<TrainingImages>\n");
        for item in items {
            writeln!(xml, "{item}").unwrap();
        }
        tree::write(
            root.path(),
            "train_label.xml",
            &(xml + "</TrainingImages>\n"),
        );
        tree::write(root.path(), "train_track_id.txt", tracks);
        for image in 1..=12 {
            tree::write(root.path(), &format!("image_train/{image:06}.jpg"), "");
        }
        root
    }

    fn message(root: &TempDir) -> String {
        labelled(root.path())
            .expect_err("something is wrong")
            .to_string()
    }

    #[test]
    fn labels_and_tracks_are_read_from_the_lists() {
        let mut items = items();
        items.reverse();
        let root = set(&items, "3 2 \n1 \n000012.jpg 000011.jpg\n");
        let samples = labelled(root.path()).unwrap();
        assert_eq!(
            tree::labels(&samples)[..4],
            [(1, 1), (1, 2), (1, 3), (2, 1)]
        );
        assert_eq!(tree::tracks(&samples), [2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 3, 3]);
        assert!(samples[11].path.ends_with("image_train/000012.jpg"));
        fs::rename(
            root.path().join("train_track_id.txt"),
            root.path().join("train_track.txt"),
        )
        .unwrap();
        assert_eq!(labelled(root.path()).unwrap(), samples);
    }

    #[test]
    fn vehicles_are_held_out_and_keep_their_tracks() {
        let root = set(&items(), "1 2 3");
        let splits = load(root.path(), 2, Seed::new(1)).unwrap();
        let lengths = [&splits.train, &splits.query, &splits.gallery].map(Vec::len);
        assert_eq!(lengths, [2 * 3, 2, 2 * 2]);
        assert_eq!(splits.name, listing::name(root.path()));
        let all = [&splits.train, &splits.query, &splits.gallery];
        let tracked = all
            .into_iter()
            .flatten()
            .filter(|sample| sample.track.is_some());
        assert_eq!(tracked.count(), 3);
        assert!(is_at(root.path()));
    }

    #[test]
    fn zero_and_too_many_held_out_vehicles_are_rejected() {
        let root = set(&items(), "");
        let error = |held_out| load(root.path(), held_out, Seed::new(1)).expect_err("rejected");
        assert!(matches!(
            error(0),
            Error::EmptySplit {
                split: Split::Query,
                ..
            }
        ));
        assert!(matches!(
            error(3),
            Error::HeldOut {
                expected: 3,
                found: 2,
                ..
            }
        ));
    }

    #[test]
    fn an_image_without_a_label_is_reported() {
        let message = message(&set(&items()[1..], ""));
        assert!(
            message.contains("image_train/000001.jpg: no label, expected one in "),
            "{message}"
        );
        assert!(message.ends_with("train_label.xml"), "{message}");
    }

    #[test]
    fn a_label_without_an_image_is_reported_with_its_line() {
        let root = set(&items(), "");
        fs::remove_file(root.path().join("image_train/000002.jpg")).unwrap();
        let expected = "train_label.xml: line 4: expected an image that exists, found `000002.jpg`";
        assert!(message(&root).ends_with(expected));
    }

    #[test]
    fn a_duplicate_label_is_reported_with_its_line() {
        let mut items = items();
        items.push(items[0].clone());
        let expected = "line 15: expected one label for each image, found `000001.jpg`";
        assert!(message(&set(&items, "")).ends_with(expected));
    }

    #[test]
    fn a_track_of_a_missing_image_and_an_image_in_two_tracks_are_reported() {
        let message_of = |tracks| message(&set(&items(), tracks));
        let expected = "train_track_id.txt: line 2: expected an image that exists, found `13`";
        assert!(message_of("1 2\n3 13").ends_with(expected));
        let expected =
            "line 2: expected an image that is not already in the track of line 1, found `2`";
        assert!(message_of("1 2\n2 3").ends_with(expected));
    }

    #[test]
    fn truncated_lists_are_read_or_rejected() {
        let root = set(&items(), "1 2\n3 4\n");
        let path = root.path().join("train_label.xml");
        let text = fs::read_to_string(&path).unwrap();
        for end in 0..text.trim_end().len() {
            fs::write(&path, &text[..end]).unwrap();
            assert!(labelled(root.path()).is_err(), "{end}");
        }
        fs::write(&path, text).unwrap();
        for end in 0..7 {
            tree::write(root.path(), "train_track_id.txt", &"1 2\n3 4"[..end]);
            drop(labelled(root.path()));
        }
    }

    #[test]
    fn unsupported_images_are_noticed_or_rejected() {
        let root = set(&items(), "");
        tree::write(root.path(), "image_train/000013.heic", "");
        let splits = load(root.path(), 2, Seed::new(1)).unwrap();
        let text = splits.statistics().to_string();
        assert!(text.contains("read as the AIC20_ReID layout"), "{text}");
        assert!(text.contains("skipped HEIC images"), "{text}");
        assert!(message(&root).contains("expected no skipped image, found: skipped HEIC"));
    }

    #[test]
    fn truncated_and_missing_xml_are_reported() {
        let root = set(&items(), "");
        let path = root.path().join("train_label.xml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() - 30]).unwrap();
        assert!(message(&root).contains("train_label.xml: line 14: expected well-formed XML"));
        fs::remove_file(path).unwrap();
        assert!(matches!(labelled(root.path()), Err(Error::Io { .. })));
    }

    #[test]
    fn an_empty_folder_and_a_single_vehicle_are_rejected() {
        let root = set(&[], "");
        fs::remove_dir_all(root.path().join("image_train")).unwrap();
        assert!(message(&root).contains("image_train: no such folder"));
        fs::create_dir(root.path().join("image_train")).unwrap();
        assert!(message(&root).contains("image_train: no images for the train split"));

        let root = set(&[], "");
        let mut same = items();
        for item in &mut same {
            let start = item.find("vehicleID").unwrap();
            item.replace_range(start.., "vehicleID='5' cameraID='c001'/>");
        }
        tree::write(
            root.path(),
            "train_label.xml",
            &format!("<A>{}</A>", same.concat()),
        );
        assert!(message(&root).ends_with("found only identity 5"));
    }

    #[test]
    fn track_files_name_images_with_or_without_zeros_and_extension() {
        for field in ["1", "000001", "000001.jpg", "1.jpg"] {
            assert_eq!(image(field).as_deref(), Some("000001.jpg"), "{field}");
        }
        assert_eq!(image("1234567").as_deref(), Some("1234567.jpg"));
        for field in [
            "",
            ".jpg",
            "+1",
            "-1",
            "1.png",
            "a",
            "٣",
            "99999999999999999999",
        ] {
            assert_eq!(image(field), None, "{field}");
        }
    }

    #[test]
    #[ignore = "needs the dataset: set REID_AIC20 to its folder"]
    fn published_counts() {
        let root = published::folder("REID_AIC20");
        let splits = load(&root, HELD_OUT, Seed::new(0)).unwrap();
        let statistics = splits.statistics();
        let images = [statistics.train, statistics.query, statistics.gallery].map(|of| of.images);
        assert_eq!(images.iter().sum::<usize>(), 36_935);
        assert_eq!(
            (statistics.train.identities, statistics.query.images),
            (233, 100)
        );
        let unlabelled = unlabelled(root).unwrap();
        assert_eq!(
            (unlabelled.query.len(), unlabelled.gallery.len()),
            (1_052, 18_290)
        );
    }
}
