//! Writes small valid files as the initial corpus of every target, in one folder per target: `seeds CORPUS`.

use std::{env, fs, path::PathBuf};

mod embeddings;
mod lists;
mod pictures;
#[cfg(feature = "networks")]
mod weights;

/// A target and the files of its initial corpus.
type Seeds = (&'static str, Vec<Vec<u8>>);

fn main() {
    let corpus = PathBuf::from(env::args_os().nth(1).expect("the folder of the corpora"));
    let seeds = embeddings::seeds().into_iter().chain(lists::seeds()).chain(pictures::seeds());
    #[cfg(feature = "networks")]
    let seeds = seeds.chain(weights::seeds());
    for (target, seeds) in seeds {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder).expect("a folder to write to");
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:02}")), seed).expect("a file to write to");
        }
    }
}
