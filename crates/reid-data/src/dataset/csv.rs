//! CSV lists of images with their identities, splits, cameras and attributes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use reid_core::{Camera, Notice, Split, Splits};

use super::reading::{
    check, digits,
    identities::{self, Row, is_missing, numbered, without_fraction},
    lines::{self, Location},
    listing,
    named::{Claim, Claims},
    records::{self, Record},
};
use crate::Error;

/// The list that is read when a folder is given.
const INDEX: &str = "index.csv";
const EXPECTED: &str = "a line with this split in the column `split`";
const CAMERA: &str = "a camera number from 0, or an empty field";

/// Loads a dataset from a CSV list, or from the `index.csv` in a folder.
///
/// ```text
/// path,identity,split,camera
/// images/1.jpg,anna,train,1
/// images/2.jpg,bert,train,2
/// images/3.jpg,carl,query,1
/// images/4.jpg,carl,gallery,2
/// ```
///
/// The header names the columns, which may be in any order. Spaces around fields, including quoted ones, are
/// ignored. The list is UTF-8, or UTF-16 with a byte order mark.
///
/// | column | meaning |
/// |---|---|
/// | `path` | the image, relative to the folder of the list |
/// | `identity` | an integer or any text, by [the rule for identities](super#identities) |
/// | `split` | `train`, `query` or `gallery` |
/// | `camera` | an integer from 0, also written as `1.0`; the column may be missing or empty |
/// | any other name | an attribute of this name: any text, or empty if it is unknown |
///
/// Either all query and gallery images have a camera, or none of them. The same holds for the training
/// images. A mixture is an error, so that one missing camera cannot change the protocol of the evaluation.
/// Images are not cropped, so columns that define a bounding box are an error.
///
/// Every other column with a name is an attribute ([`Sample::attributes`](reid_core::Sample)), such as a
/// colour or a viewpoint, and is named in [`Splits::notices`]. Its values are compared as text: `1` and `1.0`
/// are different. An empty field means that the attribute of this image is unknown.
///
/// An image is listed once, or once as a query and once in the gallery with the same identity and camera.
/// Samples are in the order of the lines. The dataset is named after the list, or after its folder if the
/// list is called `index.csv`. File name extensions are case-insensitive.
///
/// # Errors
/// - [`Error::Io`] if the list or an image cannot be read.
/// - [`Error::MissingColumn`] if a required column is missing.
/// - [`Error::Line`], with the line number, for a list that is malformed: another encoding, a quote that is
///   not closed, a wrong number of fields, duplicate column names, or bounding box columns.
/// - [`Error::Line`] for an identity that the rule rejects, an unknown split, and an invalid or missing
///   camera.
/// - [`Error::Line`] for an image that does not exist or is listed twice.
/// - [`Error::EmptySplit`] if a split has no images.
/// - [`Error::OneIdentity`] if the training split has only one identity.
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
///     "path,identity,split,coat\n1.jpg,anna,train,red\n2.jpg,bert,train,\n\
///      3.jpg,carl,query,blue\n4.jpg,carl,gallery,blue\n",
/// )?;
/// let splits = csv::load(root.path())?;
/// assert_eq!(splits.statistics().train.identities, 2);
/// assert_eq!(splits.train[0].attributes["coat"], "red");
/// assert_eq!(splits.train[1].attributes.get("coat"), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load(index: impl AsRef<Path>) -> Result<Splits, Error> {
    let index = index.as_ref();
    let path = if index.is_dir() {
        in_folder(index).unwrap_or_else(|| index.join(INDEX))
    } else {
        index.to_owned()
    };
    let text = lines::exact_text(&path)?;
    let list = List {
        folder: path.parent().unwrap_or(Path::new("")),
        path: &path,
    };
    let mut records = records::parse(&path, &text)?.into_iter();
    let header = records.next().map_or(Vec::new(), |record| record.fields);
    let columns = list.columns(&header)?;
    let rows = list.rows(&columns, header.len(), records)?;
    let splits = numbered(list.name(), &path, rows)?
        .with_layout("a CSV list")
        .with_notices(columns.notices());
    check::checked(splits, |_| path.clone(), EXPECTED)
}

/// Whether a path has the extension of a CSV list.
pub(super) fn is_list(path: &Path) -> bool {
    let extension = path.extension();
    extension.is_some_and(|extension| extension.eq_ignore_ascii_case("csv"))
}

/// The list `index.csv` in a folder, in any case.
pub(super) fn in_folder(folder: &Path) -> Option<PathBuf> {
    let is_index = |path: &PathBuf| {
        let name = path.file_name();
        name.is_some_and(|name| name.eq_ignore_ascii_case(INDEX))
    };
    let entries = fs::read_dir(folder).ok()?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    // If the file system distinguishes case and there are several, the one in lower case is chosen.
    paths.filter(is_index).max()
}

/// The paths of the list that is being read.
struct List<'a> {
    path: &'a Path,
    folder: &'a Path,
}

/// The indices of the columns.
struct Columns {
    path: usize,
    identity: usize,
    split: usize,
    camera: Option<usize>,
    /// All other columns with a name.
    attributes: Vec<(usize, String)>,
}

impl Columns {
    /// A notice that names the attribute columns, so that a misspelled column is visible.
    fn notices(&self) -> Vec<Notice> {
        let names = self.attributes.iter().map(|(_, name)| name);
        let notice = Notice::new("columns read as attributes", names);
        if notice.count == 0 {
            Vec::new()
        } else {
            vec![notice]
        }
    }

    /// The attributes of a line, without the unknown ones.
    fn attributes(&self, fields: &[String]) -> BTreeMap<String, String> {
        let attributes = self.attributes.iter();
        attributes
            .map(|(at, name)| (name.clone(), fields[*at].clone()))
            .filter(|(_, value)| !value.is_empty())
            .collect()
    }
}

impl List<'_> {
    fn name(&self) -> String {
        match self.path.file_stem() {
            Some(stem) if !stem.eq_ignore_ascii_case("index") => {
                stem.to_string_lossy().into_owned()
            }
            _ if self.folder.as_os_str().is_empty() => listing::name(Path::new(".")),
            _ => listing::name(self.folder),
        }
    }

    fn columns(&self, header: &[String]) -> Result<Columns, Error> {
        let first = Location {
            list: self.path,
            line: 1,
        };
        if let Some(boxes) = box_columns(header) {
            let expected = "no bounding box columns: crop the images and list the crops, or remove the \
                            columns if the images are crops already";
            return Err(first.wrong(expected, boxes));
        }
        let find = |column: &str| {
            let mut found = header
                .iter()
                .enumerate()
                .filter(|(_, name)| *name == column);
            let at = found.next().map(|(at, _)| at);
            match found.next() {
                None => Ok(at),
                Some(_) => Err(first.wrong(format!("one column `{column}`"), "two of them")),
            }
        };
        let required = |column: &'static str| {
            find(column)?.ok_or_else(|| Error::MissingColumn {
                path: self.path.to_owned(),
                column,
                found: header.join(","),
            })
        };
        let (path, identity) = (required("path")?, required("identity")?);
        let (split, camera) = (required("split")?, find("camera")?);
        let known = [Some(path), Some(identity), Some(split), camera];
        let mut attributes = Vec::new();
        for (at, name) in header.iter().enumerate() {
            if !known.contains(&Some(at)) && !name.is_empty() {
                find(name)?; // rejects two columns of the same name
                attributes.push((at, name.clone()));
            }
        }
        Ok(Columns {
            path,
            identity,
            split,
            camera,
            attributes,
        })
    }

    fn rows<'a>(
        &self,
        columns: &Columns,
        fields: usize,
        records: impl Iterator<Item = Record<'a>>,
    ) -> Result<Vec<Row>, Error> {
        let (mut rows, mut claims) = (Vec::new(), Claims::default());
        for Record {
            location,
            fields: found,
        } in records
        {
            if found.len() != fields {
                return Err(location.wrong(format!("{fields} fields"), found.len().to_string()));
            }
            let row = self.row(columns, location, &found)?;
            let claim = Claim {
                split: row.split,
                // A label that the rule rejects is reported later, by `numbered`.
                identity: identities::label(&row.identity).unwrap_or_default(),
                camera: row.camera,
            };
            claims.note(location, &row.path, &found[columns.path], claim)?;
            rows.push(row);
        }
        self.all_or_none(&rows, |split| split == Split::Train)?;
        self.all_or_none(&rows, |split| split != Split::Train)?;
        Ok(rows)
    }

    fn row(
        &self,
        columns: &Columns,
        location: Location<'_>,
        fields: &[String],
    ) -> Result<Row, Error> {
        let split = match fields[columns.split].as_str() {
            "train" => Split::Train,
            "query" => Split::Query,
            "gallery" => Split::Gallery,
            other => return Err(location.wrong("a split: train, query or gallery", other)),
        };
        let camera = match columns.camera.map(|column| fields[column].as_str()) {
            None => None,
            Some(text) => camera(text).map_err(|expected| location.wrong(expected, text))?,
        };
        let path = self.folder.join(&fields[columns.path]);
        if !path.is_file() {
            let expected = format!("an image file in `{}`", self.folder.display());
            return Err(location.wrong(expected, &fields[columns.path]));
        }
        Ok(Row {
            split,
            path,
            identity: fields[columns.identity].clone(),
            camera,
            attributes: columns.attributes(fields),
            line: Some(location.line),
        })
    }

    /// Rejects the rows of the selected splits if some have a camera and others do not.
    fn all_or_none(&self, rows: &[Row], selected: impl Fn(Split) -> bool) -> Result<(), Error> {
        let line = |has: bool| {
            let row = rows
                .iter()
                .find(|row| selected(row.split) && row.camera.is_some() == has);
            row.and_then(|row| row.line)
        };
        match (line(true), line(false)) {
            (Some(with), Some(line)) => {
                let list = self.path;
                let expected = format!("a camera, as in line {with}, or no camera in any line");
                Err(Location { list, line }.wrong(expected, ""))
            }
            _ => Ok(()),
        }
    }
}

/// Parses the camera of a field; `None` if it is empty. `Err` is the text of what was expected.
fn camera(text: &str) -> Result<Option<Camera>, &'static str> {
    if is_missing(text) {
        return Ok(None);
    }
    let number = digits::number(without_fraction(text)).ok_or(CAMERA)?;
    Ok(Some(Camera::new(number)))
}

/// The names of bounding box columns: one for the whole box, or one for each of its two axes.
fn box_columns(header: &[String]) -> Option<String> {
    const WHOLE: [&str; 6] = ["bbox", "box", "boundingbox", "roi", "rect", "xywh"];
    const SIDES: [[&str; 7]; 2] = [
        ["x", "x0", "x1", "xmin", "left", "xc", "xcenter"],
        ["y", "y0", "y1", "ymin", "top", "yc", "ycenter"],
    ];
    let plain = |name: &String| {
        let name = name.to_lowercase().replace(['_', '-', ' ', '.'], "");
        let prefixed = ["bbox", "box"].iter().find_map(|prefix| {
            let rest = name.strip_prefix(prefix)?;
            (!rest.is_empty()).then(|| rest.to_owned())
        });
        prefixed.unwrap_or(name)
    };
    let find = |names: &[&str]| {
        header
            .iter()
            .find(|name| names.contains(&plain(name).as_str()))
    };
    match (find(&WHOLE), find(&SIDES[0]), find(&SIDES[1])) {
        (Some(whole), ..) => Some(whole.clone()),
        (None, Some(x), Some(y)) => Some(format!("{x},{y}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use reid_core::Sample;
    use tempfile::TempDir;

    use super::*;

    /// Creates a folder with the images 1.jpg to 5.jpg and this list.
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
    fn integers_are_identities_lines_keep_their_order_and_junk_is_skipped() {
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
    fn the_dataset_is_named_after_a_list_with_another_name() {
        let root = set("");
        fs::write(root.path().join("fruit.csv"), GOOD).unwrap();
        assert_eq!(load(root.path().join("fruit.csv")).unwrap().name, "fruit");
    }

    #[test]
    fn text_is_numbered_columns_are_in_any_order_and_cameras_are_optional() {
        let root = set(
            "\u{feff}split , note,identity,camera, path\r\ntrain,x,dora,,1.jpg\r\n\
             train,,anna,, 2.jpg \r\n\r\nquery,\"a, b\",carl,0,3.jpg\r\ngallery,,carl,4,4.jpg",
        );
        let splits = load(root.path()).unwrap();
        assert_eq!(labels(&splits.train), [3, 1]); // anna 1, carl 2, dora 3
        assert_eq!(
            (labels(&splits.query), labels(&splits.gallery)),
            (vec![2], vec![2])
        );
        assert!(splits.train.iter().all(|sample| sample.camera.is_none()));
        assert_eq!(splits.gallery[0].camera, Some(Camera::new(4)));
        assert_eq!(
            splits.notices[0].to_string(),
            "columns read as attributes: 1 (note)"
        );
        assert_eq!(splits.train[0].attributes["note"], "x");
        assert!(splits.train[1].attributes.is_empty());
        assert_eq!(splits.query[0].attributes["note"], "a, b");
        assert!(splits.has_cameras());
    }

    #[test]
    fn a_missing_list_is_reported_with_its_path() {
        let error = load("no/such.csv").expect_err("no such list");
        assert!(error.to_string().starts_with("no/such.csv: "), "{error}");
    }

    #[test]
    fn a_missing_column_is_reported_with_the_header() {
        let message = message("path,person,split\n1.jpg,7,train\n");
        let expected = "line 1: expected a column `identity`, found `path,person,split`";
        assert!(message.ends_with(expected), "{message}");
        let message = self::message("path;identity;split\n1.jpg;7;train\n");
        let expected = "expected a column `path`, separated by commas, found `path;identity;split`";
        assert!(message.ends_with(expected), "{message}");
        assert!(load(set("").path()).is_err());
    }

    #[test]
    fn bad_fields_are_reported_with_their_line() {
        for (line, expected) in [
            (
                "1.jpg,7,test,1",
                "expected a split: train, query or gallery, found `test`",
            ),
            (
                "1.jpg,7,train,c1",
                "expected a camera number from 0, or an empty field, found `c1`",
            ),
            (
                "1.jpg,7,train,-1",
                "expected a camera number from 0, or an empty field, found `-1`",
            ),
            ("2.jpg,7,train", "expected 4 fields, found `3`"),
            ("1.jpg,7,train,1,2", "expected 4 fields, found `5`"),
            ("none.jpg,7,train,1", "`, found `none.jpg`"),
            (",7,train,1", "`, found ``"),
        ] {
            for end in ["\n", "\r\n"] {
                // A quoted field over two lines and an empty line come first: the bad line is line 5.
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
    fn an_empty_split_and_a_single_identity_are_rejected() {
        let empty = message("path,identity,split\n1.jpg,7,train\n2.jpg,5,train\n3.jpg,9,query\n");
        assert!(empty.contains("no images for the gallery split"), "{empty}");
        let one = message(
            "path,identity,split\n1.jpg,7,train\n2.jpg,7,train\n3.jpg,9,query\n4.jpg,9,gallery\n",
        );
        assert!(
            one.ends_with("expected at least 2 identities to train on, found only identity 7"),
            "{one}"
        );
    }

    /// Loads a list with this header, two good lines and these lines. Returns the training identities or the
    /// error message.
    fn read(header: &str, lines: &str) -> Result<Vec<i64>, String> {
        let list = format!("{header}\n3.jpg,carl,query,1\n4.jpg,carl,gallery,2\n{lines}");
        let splits = load(set(&list).path()).map_err(|error| error.to_string())?;
        Ok(labels(&splits.train))
    }

    const HEADER: &str = "path,identity,split,camera";

    #[test]
    fn labels_as_spreadsheets_and_pandas_write_them_are_one_identity() {
        let train = read(
            HEADER,
            "1.jpg, \"anna\",train,1.0\n2.jpg,bert,train,2\n5.jpg,anna ,train,3",
        );
        assert_eq!(train, Ok(vec![1, 2, 1]));
        let train = read(
            HEADER,
            "1.jpg,\"9\",train,\n2.jpg,9.0,train,nan\n5.jpg,10.0,train,",
        );
        assert_eq!(train, Ok(vec![2, 2, 1])); // in the order of bytes: "10", "9", "carl"
    }

    #[test]
    fn encodings_and_upper_case_extensions_are_read() {
        let root = set(GOOD);
        let expected = load(root.path()).unwrap();
        let index = root.path().join(INDEX);
        let units: Vec<u16> = std::iter::once(0xfeff).chain(GOOD.encode_utf16()).collect();
        for bytes in [
            units.iter().flat_map(|unit| unit.to_le_bytes()).collect(),
            units.iter().flat_map(|unit| unit.to_be_bytes()).collect(),
            format!("\u{feff}{GOOD}").into_bytes(),
        ] {
            fs::write(&index, bytes).unwrap();
            assert_eq!(load(root.path()).unwrap(), expected);
        }
        fs::rename(&index, root.path().join("Index.CSV")).unwrap();
        assert_eq!(load(root.path()).unwrap(), expected);
        assert!(is_list(Path::new("a/LIST.CSV")));

        let bytes = GOOD.replace("9,query", "Andr\u{fffd},query").into_bytes();
        let list = String::from_utf8(bytes).unwrap();
        let (before, after) = list.split_once('\u{fffd}').unwrap();
        fs::write(
            &index,
            [before.as_bytes(), b"\xe9", after.as_bytes()].concat(),
        )
        .unwrap();
        let message = load(&index).expect_err("Windows-1252").to_string();
        assert!(
            message.contains("index.csv: line 4: expected text in UTF-8"),
            "{message}"
        );
    }

    #[test]
    fn one_missing_camera_is_rejected_with_its_line() {
        let trained = "1.jpg,anna,train,\n2.jpg,bert,train,";
        assert_eq!(read(HEADER, trained), Ok(vec![1, 2]));
        for (lines, expected) in [
            (
                format!("{trained}\n5.jpg,dora,gallery,"),
                "index.csv: line 6: expected a camera, as in line 2, or no camera in any line, found ``",
            ),
            (
                "1.jpg,anna,train,\n2.jpg,bert,train,1".to_owned(),
                "index.csv: line 4: expected a camera, as in line 5, or no camera in any line, found ``",
            ),
        ] {
            let message = read(HEADER, &lines).expect_err("mixed");
            assert!(message.ends_with(expected), "{message}");
        }
    }

    #[test]
    fn an_image_that_is_listed_twice_is_rejected_with_both_lines() {
        let trained = "1.jpg,anna,train,1\n2.jpg,bert,train,1\n";
        for (line, expected) in [
            (
                "./1.jpg,dora,train,1",
                "an image of identity `anna`, as line 4 of index.csv says",
            ),
            (
                "1.jpg,anna,train,1",
                "an image that is not already listed in line 4 of index.csv",
            ),
            (
                "1.jpg,anna,gallery,1",
                "an image that is not also in the train split (line 4 of index.csv)",
            ),
            (
                "3.jpg,carl,gallery,2",
                "an image from camera c1, as line 2 of index.csv says",
            ),
        ] {
            let message = read(HEADER, &format!("{trained}{line}")).expect_err(line);
            let (name, _) = line.split_once(',').unwrap();
            let expected = format!("index.csv: line 6: expected {expected}, found `{name}`");
            assert!(message.ends_with(&expected), "{message}");
        }
        for again in ["3.jpg,carl,gallery,1", "3.jpg, \"carl \",gallery,1.0"] {
            assert_eq!(read(HEADER, &format!("{trained}{again}")), Ok(vec![1, 2]));
        }
    }

    #[test]
    fn bounding_box_columns_and_duplicate_columns_are_rejected() {
        for (columns, found) in [
            ("x,y,w,h", "x,y"),
            ("xmin,ymin,xmax,ymax", "xmin,ymin"),
            ("Left,Top,Width,Height", "Left,Top"),
            ("bbox_x1,bbox_y1", "bbox_x1,bbox_y1"),
            ("BBox", "BBox"),
            ("bounding_box", "bounding_box"),
        ] {
            let message = message(&format!("path,identity,split,{columns}\n"));
            assert!(
                message.contains("line 1: expected no bounding box columns: crop"),
                "{message}"
            );
            assert!(message.ends_with(&format!("found `{found}`")), "{message}");
        }
        for name in ["identity", "colour"] {
            let message = message(&format!("path,{name},identity,split,{name}\n"));
            let expected = format!("line 1: expected one column `{name}`, found `two of them`");
            assert!(message.ends_with(&expected), "{message}");
        }
        // Several columns without a name are allowed and ignored, such as the row index of pandas.
        let header = ",path,identity,split,camera,";
        let lines = "0,1.jpg,anna,train,,x\n1,2.jpg,bert,train,,";
        let list = format!("{header}\n2,3.jpg,c,query,,\n3,4.jpg,c,gallery,,\n{lines}");
        let splits = load(set(&list).path()).unwrap();
        assert!(splits.train[0].attributes.is_empty() && splits.notices.is_empty());
        let size = "path,identity,split,camera,width,height,x"
            .split(',')
            .map(str::to_owned);
        assert_eq!(box_columns(&size.collect::<Vec<_>>()), None);
    }

    #[test]
    fn identities_that_the_rule_rejects_are_reported_with_their_line() {
        for (identity, expected) in [
            ("", "an identity, not a marker of a missing value"),
            ("nan", "an identity, not a marker of a missing value"),
            ("-2", "an identity of 0 or more, or -1 for junk"),
            (
                "01",
                "the spelling `1` of this identity, as in line 4 of index.csv",
            ),
        ] {
            let lines = format!("1.jpg,1,train,1\n2.jpg,{identity},train,1");
            let message = read(HEADER, &lines).expect_err(identity);
            let expected = format!("index.csv: line 5: expected {expected}, found `{identity}`");
            assert!(message.ends_with(&expected), "{message}");
        }
    }

    #[test]
    fn a_copy_of_a_query_in_the_gallery_is_recognised_as_the_same_image() {
        let root = set(GOOD);
        for name in ["3.jpg", "4.jpg"] {
            fs::write(root.path().join(name), "the same").unwrap();
        }
        let splits = load(root.path()).unwrap();
        assert_eq!(splits.gallery[0].image(), splits.query[0].path);
        let text = splits.statistics().to_string();
        assert!(
            text.contains("also in the gallery (ignored when that query is ranked): 1 ("),
            "{text}"
        );
        assert!(text.contains("skipped junk (identity -1): 1 ("), "{text}");
    }

    #[test]
    fn a_truncated_list_is_read_or_rejected() {
        let root = set(GOOD);
        let list = "\u{feff}path,identity,split,camera\r\n 1.jpg, \"a\"\"n\",train,1.0\n\
                    2.jpg,André,train,2\n3.jpg,c,query,1\n4.jpg,c,gallery,2\n";
        let utf16: Vec<u8> = list.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for bytes in [list.as_bytes(), &utf16] {
            for end in 0..=bytes.len() {
                fs::write(root.path().join(INDEX), &bytes[..end]).unwrap();
                let whole = end + 2 >= bytes.len();
                assert!(load(root.path()).is_err() || whole, "{end}");
            }
            assert!(load(root.path()).is_ok());
        }
    }
}
