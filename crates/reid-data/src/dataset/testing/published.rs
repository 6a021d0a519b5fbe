//! Checks the published counts of a dataset against a local copy of it.

use std::{
    env,
    path::{Path, PathBuf},
};

use reid_core::{SplitStatistics, Splits};

use crate::Error;

/// The folder of a dataset, from an environment variable.
///
/// The datasets require licence agreements, so the tests that need them are ignored by default. Run them with
/// `cargo test -p reid-data published -- --ignored`.
///
/// # Panics
/// If the variable is not set, so that a requested test cannot pass without its dataset.
pub(crate) fn folder(variable: &str) -> PathBuf {
    let root = env::var_os(variable);
    let root =
        root.unwrap_or_else(|| panic!("{variable} is not set, expected the folder of the dataset"));
    root.into()
}

/// Asserts the numbers of identities and images of the training, query and gallery splits.
///
/// The dataset is in the folder that the environment variable `variable` names.
///
/// # Panics
/// If the variable is not set, loading fails or a count differs.
pub(crate) fn assert_counts(
    variable: &str,
    load: impl FnOnce(&Path) -> Result<Splits, Error>,
    counts: [(usize, usize); 3],
) {
    let statistics = load(&folder(variable)).unwrap().statistics();
    let count = |of: SplitStatistics| (of.identities, of.images);
    let found = [statistics.train, statistics.query, statistics.gallery].map(count);
    assert_eq!(found, counts, "{statistics}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "REID_NO_SUCH_SET is not set, expected the folder of the dataset")]
    fn a_test_without_its_dataset_fails() {
        assert_counts(
            "REID_NO_SUCH_SET",
            |_| panic!("nothing to load"),
            [(0, 0); 3],
        );
    }
}
