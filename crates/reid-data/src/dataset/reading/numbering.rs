//! Numbering: identities from the names that people give them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use reid_core::{Camera, Identity, Sample, Split, Splits};

/// One image whose identity is still a name.
pub(crate) struct Row {
    pub(crate) split: Split,
    pub(crate) path: PathBuf,
    pub(crate) identity: String,
    pub(crate) camera: Option<Camera>,
}

/// The rows as samples of a data set of this name.
///
/// If all names are integers, these are the labels. Otherwise they are numbered from 1 in the order
/// of their bytes, over all splits together, so that the special labels 0 and -1 stay free.
pub(crate) fn numbered(name: String, rows: Vec<Row>) -> Splits {
    let names: BTreeSet<&str> = rows.iter().map(|row| row.identity.as_str()).collect();
    let integers: Result<Vec<i64>, _> = names.iter().map(|name| name.parse()).collect();
    let labels = integers.unwrap_or_else(|_| (1..).take(names.len()).collect());
    let table: BTreeMap<String, i64> = names.into_iter().map(str::to_owned).zip(labels).collect();

    let mut splits = Splits {
        name,
        ..Splits::default()
    };
    for row in rows {
        let samples = match row.split {
            Split::Train => &mut splits.train,
            Split::Query => &mut splits.query,
            Split::Gallery => &mut splits.gallery,
        };
        samples.push(Sample {
            path: row.path,
            identity: Identity::new(table[&row.identity]),
            camera: row.camera,
            track: None,
        });
    }
    splits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(names: &[(&str, Split)]) -> [Vec<i64>; 3] {
        let row = |&(name, split): &(&str, Split)| Row {
            split,
            path: PathBuf::new(),
            identity: name.to_owned(),
            camera: None,
        };
        let splits = numbered(String::new(), names.iter().map(row).collect());
        [splits.train, splits.query, splits.gallery]
            .map(|samples| samples.iter().map(|s| s.identity.label()).collect())
    }

    #[test]
    fn integers_are_kept() {
        let names = [
            ("0017", Split::Train),
            ("-1", Split::Gallery),
            ("5", Split::Query),
        ];
        assert_eq!(labels(&names), [vec![17], vec![5], vec![-1]]);
    }

    #[test]
    fn one_text_numbers_all_of_them_alike_in_every_split() {
        // In the order of bytes: "10", "9", "anna".
        let names = [
            ("anna", Split::Train),
            ("9", Split::Train),
            ("10", Split::Query),
            ("anna", Split::Gallery),
        ];
        assert_eq!(labels(&names), [vec![3, 2], vec![1], vec![3]]);
    }
}
