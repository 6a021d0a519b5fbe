//! `DukeMTMC-reID` (Ristani et al., ECCVW 2016; Zheng et al., ICCV 2017): the folders of Market-1501 with
//! another format of file names.

use std::path::{Path, PathBuf};

use reid_core::{Camera, Identity, Splits};

use super::reading::{digits, listing, three_folders::ThreeFolders};
use crate::Error;

/// The folder that the published archive unpacks to.
const ARCHIVE: &str = "DukeMTMC-reID";
pub(super) const FOLDERS: ThreeFolders = ThreeFolders::market(
    "the DukeMTMC-reID layout: bounding_box_train, query and bounding_box_test",
    "0001_c2_f0046182.jpg (identity, camera, frame)",
    parse,
);

/// Loads `DukeMTMC-reID`.
///
/// ```text
/// root/bounding_box_train/0001_c2_f0046182.jpg     training
/// root/query/0005_c2_f0046985.jpg                  query
/// root/bounding_box_test/0002_c1_f0044158.jpg      gallery
///
/// PPPP_cC_fFFFFFFF.jpg: identity P, camera C, frame F
/// ```
///
/// `root` may also be the folder that contains `DukeMTMC-reID`. Extensions and skipped files are as in
/// [`market1501`](super::market1501::load). There is no junk. The 408 people without a query have their own
/// identities. Samples are in the order of their file names. The dataset is named after its folder.
///
/// | published | identities | images |
/// |---|---|---|
/// | training | 702 | 16,522 |
/// | query | 702 | 2,228 |
/// | gallery | 1,110 | 17,661 |
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
/// use reid_data::dataset::dukemtmc;
///
/// # let root = tempfile::tempdir()?;
/// for (folder, name) in [
///     ("bounding_box_train", "0001_c2_f0046182.jpg"),
///     ("bounding_box_train", "0007_c3_f0046182.jpg"),
///     ("query", "0005_c2_f0046985.jpg"),
///     ("bounding_box_test", "0005_c5_f0051457.jpg"),
/// ] {
///     std::fs::create_dir_all(root.path().join(folder))?;
///     std::fs::write(root.path().join(folder).join(name), "")?;
/// }
/// let splits = dukemtmc::load(root.path())?;
/// assert_eq!(splits.gallery[0].identity, Identity::new(5));
/// assert_eq!(splits.gallery[0].camera, Some(Camera::new(5)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load(root: impl AsRef<Path>) -> Result<Splits, Error> {
    FOLDERS.load(&unpacked(root.as_ref()))
}

/// The folder that contains the three folders.
pub(super) fn unpacked(root: &Path) -> PathBuf {
    listing::unpacked(root, FOLDERS.train, &[ARCHIVE])
}

/// Parses the identity and the camera of `PPPP_cC_fFFFFFFF`.
fn parse(stem: &str) -> Option<(Identity, Camera)> {
    let mut fields = stem.split('_');
    let identity = Identity::new(digits::number(fields.next()?)?);
    let camera = digits::camera(fields.next()?)?;
    digits::number::<u64>(fields.next()?.strip_prefix('f')?)?;
    fields.next().is_none().then_some((identity, camera))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::testing::{published, tree};

    #[test]
    fn the_parent_of_the_archive_folder_is_accepted() {
        let root = tree::with_files(&[
            "DukeMTMC-reID/bounding_box_train/0007_c3_f0046182.jpg",
            "DukeMTMC-reID/bounding_box_train/0001_c2_f0046182.jpg",
            "DukeMTMC-reID/query/0005_c8_f0046985.jpg",
            "DukeMTMC-reID/bounding_box_test/0005_c5_f0051457.jpg",
        ]);
        let splits = load(root.path()).unwrap();
        assert_eq!(splits.name, ARCHIVE);
        assert_eq!(tree::labels(&splits.train), [(1, 2), (7, 3)]);
        assert_eq!(tree::labels(&splits.query), [(5, 8)]);
        assert_eq!(tree::labels(&splits.gallery), [(5, 5)]);
    }

    #[test]
    fn an_invalid_file_name_is_reported() {
        let root = tree::with_files(&["bounding_box_train/0002_c1s1_000451_03.jpg"]);
        let message = load(root.path())
            .expect_err("a name of Market-1501")
            .to_string();
        assert!(message.ends_with(
            "000451_03.jpg: expected a name such as 0001_c2_f0046182.jpg (identity, camera, frame)"
        ));
    }

    #[test]
    fn file_names_are_parsed_strictly() {
        let read = |stem| parse(stem).map(|(who, camera)| (who.label(), camera.number()));
        assert_eq!(read("7140_c8_f0000001"), Some((7140, 8)));
        for stem in [
            "",
            "0001",
            "-1_c2_f0046182",
            "0001_2_f0046182",
            "0001_c_f0046182",
            "0001_c2_0046182",
            "0001_c2_f",
            "0001_c2_f00x6182",
            "0001_c2_f0046182_1",
            "0001_c2s1_f0046182",
            "99999999999999999999_c2_f0046182",
            "٣_c2_f0046182",
        ] {
            assert_eq!(read(stem), None, "{stem}");
        }
    }

    #[test]
    #[ignore = "needs the dataset: set REID_DUKEMTMC to its folder"]
    fn published_counts() {
        let counts = [(702, 16_522), (702, 2_228), (1_110, 17_661)];
        published::assert_counts("REID_DUKEMTMC", |root| load(root), counts);
    }
}
