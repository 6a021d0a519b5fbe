//! Any labels, truncated anywhere, and any list of class names are read as CIFAR-10 or rejected. A rejected label
//! or length is reported at its offset, and accepted images have the pixels of their records.
#![no_main]

use std::sync::LazyLock;

use reid_data::{Error, dataset::cifar, open_image};
use reid_fuzz::{Folder, parts};

/// The bytes of a record: a label and three planes of 32 x 32 pixels.
const RECORD: usize = 1 + 3 * 32 * 32;

static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let folder = Folder::with(["batches.meta.txt"]);
    for number in 2..=5 {
        folder.write(format!("data_batch_{number}.bin"), &records(b"\x03"));
    }
    folder
});

/// Records with the labels that these bytes stand for: 1 for label 0, because 0 separates the parts of an input.
/// All pixels of an image have the value of its label.
fn records(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|&byte| [byte.wrapping_sub(1); RECORD]).collect()
}

/// The offset at which a file has to be rejected.
fn rejected_at(file: &[u8]) -> Option<usize> {
    let whole = file.len() - file.len() % RECORD;
    if file.is_empty() || whole < file.len() {
        return Some(whole);
    }
    (0..whole).step_by(RECORD).find(|&start| file[start] >= 10)
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [cut, train, test, names] = parts(bytes);
    let mut train = records(train);
    // The number of bytes that are missing at the end.
    let missing = cut.iter().take(2).fold(0, |sum, &byte| sum * 256 + usize::from(byte));
    train.truncate(train.len() - missing.min(train.len()));
    let test = records(test);
    FOLDER.write("data_batch_1.bin", &train);
    FOLDER.write("test_batch.bin", &test);
    FOLDER.write("batches.meta.txt", names);

    let expected = [&train, &test].into_iter().find_map(|file| rejected_at(file));
    match cifar::load(FOLDER.path()) {
        Ok(splits) => {
            assert_eq!(expected, None);
            assert_eq!(splits.test.len() * RECORD, test.len());
            let count = splits.train.len() - 4;
            assert_eq!(count * RECORD, train.len());
            assert_eq!(splits.class_names.len(), 10);
            for (sample, record) in splits.train.iter().zip(train.chunks(RECORD)) {
                let label = record[0];
                assert_eq!(sample.identity.label(), i64::from(label) + 1);
                let image = open_image(&sample.path).expect("an image of the file");
                assert!(image.as_raw().iter().all(|&value| value == label));
            }
        }
        Err(Error::Record { offset, .. }) => assert_eq!(Some(offset), expected.map(|offset| offset as u64)),
        Err(Error::Line { path, .. }) => {
            assert_eq!(expected, None);
            assert!(path.ends_with("batches.meta.txt"));
        }
        Err(error) => {
            assert_eq!(expected, None);
            assert!(std::str::from_utf8(names).is_err(), "{error}");
        }
    }
});
