//! Market-1501 (Zheng et al., ICCV 2015) and datasets in its layout: three folders, with the labels in the
//! file names.

use std::path::{Path, PathBuf};

use reid_core::{Camera, Identity, Splits};

use super::reading::{digits, listing, three_folders::ThreeFolders};
use crate::Error;

/// The folder that the published archive unpacks to.
const ARCHIVE: &str = "Market-1501-v15.09.15";
pub(super) const FOLDERS: ThreeFolders = ThreeFolders::market(
    "the Market-1501 layout: bounding_box_train, query and bounding_box_test",
    "0002_c1s1_000451_03.jpg (identity, camera and sequence, frame, box)",
    parse,
);

/// Loads a dataset in the Market-1501 layout.
///
/// ```text
/// root/bounding_box_train/0002_c1s1_000451_03.jpg     training
/// root/query/0001_c1s1_001051_00.jpg                  query
/// root/bounding_box_test/0001_c2s1_000301_01.jpg      gallery
///
/// PPPP_cCsS_FFFFFF_BB.jpg: identity P, camera C, sequence S, frame F, box B
/// ```
///
/// `root` may also be the folder that contains `Market-1501-v15.09.15`. Images are recognised by their
/// extensions ([`file_kind`](crate::file_kind)). Images in formats that are not supported, other files and
/// folders are skipped and counted in [`Splits::notices`].
///
/// Identity `-1` is junk and is skipped in every split. Distractors, `0000`, stay in the gallery ([the rule
/// for identities](super#identities)). Samples are in the order of their file names. The dataset is named
/// after its folder.
///
/// | published | identities | images |
/// |---|---|---|
/// | training | 751 | 12,936 |
/// | query | 750 | 3,368 |
/// | gallery, without 3,819 junk images | 751, including the distractors as one identity | 15,913 |
///
/// # Errors
/// - [`Error::MissingFolder`] and [`Error::EmptySplit`] if a folder is missing or has no images.
/// - [`Error::FileName`] if the name of an image is invalid, and [`Error::NotUnicode`] if it is not Unicode.
/// - [`Error::Entry`] for a broken symbolic link and for an identity with two spellings.
/// - [`Error::OneIdentity`] if the training split has only one identity.
/// - [`Error::Io`] if a file or folder cannot be read.
///
/// ```
/// use reid_core::{Camera, Identity};
/// use reid_data::dataset::market1501;
///
/// # let root = tempfile::tempdir()?;
/// for (folder, name) in [
///     ("bounding_box_train", "0002_c1s1_000451_03.jpg"),
///     ("bounding_box_train", "0007_c3s2_000451_01.jpg"),
///     ("query", "0001_c1s1_001051_00.jpg"),
///     ("bounding_box_test", "-1_c1s1_000401_03.jpg"),
///     ("bounding_box_test", "0000_c2s1_000301_01.jpg"),
/// ] {
///     std::fs::create_dir_all(root.path().join(folder))?;
///     std::fs::write(root.path().join(folder).join(name), "")?;
/// }
/// let splits = market1501::load(root.path())?;
/// assert_eq!(splits.train[1].identity, Identity::new(7));
/// assert_eq!(splits.train[1].camera, Some(Camera::new(3)));
/// assert_eq!(splits.gallery.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load(root: impl AsRef<Path>) -> Result<Splits, Error> {
    FOLDERS.load(&unpacked(root.as_ref()))
}

/// The folder that contains the three folders.
pub(super) fn unpacked(root: &Path) -> PathBuf {
    listing::unpacked(root, FOLDERS.train, &[ARCHIVE])
}

/// Parses the identity and the camera of `PPPP_cCsS_FFFFFF_BB`.
fn parse(stem: &str) -> Option<(Identity, Camera)> {
    let mut fields = stem.split('_');
    let identity = match fields.next()? {
        "-1" => Identity::JUNK,
        label => Identity::new(digits::number(label)?),
    };
    let (camera, sequence) = fields.next()?.split_once('s')?;
    let camera = digits::camera(camera)?;
    digits::number::<u64>(sequence)?;
    digits::number::<u64>(fields.next()?)?; // frame
    digits::number::<u64>(fields.next()?)?; // box
    fields.next().is_none().then_some((identity, camera))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use reid_core::{Sample, Split};
    use tempfile::TempDir;

    use super::*;
    use crate::dataset::testing::published;

    const FILES: [&str; 8] = [
        "bounding_box_train/0007_c3s2_000451_01.JPG",
        "bounding_box_train/0002_c1s1_000451_03.jpg",
        "bounding_box_train/-1_c1s1_000451_03.jpg",
        "bounding_box_train/Thumbs.db",
        "query/0001_c12s1_001051_00.png",
        "bounding_box_test/0000_c1s1_000401_03.jpg",
        "bounding_box_test/-1_c1s1_000401_03.jpg",
        "bounding_box_test/0001_c2s1_000301_01.jpg",
    ];

    fn set(files: &[&str]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), files);
        root
    }

    fn write(root: &Path, files: &[&str]) {
        for file in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
    }

    fn labels(samples: &[Sample]) -> Vec<(i64, u32)> {
        let label = |s: &Sample| (s.identity.label(), s.camera.unwrap().number());
        samples.iter().map(label).collect()
    }

    #[test]
    fn junk_is_skipped_distractors_are_kept_and_names_are_sorted() {
        let root = set(&FILES);
        let splits = load(root.path()).unwrap();
        assert_eq!(labels(&splits.train), [(2, 1), (7, 3)]);
        assert_eq!(labels(&splits.query), [(1, 12)]);
        assert_eq!(labels(&splits.gallery), [(0, 1), (1, 2)]);
        assert!(splits.train[0].path.ends_with(FILES[1]));
        assert!(splits.has_cameras());
    }

    #[test]
    fn the_parent_of_the_archive_folder_is_accepted() {
        let root = tempfile::tempdir().unwrap();
        write(&root.path().join(ARCHIVE), &FILES);
        let splits = load(root.path()).unwrap();
        assert_eq!((splits.name.as_str(), splits.train.len()), (ARCHIVE, 2));
        assert_eq!(splits, load(root.path().join(ARCHIVE)).unwrap());
    }

    #[test]
    fn a_missing_folder_is_reported() {
        let error = load("no/such").expect_err("no such folder");
        assert!(matches!(error, Error::MissingFolder { .. }));
        assert!(
            error.to_string().contains("no/such/bounding_box_train"),
            "{error}"
        );

        let root = set(&FILES[..5]);
        let error = load(root.path()).expect_err("there is no gallery");
        assert!(
            error
                .to_string()
                .contains("bounding_box_test: no such folder"),
            "{error}"
        );
    }

    #[test]
    fn a_split_that_is_empty_or_all_junk_is_reported() {
        let root = set(&FILES);
        fs::remove_file(root.path().join(FILES[4])).unwrap();
        write(
            root.path(),
            &["query/-1_c1s1_000401_03.jpg", "query/notes.txt"],
        );
        match load(root.path()) {
            Err(Error::EmptySplit { split, path, .. }) => {
                assert_eq!((split, path), (Split::Query, root.path().join("query")));
            }
            other => panic!("expected an empty query, found {other:?}"),
        }
    }

    #[test]
    fn an_invalid_file_name_is_reported() {
        let root = set(&FILES);
        write(root.path(), &["query/0005_c2_f0046985.jpg"]);
        let message = load(root.path()).expect_err("an invalid name").to_string();
        assert!(message.contains("0005_c2_f0046985.jpg: expected a name such as 0002_c1s1"));
    }

    #[test]
    fn a_training_split_with_one_identity_is_rejected() {
        let root = set(&FILES);
        fs::remove_file(root.path().join(FILES[0])).unwrap();
        let error = load(root.path()).expect_err("only identity 2 is left");
        assert!(matches!(error, Error::OneIdentity { identity, .. } if identity.label() == 2));
    }

    #[test]
    fn file_names_are_parsed_strictly() {
        let read = |stem| parse(stem).map(|(who, camera)| (who.label(), camera.number()));
        assert_eq!(read("1501_c6s4_000001_00"), Some((1501, 6)));
        assert_eq!(read("-1_c6s4_000001_00"), Some((-1, 6)));
        for stem in [
            "",
            "0001",
            "-2_c1s1_000001_00",
            "+1_c1s1_000001_00",
            "_c1s1_000001_00",
            "0001_1s1_000001_00",
            "0001_c1_000001_00",
            "0001_cs1_000001_00",
            "0001_c-1s1_000001_00",
            "0001_c1s1_00000x_00",
            "0001_c1s1_000001",
            "0001_c1s1_000001_00_1",
            "0001_c4294967296s1_000001_00",
            "99999999999999999999_c1s1_000001_00",
            "٣_c1s1_000001_00",
        ] {
            assert_eq!(read(stem), None, "{stem}");
        }
    }

    #[test]
    #[ignore = "needs the dataset: set REID_MARKET1501 to its folder"]
    fn published_counts() {
        let counts = [(751, 12_936), (750, 3_368), (751, 15_913)];
        published::assert_counts("REID_MARKET1501", |root| load(root), counts);
    }
}
