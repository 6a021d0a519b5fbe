//! Converts labels to identities, by the rule in the documentation of [`dataset`](crate::dataset).

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use reid_core::{Camera, Identity, Sample, Split, Splits};
use unicode_normalization::UnicodeNormalization;

use super::lines::Location;
use crate::Error;

/// Markers of a missing value that pandas and other tools write, in lower case.
const MISSING: [&str; 12] = [
    "", "nan", "-nan", "nat", "none", "null", "<na>", "n/a", "#n/a", "#na", "-1.#ind", "1.#qnan",
];

/// One image, with its label as text.
pub(crate) struct Row {
    pub(crate) split: Split,
    pub(crate) path: PathBuf,
    pub(crate) identity: String,
    pub(crate) camera: Option<Camera>,
    pub(crate) attributes: BTreeMap<String, String>,
    /// The line of the list; `None` if the label is the name of the folder that contains the image.
    pub(crate) line: Option<u64>,
}

impl Row {
    fn wrong(&self, list: &Path, expected: String) -> Error {
        let found = self.identity.clone();
        match self.line {
            Some(line) => Location { list, line }.wrong(expected, found),
            None => Error::Entry {
                path: self.folder().to_owned(),
                expected,
                found,
            },
        }
    }

    fn location(&self, list: &Path) -> String {
        match self.line {
            Some(line) => location(list, line),
            None => self.folder().display().to_string(),
        }
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }
}

/// A line of a list, as text for error messages.
fn location(list: &Path, line: u64) -> String {
    let list = list.file_name().unwrap_or_default();
    format!("line {line} of {}", list.display())
}

/// Converts the rows of a list, or of identity folders, to the samples of a dataset.
///
/// `name` is the name of the dataset, and `list` is the path of the list in error messages.
///
/// # Errors
/// If the rule rejects a label: [`Error::Line`] for a row of a list, and [`Error::Entry`] for a folder.
pub(crate) fn numbered(name: String, list: &Path, rows: Vec<Row>) -> Result<Splits, Error> {
    let mut labels: HashMap<&str, String> = HashMap::new();
    let mut spellings = Spellings::default();
    for row in &rows {
        if labels.contains_key(row.identity.as_str()) {
            continue;
        }
        let label = label(&row.identity).map_err(|expected| row.wrong(list, expected.into()))?;
        spellings
            .check(&label, || row.location(list))
            .map_err(|expected| row.wrong(list, expected))?;
        labels.insert(&row.identity, label);
    }
    let identity_of = assign(labels.values().map(String::as_str).collect());
    let identities: Vec<Identity> = rows
        .iter()
        .map(|row| identity_of[labels[row.identity.as_str()].as_str()])
        .collect();

    let mut splits = Splits::new(name);
    for (row, identity) in rows.into_iter().zip(identities) {
        let samples = match row.split {
            Split::Train => &mut splits.train,
            Split::Query => &mut splits.query,
            Split::Gallery => &mut splits.gallery,
        };
        let mut sample = Sample::new(row.path, identity);
        sample.camera = row.camera;
        sample.attributes = row.attributes;
        samples.push(sample);
    }
    Ok(splits)
}

/// Assigns an identity to each label.
///
/// If all labels are integers, these are the identities. Otherwise the identity is the rank of the label in
/// the order of bytes, from 1. Junk (-1) and distractors (0) keep their values in both cases.
fn assign(labels: BTreeSet<&str>) -> BTreeMap<&str, Identity> {
    let special = |label: &&str| matches!(label.parse(), Ok(-1 | 0));
    let (special, others): (BTreeSet<&str>, BTreeSet<&str>) = labels.into_iter().partition(special);
    let whole = |label: &&str| label.parse::<i64>().is_ok();
    let all_whole = others.iter().all(whole);
    let number = |label: &str| label.parse().unwrap_or_default();
    let numbered = (1..).zip(others).map(|(position, label)| {
        let number = if all_whole { number(label) } else { position };
        (label, Identity::new(number))
    });
    let special = special
        .into_iter()
        .map(|label| (label, Identity::new(number(label))));
    numbered.chain(special).collect()
}

/// Normalises a label: trims spaces, removes a fraction of zeros, and composes accents (Unicode NFC).
///
/// `Err` is the text of what was expected.
pub(crate) fn label(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    if is_missing(text) {
        return Err("an identity, not a marker of a missing value");
    }
    let whole = without_fraction(text);
    if whole.starts_with('-') && is_whole(whole) && !matches!(whole.parse(), Ok(-1_i64 | 0)) {
        return Err("an identity of 0 or more, or -1 for junk");
    }
    Ok(whole.nfc().collect())
}

/// Whether a field is empty or a marker of a missing value.
pub(crate) fn is_missing(text: &str) -> bool {
    text == "NA" || MISSING.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Removes a fraction of zeros: `9.0`, which pandas writes if a column has missing values, becomes `9`.
pub(crate) fn without_fraction(text: &str) -> &str {
    match text.split_once('.') {
        Some((whole, zeros)) if is_whole(whole) && zeros.bytes().all(|byte| byte == b'0') => whole,
        _ => text,
    }
}

/// Whether a label is an integer, with or without a sign.
fn is_whole(label: &str) -> bool {
    let digits = label.strip_prefix(['-', '+']).unwrap_or(label);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The canonical form of an integer label, which is equal for two spellings of one integer; `None` for text.
fn value(label: &str) -> Option<Cow<'_, str>> {
    if is_whole(label) {
        let digits = label.trim_start_matches(['-', '+', '0']);
        return Some(match digits {
            "" => "0".into(),
            digits if label.starts_with('-') => format!("-{digits}").into(),
            digits => digits.into(),
        });
    }
    // Tools write exponents with a sign, as in `1e+05`. Without a sign, `1e05` may be a hexadecimal name.
    let (digits, exponent) = label.split_once(['e', 'E'])?;
    let numeric = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
    };
    let signed = exponent.strip_prefix(['+', '-'])?;
    let number: f64 = (numeric(digits) && numeric(signed)).then(|| label.parse().ok())??;
    let whole = number.is_finite() && number.fract() == 0.0;
    whole.then(|| number.to_string().into())
}

/// The first spelling of each integer label, with its location.
#[derive(Default)]
pub(crate) struct Spellings(HashMap<String, (String, String)>);

impl Spellings {
    /// Records the spelling of a label at `location`.
    ///
    /// `Err` is the text of what was expected, if the same integer was spelled differently before.
    pub(crate) fn check(
        &mut self,
        label: &str,
        location: impl FnOnce() -> String,
    ) -> Result<(), String> {
        let Some(value) = value(label) else {
            return Ok(());
        };
        match self.0.get(value.as_ref()) {
            None => {
                let first = (label.to_owned(), location());
                self.0.insert(value.into_owned(), first);
                Ok(())
            }
            Some((first, _)) if first == label => Ok(()),
            Some((first, location)) => Err(format!(
                "the spelling `{first}` of this identity, as in {location}"
            )),
        }
    }

    /// Calls [`check`](Self::check) for a label in a list.
    pub(crate) fn check_line(&mut self, at: Location<'_>, label: &str) -> Result<(), Error> {
        self.check(label, || location(at.list, at.line))
            .map_err(|expected| at.wrong(expected, label))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn splits(names: &[(&str, Split)]) -> Result<[Vec<i64>; 3], String> {
        let rows = names.iter().zip(1..).map(|(&(name, split), line)| Row {
            attributes: BTreeMap::new(),
            split,
            path: PathBuf::new(),
            identity: name.to_owned(),
            camera: None,
            line: Some(line),
        });
        let splits = numbered(String::new(), Path::new("a/list"), rows.collect());
        let splits = splits.map_err(|error| error.to_string())?;
        Ok([splits.train, splits.query, splits.gallery]
            .map(|samples| samples.iter().map(|s| s.identity.label()).collect()))
    }

    fn labels(names: &[&str]) -> Result<Vec<i64>, String> {
        let names: Vec<_> = names.iter().map(|&name| (name, Split::Train)).collect();
        splits(&names).map(|[train, ..]| train)
    }

    #[test]
    fn integer_labels_are_the_identities() {
        let names = [
            ("0017", Split::Train),
            ("-1", Split::Gallery),
            ("5", Split::Query),
        ];
        assert_eq!(splits(&names), Ok([vec![17], vec![5], vec![-1]]));
    }

    #[test]
    fn one_text_label_numbers_all_labels_the_same_in_every_split() {
        // In the order of bytes: "10", "9", "anna".
        let names = [
            ("anna", Split::Train),
            ("9", Split::Train),
            ("10", Split::Query),
            ("anna", Split::Gallery),
        ];
        assert_eq!(splits(&names), Ok([vec![3, 2], vec![1], vec![3]]));
    }

    #[test]
    fn junk_and_distractors_keep_their_values_beside_text_labels() {
        for names in [["-1", "0000", "17"], ["-1.0", "0", "anna"]] {
            let labels = labels(&names).unwrap();
            assert_eq!(labels[..2], [-1, 0], "{names:?}");
            assert!(labels[2] > 0);
        }
    }

    #[test]
    fn equivalent_labels_are_one_identity() {
        assert_eq!(labels(&["9", "9.0", " 9 ", "10.00"]), Ok(vec![9, 9, 9, 10]));
        assert_eq!(labels(&["anna", " anna", "anna\t"]), Ok(vec![1; 3]));
        // é as one character, and as `e` followed by a combining accent.
        assert_eq!(labels(&["Andr\u{e9}", "Andre\u{301}"]), Ok(vec![1; 2]));
        assert_eq!(labels(&["Andr\u{e9}", "Andr\u{e8}"]), Ok(vec![2, 1]));
        assert_eq!(labels(&["001", "002", "010"]), Ok(vec![1, 2, 10]));
    }

    #[test]
    fn labels_that_only_look_like_integers_are_text() {
        let names = ["1.1", "1.10", "1e05", "100000", "0e12", "0e34"];
        assert_eq!(labels(&names), Ok(vec![3, 4, 6, 5, 1, 2]));
    }

    #[test]
    fn two_spellings_of_one_identity_are_rejected_with_both_locations() {
        for (one, other) in [
            ("01", "1"),
            ("1", "+1"),
            ("0", "0000"),
            ("007.0", "7"),
            ("100000", "1e+05"),
            ("1.2E+3", "1200"),
            ("099999999999999999999", "99999999999999999999"),
        ] {
            let text = "anna";
            for names in [&[one, "2", other][..], &[one, text, other]] {
                let message = labels(names).expect_err(other);
                let expected = format!(
                    "a/list: line 3: expected the spelling `{}` of this identity, as in \
                     line 1 of list, found `{other}`",
                    without_fraction(one)
                );
                assert_eq!(message, expected);
            }
        }
    }

    #[test]
    fn missing_and_negative_labels_are_rejected_with_their_line() {
        for missing in [
            "", " ", "nan", "NaN", "None", "null", "NULL", "NA", "<NA>", "N/A",
        ] {
            let message = labels(&["anna", missing]).expect_err(missing);
            let expected = format!(
                "a/list: line 2: expected an identity, not a marker of a missing value, found `{missing}`"
            );
            assert_eq!(message, expected);
        }
        let message = labels(&["7", "-2"]).expect_err("negative");
        assert!(
            message
                .ends_with("line 2: expected an identity of 0 or more, or -1 for junk, found `-2`")
        );
        assert_eq!(labels(&["Nana", "na"]), Ok(vec![1, 2]));
    }
}
