//! CSV: a list of images with their identities and splits.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use ::csv::{ErrorKind, ReaderBuilder, StringRecord, Trim};
use reid_core::{Camera, Split, Splits};

use super::reading::{
    check, listing,
    numbering::{Row, numbered},
};
use crate::Error;

/// The list that is read when a folder is given.
const INDEX: &str = "index.csv";
const EXPECTED: &str = "a line whose split says so";

/// Loads a data set from a CSV list, or from the `index.csv` in a folder.
///
/// ```text
/// path,identity,split,camera
/// images/1.jpg,anna,train,1
/// images/2.jpg,bert,train,2
/// images/3.jpg,carl,query,1
/// images/4.jpg,carl,gallery,2
/// ```
///
/// Columns are told by the header and may stand in any order; others are ignored, and so are spaces
/// around fields.
///
/// | column | meaning |
/// |---|---|
/// | `path` | the image, relative to the folder of the list |
/// | `identity` | an integer or any text |
/// | `split` | `train`, `query` or `gallery` |
/// | `camera` | a number from 0; the column may be missing and so may the number in a line |
///
/// If all identities are integers, these are the labels, and `-1` is junk, which is left out.
/// Otherwise they are numbered from 1 in sorted order, alike in every split. Lines without a camera
/// are samples without one, so a list may name cameras for evaluation and none for training; a
/// protocol that needs cameras asks [`Splits::has_cameras`]. Samples come in the order of lines.
/// The data set is named after the list, or after its folder if the list is called `index.csv`.
///
/// # Errors
/// [`Error::Io`] if the list cannot be read, [`Error::MissingColumn`], [`Error::Line`] with the
/// number of the line for a wrong number of fields, an empty identity, an unknown split, a bad
/// camera and an image that is not there, [`Error::EmptySplit`], and [`Error::OneIdentity`] if
/// training shows only one.
///
/// ```
/// use reid_data::dataset::csv;
///
/// # let root = tempfile::tempdir()?;
/// # for name in ["1.jpg", "2.jpg", "3.jpg", "4.jpg"] {
/// #     std::fs::write(root.path().join(name), "")?;
/// # }
/// std::fs::write(
///     root.path().join("index.csv"),
///     "path,identity,split\n1.jpg,anna,train\n2.jpg,bert,train\n\
///      3.jpg,carl,query\n4.jpg,carl,gallery\n",
/// )?;
/// let splits = csv::load(root.path())?;
/// assert_eq!(splits.statistics().train.identities, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load(index: impl AsRef<Path>) -> Result<Splits, Error> {
    let mut path = index.as_ref().to_owned();
    if path.is_dir() {
        path.push(INDEX);
    }
    let text = fs::read_to_string(&path).map_err(|source| Error::Io {
        path: path.clone(),
        source,
    })?;
    let list = List {
        folder: path.parent().unwrap_or(Path::new("")),
        path: &path,
        text: &text,
    };
    let splits = numbered(list.name(), list.rows()?);
    check::checked(splits, |_| path.clone(), EXPECTED)
}

/// A list that is being read.
struct List<'a> {
    path: &'a Path,
    folder: &'a Path,
    text: &'a str,
}

/// Where the columns stand.
struct Columns {
    path: usize,
    identity: usize,
    split: usize,
    camera: Option<usize>,
}

impl List<'_> {
    fn name(&self) -> String {
        match self.path.file_stem() {
            Some(stem) if !self.path.ends_with(INDEX) => stem.to_string_lossy().into_owned(),
            _ if self.folder.as_os_str().is_empty() => listing::name(Path::new(".")),
            _ => listing::name(self.folder),
        }
    }

    fn rows(&self) -> Result<Vec<Row>, Error> {
        let mut reader = ReaderBuilder::new()
            .trim(Trim::All)
            .from_reader(self.text.as_bytes());
        let columns = self.columns(reader.headers().map_err(|error| self.malformed(&error))?)?;
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|error| self.malformed(&error))?;
            rows.push(self.row(&columns, &record)?);
        }
        Ok(rows)
    }

    fn columns(&self, header: &StringRecord) -> Result<Columns, Error> {
        let find = |column| header.iter().position(|name| name == column);
        let required = |column| {
            find(column).ok_or_else(|| Error::MissingColumn {
                path: self.path.to_owned(),
                column,
                found: header.iter().collect::<Vec<_>>().join(","),
            })
        };
        Ok(Columns {
            path: required("path")?,
            identity: required("identity")?,
            split: required("split")?,
            camera: find("camera"),
        })
    }

    fn row(&self, columns: &Columns, record: &StringRecord) -> Result<Row, Error> {
        let wrong = |expected: &str, found: &str| {
            let start = record.position().map_or(0, ::csv::Position::byte);
            self.line(start, expected, found)
        };
        let split = match &record[columns.split] {
            "train" => Split::Train,
            "query" => Split::Query,
            "gallery" => Split::Gallery,
            other => return Err(wrong("a split: train, query or gallery", other)),
        };
        let identity = record[columns.identity].to_owned();
        if identity.is_empty() {
            return Err(wrong("an identity", ""));
        }
        let camera = match columns.camera.map(|column| &record[column]) {
            None | Some("") => None,
            Some(text) => {
                let number = text.parse();
                Some(Camera::new(number.map_err(|_| {
                    wrong("a camera as a number from 0, or nothing", text)
                })?))
            }
        };
        let path: PathBuf = self.folder.join(&record[columns.path]);
        if !path.is_file() {
            let expected = format!("an image file in `{}`", self.folder.display());
            return Err(wrong(&expected, &record[columns.path]));
        }
        Ok(Row {
            split,
            path,
            identity,
            camera,
        })
    }

    /// What the CSV reader cannot make fields of. The text is UTF-8 and in memory, so only a wrong
    /// number of fields comes up.
    fn malformed(&self, error: &::csv::Error) -> Error {
        let start = error.position().map_or(0, ::csv::Position::byte);
        match error.kind() {
            ErrorKind::UnequalLengths {
                expected_len, len, ..
            } => self.line(start, &format!("{expected_len} fields"), &len.to_string()),
            _ => Error::Io {
                path: self.path.to_owned(),
                source: io::Error::other(error.to_string()),
            },
        }
    }

    /// An error in the line that begins at this byte; the reader's own count is off after `\r\n`
    /// and after empty lines, which it steps over only when it reads on.
    fn line(&self, start: u64, expected: &str, found: &str) -> Error {
        let bytes = self.text.as_bytes();
        let start = usize::try_from(start).unwrap_or(bytes.len());
        let blank = bytes
            .iter()
            .skip(start)
            .take_while(|byte| b"\r\n".contains(byte));
        let before = bytes.iter().take(start + blank.count());
        let line = 1 + before.filter(|&&byte| byte == b'\n').count();
        Error::Line {
            path: self.path.to_owned(),
            line: line as u64,
            expected: expected.to_owned(),
            found: found.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use reid_core::Sample;
    use tempfile::TempDir;

    use super::*;

    /// A folder with the images 1.jpg to 5.jpg and this list.
    fn set(list: &str) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for number in 1..=5 {
            fs::write(root.path().join(format!("{number}.jpg")), "").unwrap();
        }
        fs::write(root.path().join(INDEX), list).unwrap();
        root
    }

    fn message(list: &str) -> String {
        load(set(list).path()).expect_err(list).to_string()
    }

    fn labels(samples: &[Sample]) -> Vec<i64> {
        samples.iter().map(|s| s.identity.label()).collect()
    }

    const GOOD: &str = "path,identity,split\n1.jpg,7,train\n2.jpg,5,train\n\
                        3.jpg,9,query\n4.jpg,9,gallery\n5.jpg,-1,gallery\n";

    #[test]
    fn integers_are_labels_lines_keep_their_order_and_junk_is_out() {
        let root = set(GOOD);
        let splits = load(root.path()).unwrap();
        assert_eq!(labels(&splits.train), [7, 5]);
        assert_eq!(
            (labels(&splits.query), labels(&splits.gallery)),
            (vec![9], vec![9])
        );
        assert_eq!(splits.train[0].path, root.path().join("1.jpg"));
        assert_eq!(splits, load(root.path().join(INDEX)).unwrap());
        assert_eq!(splits.name, listing::name(root.path()));
    }

    #[test]
    fn a_list_of_another_name_names_the_data_set() {
        let root = set("");
        fs::write(root.path().join("fruit.csv"), GOOD).unwrap();
        assert_eq!(load(root.path().join("fruit.csv")).unwrap().name, "fruit");
    }

    #[test]
    fn texts_are_numbered_columns_move_and_cameras_may_be_missing() {
        let root = set(
            "\u{feff}split , note,identity,camera, path\r\ntrain,x,dora,2,1.jpg\r\n\
             train,,anna,, 2.jpg \r\n\r\nquery,\"a, b\",carl,0,3.jpg\r\ngallery,,carl,4,4.jpg",
        );
        let splits = load(root.path()).unwrap();
        assert_eq!(labels(&splits.train), [3, 1]); // anna 1, carl 2, dora 3
        assert_eq!(
            (labels(&splits.query), labels(&splits.gallery)),
            (vec![2], vec![2])
        );
        assert_eq!(splits.train[0].camera, Some(Camera::new(2)));
        assert_eq!(splits.train[1].camera, None);
        assert!(splits.has_cameras());
    }

    #[test]
    fn a_missing_list_is_named() {
        let error = load("no/such.csv").expect_err("there is none");
        assert!(error.to_string().starts_with("no/such.csv: "), "{error}");
    }

    #[test]
    fn a_missing_column_is_named_with_the_header() {
        let message = message("path,person,split\n1.jpg,7,train\n");
        let expected = "line 1: expected a column `identity`, found `path,person,split`";
        assert!(message.ends_with(expected), "{message}");
        assert!(load(set("").path()).is_err());
    }

    #[test]
    fn bad_fields_are_named_with_their_line() {
        for (line, expected) in [
            (
                "1.jpg,7,test,1",
                "expected a split: train, query or gallery, found `test`",
            ),
            ("1.jpg,,train,1", "expected an identity, found ``"),
            (
                "1.jpg,7,train,c1",
                "expected a camera as a number from 0, or nothing, found `c1`",
            ),
            (
                "1.jpg,7,train,-1",
                "expected a camera as a number from 0, or nothing, found `-1`",
            ),
            ("1.jpg,7,train", "expected 4 fields, found `3`"),
            ("1.jpg,7,train,1,2", "expected 4 fields, found `5`"),
            ("none.jpg,7,train,1", "`, found `none.jpg`"),
            (",7,train,1", "`, found ``"),
        ] {
            for end in ["\n", "\r\n"] {
                // A quoted field over two lines, then an empty line: the bad one is line 5.
                let lines = [
                    "path,identity,split,camera",
                    "1.jpg,\"a\nb\",train,1",
                    "",
                    line,
                    "",
                ];
                let message = message(&lines.join(end));
                assert!(message.contains(": line 5: "), "{message}");
                assert!(message.ends_with(expected), "{message}");
            }
        }
    }

    #[test]
    fn an_empty_split_and_one_identity_are_refused() {
        let empty = message("path,identity,split\n1.jpg,7,train\n2.jpg,5,train\n3.jpg,9,query\n");
        assert!(empty.contains("no images for the gallery split"), "{empty}");
        let one = message(
            "path,identity,split\n1.jpg,7,train\n2.jpg,7,train\n3.jpg,9,query\n4.jpg,9,gallery\n",
        );
        assert!(
            one.ends_with("expected at least 2 identities to train on, found only 7"),
            "{one}"
        );
    }
}
