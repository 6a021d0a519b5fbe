//! CIFAR-10 and CIFAR-100 in their binary version (Krizhevsky, Learning Multiple Layers of Features from Tiny
//! Images, 2009).

use std::{
    fs::{self, File},
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use reid_core::{Identity, InputSize, Sample, Splits};

use super::reading::listing;
use crate::{Error, RawImage};

/// The height and width of the images.
const SIZE: InputSize = InputSize::new(32, 32);

/// The number of bytes of an image: three planes of 32 x 32.
const PIXELS: u64 = 3 * 32 * 32;

/// A dataset in the binary version.
struct Release {
    /// The name, for reports.
    layout: &'static str,
    /// The folder that the archive unpacks to.
    archive: &'static str,
    /// The files of training images.
    train: &'static [&'static str],
    /// The file of test images.
    test: &'static str,
    /// The file of class names.
    names: &'static str,
    /// The number of classes of each label of a record. The last label is the class, and the image follows
    /// it.
    classes: &'static [u8],
}

const RELEASES: [Release; 2] = [
    Release {
        layout: "CIFAR-10, binary version",
        archive: "cifar-10-batches-bin",
        train: &[
            "data_batch_1.bin",
            "data_batch_2.bin",
            "data_batch_3.bin",
            "data_batch_4.bin",
            "data_batch_5.bin",
        ],
        test: "test_batch.bin",
        names: "batches.meta.txt",
        classes: &[10],
    },
    Release {
        layout: "CIFAR-100, binary version, fine labels",
        archive: "cifar-100-binary",
        train: &["train.bin"],
        test: "test.bin",
        names: "fine_label_names.txt",
        classes: &[20, 100],
    },
];

/// Loads CIFAR-10 or CIFAR-100 with fine labels, from the files of their binary version.
///
/// ```text
/// cifar-10-batches-bin/data_batch_1.bin to data_batch_5.bin, test_batch.bin
///     records of 3073 bytes: the label, 0 to 9, and three planes of 32 x 32 bytes
/// cifar-100-binary/train.bin, test.bin
///     records of 3074 bytes: the coarse label, 0 to 19, the fine label, 0 to 99, and the planes
/// ```
///
/// `root` is the folder of these files, or its parent. Identities are the labels plus 1, because 0 is a
/// distractor, so class indices are the labels. The splits have training and test images, and no queries. The
/// images are [`RawImage`]s, which stay in the files. [`Splits::class_names`] are those of `batches.meta.txt`
/// or `fine_label_names.txt`, if there is such a file.
///
/// # Errors
/// - [`Error::MissingFolder`] if `root` has no test file, and [`Error::Io`] if a file cannot be read
/// - [`Error::Record`] with file and byte offset, if a file is empty or ends within a record, and for a label
///   out of range
/// - [`Error::Line`] if the list of class names has another length
///
/// ```
/// use reid_data::{dataset::cifar, open_image};
///
/// # let root = tempfile::tempdir()?;
/// # let record = |label: u8| [&[label][..], &[7; 3072]].concat();
/// # for number in 1..=5 {
/// #     std::fs::write(root.path().join(format!("data_batch_{number}.bin")), record(number))?;
/// # }
/// # std::fs::write(root.path().join("test_batch.bin"), record(2))?;
/// let splits = cifar::load(root.path())?;
/// assert_eq!((splits.train.len(), splits.test.len()), (5, 1));
/// assert_eq!(splits.test[0].identity.label(), 3); // the label is 2
/// assert_eq!(open_image(&splits.test[0].path)?.dimensions(), (32, 32));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load(root: impl AsRef<Path>) -> Result<Splits, Error> {
    let root = root.as_ref();
    let Some((release, folder)) = find(root) else {
        return Err(Error::MissingFolder {
            path: root.join(RELEASES[0].test),
            expected: "a folder with test_batch.bin (CIFAR-10) or test.bin (CIFAR-100)",
        });
    };
    let mut train = Vec::new();
    for file in release.train {
        train.extend(records(&folder.join(file), release)?);
    }
    let test = records(&folder.join(release.test), release)?;
    Ok(Splits::new(listing::name(root))
        .with_train(train)
        .with_test(test)
        .with_class_names(class_names(&folder.join(release.names), release)?)
        .with_layout(release.layout))
}

/// Whether a folder, or a folder in it that an archive unpacks to, has the files of a release.
pub(super) fn is_at(root: &Path) -> bool {
    find(root).is_some()
}

fn find(root: &Path) -> Option<(&'static Release, PathBuf)> {
    RELEASES.iter().find_map(|release| {
        let folder = listing::unpacked(root, release.test, &[release.archive]);
        let [test, train] =
            [release.test, release.train[0]].map(|name| folder.join(name).is_file());
        (test && train).then_some((release, folder))
    })
}

/// Reads the labels of a file of records.
fn records(path: &Path, release: &Release) -> Result<Vec<Sample>, Error> {
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let damaged = |offset, expected: String, found: String| Error::Record {
        path: path.to_owned(),
        offset,
        expected,
        found,
    };
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let labels = release.classes.len() as u64;
    let record = labels + PIXELS;
    if length == 0 || !length.is_multiple_of(record) {
        let (whole, expected) = (
            length - length % record,
            format!("a record of {record} bytes"),
        );
        let found = format!("the end of the file after {length} bytes");
        return Err(damaged(whole, expected, found));
    }
    let mut reader = BufReader::new(file);
    let mut samples = Vec::new();
    for start in (0..length).step_by(usize::try_from(record).expect("3074 at most")) {
        let mut identity = Identity::UNKNOWN;
        for (offset, &classes) in (start..).zip(release.classes) {
            let mut label = [0];
            reader.read_exact(&mut label).map_err(io)?;
            let [label] = label;
            if label >= classes {
                let expected = format!("a label from 0 to {}", classes - 1);
                return Err(damaged(offset, expected, label.to_string()));
            }
            identity = Identity::new(i64::from(label) + 1);
        }
        let image = RawImage {
            file: path.to_owned(),
            offset: start + labels,
            size: SIZE,
        };
        samples.push(Sample::new(image.path(), identity));
        let pixels = i64::try_from(PIXELS).expect("3072");
        reader.seek_relative(pixels).map_err(io)?;
    }
    Ok(samples)
}

/// The names of the classes, one per line; empty if there is no such file.
fn class_names(path: &Path, release: &Release) -> Result<Vec<String>, Error> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => {
            return Err(Error::Io {
                path: path.to_owned(),
                source,
            });
        }
    };
    let names = text.lines().map(str::trim).filter(|name| !name.is_empty());
    let names: Vec<String> = names.map(str::to_owned).collect();
    let classes = release.classes.last().copied().map(usize::from);
    match classes {
        Some(classes) if names.len() != classes => Err(Error::Line {
            path: path.to_owned(),
            line: text.lines().count() as u64,
            expected: format!("{classes} names of classes, one per line"),
            found: format!("{} names", names.len()),
        }),
        _ => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::{dataset, open_image};

    fn record(labels: &[u8], value: u8) -> Vec<u8> {
        let planes = (0..3).flat_map(|plane| vec![value + plane; 1024]);
        labels.iter().copied().chain(planes).collect()
    }

    /// Two training images per file of CIFAR-10, and one test image.
    fn cifar_10() -> TempDir {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("cifar-10-batches-bin");
        fs::create_dir(&folder).unwrap();
        for number in 0..5 {
            let records = [record(&[number], 10 * number), record(&[9 - number], 100)];
            let path = folder.join(format!("data_batch_{}.bin", number + 1));
            fs::write(path, records.concat()).unwrap();
        }
        fs::write(folder.join("test_batch.bin"), record(&[9], 200)).unwrap();
        root
    }

    #[test]
    fn records_are_samples_whose_images_stay_in_the_file() {
        let root = cifar_10();
        for root in [
            root.path().to_owned(),
            root.path().join("cifar-10-batches-bin"),
        ] {
            let splits = load(&root).unwrap();
            let labels: Vec<i64> = splits
                .train
                .iter()
                .map(|one| one.identity.label())
                .collect();
            assert_eq!(labels, [1, 10, 2, 9, 3, 8, 4, 7, 5, 6]);
            assert!(splits.query.is_empty() && splits.gallery.is_empty());
            let image = open_image(&splits.train[2].path).unwrap();
            assert!(image.pixels().all(|pixel| pixel.0 == [10, 11, 12]));
            let image = open_image(&splits.train[3].path).unwrap();
            assert!(image.pixels().all(|pixel| pixel.0 == [100, 101, 102]));
            assert!(splits.test[0].path.ends_with("test_batch.bin/32x32@1"));
            assert_eq!(splits, dataset::load(&root).unwrap());
        }
    }

    #[test]
    fn fine_labels_follow_coarse_ones() {
        let root = tempfile::tempdir().unwrap();
        let train = [record(&[3, 99], 1), record(&[19, 0], 5)].concat();
        fs::write(root.path().join("train.bin"), train).unwrap();
        fs::write(root.path().join("test.bin"), record(&[0, 7], 9)).unwrap();
        let splits = dataset::load(root.path()).unwrap();
        assert_eq!(splits.layout, "CIFAR-100, binary version, fine labels");
        let labels: Vec<i64> = splits
            .train
            .iter()
            .map(|one| one.identity.label())
            .collect();
        assert_eq!(labels, [100, 1]);
        let image = open_image(&splits.train[1].path).unwrap();
        assert!(image.pixels().all(|pixel| pixel.0 == [5, 6, 7]));
        assert_eq!(splits.class_names, [""; 0]);
    }

    #[test]
    fn damaged_files_are_reported_with_their_offset() {
        let root = cifar_10();
        let path = root.path().join("cifar-10-batches-bin/data_batch_3.bin");
        let good = fs::read(&path).unwrap();
        let error = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            load(root.path()).expect_err("damaged").to_string()
        };
        let end = "data_batch_3.bin: byte 3073: expected a record of 3073 bytes, \
                   found the end of the file after 5000 bytes";
        assert!(error(&good[..5000]).ends_with(end));
        let empty =
            "byte 0: expected a record of 3073 bytes, found the end of the file after 0 bytes";
        assert!(error(&[]).ends_with(empty));
        let mut other = good.clone();
        other[3073] = 10;
        let label = "data_batch_3.bin: byte 3073: expected a label from 0 to 9, found 10";
        assert!(error(&other).ends_with(label));
        fs::remove_file(&path).unwrap();
        assert!(matches!(load(root.path()), Err(Error::Io { .. })));
    }

    #[test]
    fn names_of_classes_are_read_and_counted() {
        let root = cifar_10();
        let path = root.path().join("cifar-10-batches-bin/batches.meta.txt");
        let names: Vec<String> = (0..10).map(|number| format!("kind {number}")).collect();
        fs::write(&path, names.join("\n") + "\n\n").unwrap();
        assert_eq!(load(root.path()).unwrap().class_names, names);
        fs::write(&path, names[..9].join("\r\n")).unwrap();
        let error = load(root.path()).expect_err("nine").to_string();
        let expected = "line 9: expected 10 names of classes, one per line, found `9 names`";
        assert!(error.ends_with(expected), "{error}");
    }

    #[test]
    fn a_folder_without_a_release_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let error = load(root.path()).expect_err("empty").to_string();
        assert!(
            error.contains("expected a folder with test_batch.bin (CIFAR-10)"),
            "{error}"
        );
    }
}
