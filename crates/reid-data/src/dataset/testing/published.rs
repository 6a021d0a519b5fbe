//! Published: the numbers of a data set, held against the set itself where someone has it.

use std::{
    env,
    path::{Path, PathBuf},
};

use reid_core::{SplitStatistics, Splits};

use crate::Error;

/// The folder of a set, from the environment variable that names it. Sets need agreements, so most machines
/// have none, and the tests that ask for one are ignored: `cargo test -p reid-data published -- --ignored`.
///
/// # Panics
/// If the variable is not set: a test that is asked for does not pass without looking.
pub(crate) fn folder(variable: &str) -> PathBuf {
    let root = env::var_os(variable);
    let root = root.unwrap_or_else(|| panic!("{variable} names no folder of the data set"));
    root.into()
}

/// Checks the identities and images of training, query and gallery of the set in the folder that an
/// environment variable names.
pub(crate) fn holds(
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
    #[should_panic(expected = "REID_NO_SUCH_SET names no folder of the data set")]
    fn a_set_that_is_not_there_is_not_passed() {
        holds(
            "REID_NO_SUCH_SET",
            |_| panic!("nothing to load"),
            [(0, 0); 3],
        );
    }
}
