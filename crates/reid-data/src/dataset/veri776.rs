//! `VeRi-776` (Liu et al., ECCV 2016): vehicles seen by 20 cameras, with the labels in the file names, and
//! tracks.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use reid_core::{Camera, Identity, Sample, Splits};

use super::reading::{digits, listing, three_folders::ThreeFolders, tracks};
use crate::Error;

/// The folders that the published archives unpack to.
const ARCHIVES: [&str; 2] = ["VeRi", "VeRi_with_plate"];
/// The file of the gallery tracks.
const TRACKS: &str = "test_track.txt";
const FOLDERS: ThreeFolders = ThreeFolders {
    train: "image_train",
    query: "image_query",
    gallery: "image_test",
    layout: "the VeRi-776 layout: image_train, image_query and image_test",
    name: "0001_c001_00016450_0.jpg (identity, camera, frame, number)",
    parse,
};

/// Loads `VeRi-776`.
///
/// ```text
/// root/image_train/0001_c001_00016450_0.jpg     training
/// root/image_query/0002_c002_00030600_0.jpg     query
/// root/image_test/0002_c002_00030600_0.jpg      gallery, which includes the queries
/// root/test_track.txt                           tracks of the gallery; optional
///
/// VVVV_cCCC_FFFFFFFF_N.jpg: vehicle V, camera C, frame F, number N
/// ```
///
/// Each line of `test_track.txt` names the images of one track, separated by spaces, optionally after the
/// name of the track. The track number is the line number, from 1. A query has the track of its copy in the
/// gallery. Training images, and images that no line names, have no track.
///
/// Vehicles and cameras are parsed from the file names, as in other toolkits. `train_label.xml`,
/// `test_label.xml` and the lists of names add no vehicle or camera and are not read. `jk_index.txt` is not
/// needed: it lists the images of the query's vehicle from the query's camera, which the Market-1501
/// protocol ignores.
///
/// `root` may also be the folder that contains `VeRi`. Samples are in the order of their file names. The
/// dataset is named after its folder.
///
/// | published | vehicles | images |
/// |---|---|---|
/// | training | 576 | 37,778 |
/// | query | 200 | 1,678 |
/// | gallery | 200 | 11,579 |
///
/// # Errors
/// - [`Error::MissingFolder`] and [`Error::EmptySplit`] if a folder is missing or has no images.
/// - [`Error::FileName`] if the name of an image is invalid, and [`Error::NotUnicode`] if it is not Unicode.
/// - [`Error::Entry`] for a broken symbolic link and for an identity with two spellings.
/// - [`Error::Line`] if a track names an image that does not exist or is in another track.
/// - [`Error::OneIdentity`] if the training split has only one identity.
/// - [`Error::Io`] if a file or folder cannot be read.
///
/// ```
/// use reid_core::{Camera, Track};
/// use reid_data::dataset::veri776;
///
/// # let root = tempfile::tempdir()?;
/// for (folder, name) in [
///     ("image_train", "0001_c001_00016450_0.jpg"),
///     ("image_train", "0003_c017_00016450_0.jpg"),
///     ("image_query", "0002_c002_00030600_0.jpg"),
///     ("image_test", "0002_c002_00030600_0.jpg"),
///     ("image_test", "0002_c003_00084280_0.jpg"),
/// ] {
///     std::fs::create_dir_all(root.path().join(folder))?;
///     std::fs::write(root.path().join(folder).join(name), "")?;
/// }
/// std::fs::write(
///     root.path().join("test_track.txt"),
///     "0002_c002_00030600_0.jpg \n0002_c003_00084280_0.jpg \n",
/// )?;
/// let splits = veri776::load(root.path())?;
/// assert_eq!(splits.gallery[1].camera, Some(Camera::new(3)));
/// assert_eq!(splits.gallery[1].track, Some(Track::new(2)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load(root: impl AsRef<Path>) -> Result<Splits, Error> {
    let root = unpacked(root.as_ref());
    let mut splits = FOLDERS.load(&root)?;
    let list = root.join(TRACKS);
    if !list.exists() {
        return Ok(splits);
    }
    let name = |sample: &Sample| listing::file_name(&sample.path).to_owned();
    let images: HashSet<String> = splits.gallery.iter().map(name).collect();
    let tracks = tracks::read(&list, &images, |field| {
        let (stem, _) = field.rsplit_once('.')?;
        parse(stem).is_some().then(|| field.to_owned())
    })?;
    for sample in splits.query.iter_mut().chain(&mut splits.gallery) {
        sample.track = tracks.get(&name(sample)).copied();
    }
    Ok(splits)
}

/// Whether `root` contains the training folder of this layout.
pub(super) fn is_at(root: &Path) -> bool {
    unpacked(root).join(FOLDERS.train).exists()
}

fn unpacked(root: &Path) -> PathBuf {
    listing::unpacked(root, FOLDERS.train, &ARCHIVES)
}

/// Parses the vehicle and the camera of `VVVV_cCCC_FFFFFFFF_N`.
fn parse(stem: &str) -> Option<(Identity, Camera)> {
    let mut fields = stem.split('_');
    let identity = Identity::new(digits::number(fields.next()?)?);
    let camera = digits::camera(fields.next()?)?;
    digits::number::<u64>(fields.next()?)?; // frame
    digits::number::<u64>(fields.next()?)?; // number
    fields.next().is_none().then_some((identity, camera))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::dataset::testing::{published, tree};

    fn set(tracks: &str) -> TempDir {
        let root = tree::with_files(&[
            "VeRi/image_train/0003_c017_00016450_0.jpg",
            "VeRi/image_train/0001_c001_00016450_0.jpg",
            "VeRi/image_query/0002_c003_00084280_0.jpg",
            "VeRi/image_test/0002_c002_00030600_0.jpg",
            "VeRi/image_test/0002_c002_00030605_1.jpg",
            "VeRi/image_test/0002_c003_00084280_0.jpg",
            "VeRi/image_test/0005_c020_00084280_0.jpg",
        ]);
        tree::write(root.path(), "VeRi/test_track.txt", tracks);
        root
    }

    const TRACKS: &str = "0002_c002_00030600.jpg 0002_c002_00030600_0.jpg 0002_c002_00030605_1.jpg \n\
                          0002_c003_00084280_0.jpg \n";

    #[test]
    fn labels_are_parsed_from_names_and_tracks_from_lines() {
        let root = set(TRACKS);
        let splits = load(root.path()).unwrap();
        assert_eq!(splits.name, "VeRi");
        assert_eq!(tree::labels(&splits.train), [(1, 1), (3, 17)]);
        assert_eq!(tree::labels(&splits.query), [(2, 3)]);
        assert_eq!(
            tree::labels(&splits.gallery),
            [(2, 2), (2, 2), (2, 3), (5, 20)]
        );
        assert_eq!(tree::tracks(&splits.train), [0, 0]);
        assert_eq!(tree::tracks(&splits.query), [2]);
        assert_eq!(tree::tracks(&splits.gallery), [1, 1, 2, 0]);
    }

    #[test]
    fn the_track_file_is_optional() {
        let root = set("");
        let splits = load(root.path()).unwrap();
        std::fs::remove_file(root.path().join("VeRi/test_track.txt")).unwrap();
        assert_eq!(load(root.path()).unwrap(), splits);
        assert_eq!(tree::tracks(&splits.gallery), [0; 4]);
    }

    #[test]
    fn bad_tracks_are_reported_with_their_line() {
        for (line, expected) in [
            (
                "0002_c002_00030600_0.jpg",
                "line 3: expected an image that is not already in the track of line 1, \
                 found `0002_c002_00030600_0.jpg`",
            ),
            (
                "0009_c002_00030600_0.jpg",
                "line 3: expected an image that exists, found `0009_c002_00030600_0.jpg`",
            ),
        ] {
            let message = load(set(&format!("{TRACKS}{line}")).path())
                .expect_err(line)
                .to_string();
            assert!(message.ends_with(expected), "{message}");
        }
    }

    #[test]
    fn a_truncated_track_file_is_read_or_rejected() {
        let root = set(TRACKS);
        for end in 0..TRACKS.len() {
            tree::write(root.path(), "VeRi/test_track.txt", &TRACKS[..end]);
            drop(load(root.path()));
        }
    }

    #[test]
    fn an_invalid_file_name_is_reported() {
        let root = set(TRACKS);
        tree::write(root.path(), "VeRi/image_query/0005_c2_f0046985.jpg", "");
        let message = load(root.path()).expect_err("an invalid name").to_string();
        assert!(message.contains("f0046985.jpg: expected a name such as 0001_c001_00016450_0.jpg"));
    }

    #[test]
    fn file_names_are_parsed_strictly() {
        let read = |stem| parse(stem).map(|(who, camera)| (who.label(), camera.number()));
        assert_eq!(read("0776_c020_00000001_12"), Some((776, 20)));
        for stem in [
            "",
            "0001",
            "-1_c001_00016450_0",
            "0001_001_00016450_0",
            "0001_c_00016450_0",
            "0001_c001_00016450",
            "0001_c001_00016450_",
            "0001_c001_0001645x_0",
            "0001_c001_00016450_0_1",
            "0001_c1s1_000001_00",
            "99999999999999999999_c001_00016450_0",
        ] {
            assert_eq!(read(stem), None, "{stem}");
        }
    }

    #[test]
    #[ignore = "needs the dataset: set REID_VERI776 to its folder"]
    fn published_counts() {
        let counts = [(576, 37_778), (200, 1_678), (200, 11_579)];
        published::assert_counts("REID_VERI776", |root| load(root), counts);
    }
}
