//! Published: the numbers of a data set, held against the set itself where someone has it.

use std::{env, path::Path};

use reid_core::{SplitStatistics, Splits};

use crate::Error;

/// Checks the identities and images of training, query and gallery of the set in the folder that an
/// environment variable names. Sets need agreements, so most machines have none: then nothing is
/// checked.
pub(crate) fn holds(
    variable: &str,
    load: impl FnOnce(&Path) -> Result<Splits, Error>,
    counts: [(usize, usize); 3],
) {
    let Some(root) = env::var_os(variable) else {
        println!("{variable} names no folder: nothing to check");
        return;
    };
    let statistics = load(Path::new(&root)).unwrap().statistics();
    let count = |of: SplitStatistics| (of.identities, of.images);
    let found = [statistics.train, statistics.query, statistics.gallery].map(count);
    assert_eq!(found, counts, "{statistics}");
}
