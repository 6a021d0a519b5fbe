//! The record of a training without labels: its settings, and the results of the finished rounds.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use reid_core::{Sample, write_atomic};
use reid_eval::{ClusteringConfig, Clusters};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::RoundSummary;
use crate::{
    checkpoint::{Fingerprint, seal, unseal},
    difference::difference,
    error::{Error, at},
    recipe::Recipe,
    run::with_defaults,
};

const FILE: &str = "rounds.json";
const CLUSTERS: &str = "clusters.json";

/// The content of `rounds.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    recipe: Value,
    pub(super) clustering: ClusteringConfig,
    images: Fingerprint,
    pub(super) rounds: Vec<RoundSummary>,
}

/// The content of `clusters.json`.
#[derive(Serialize, Deserialize)]
struct Labels {
    labels: Vec<Option<usize>>,
}

impl Record {
    /// The record before the first round.
    pub(super) fn new<N: Serialize, L: Serialize>(
        recipe: &Recipe<N, L>,
        clustering: &ClusteringConfig,
        samples: &[Sample],
    ) -> Result<Self, Error> {
        let recipe = serde_json::to_value(recipe).map_err(|source| Error::Json {
            path: PathBuf::from("recipe"),
            source,
        })?;
        Ok(Self {
            recipe,
            clustering: clustering.clone(),
            images: Fingerprint::of_samples(samples),
            rounds: Vec::new(),
        })
    }

    /// Reads the record of a folder; `None` if there is none.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, Error> {
        read_sealed(&folder.join(FILE))
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), Error> {
        write_sealed(&folder.join(FILE), self)
    }

    /// Takes over the finished rounds of a saved record, which must be of the same settings and images. Its
    /// recipe is completed with the defaults of settings that were added later.
    pub(super) fn accept<N, L>(&mut self, saved: Self, folder: &Path) -> Result<(), Error>
    where
        N: Serialize + DeserializeOwned,
        L: Serialize + DeserializeOwned,
    {
        let path = folder.join(FILE);
        let recipe = with_defaults::<Recipe<N, L>>(&saved.recipe);
        let settings = |record: &Self| json!({ "clustering": record.clustering });
        let other = difference(&recipe, &self.recipe)
            .or_else(|| difference(&settings(&saved), &settings(self)));
        if let Some(difference) = other {
            return Err(Error::OtherRecipe { path, difference });
        }
        if saved.images != self.images {
            return Err(Error::OtherImages {
                path,
                expected: saved.images.images,
                found: self.images.images,
            });
        }
        self.rounds = saved.rounds;
        Ok(())
    }

    /// The round with the highest mAP, counted from 0; the first of several.
    pub(super) fn best(&self) -> Option<usize> {
        let scored = self.rounds.iter().enumerate();
        let scored = scored.filter_map(|(round, summary)| Some((round, summary.training.scores?)));
        let best = scored.reduce(|best, other| {
            let higher = other.1.best_by().total_cmp(&best.1.best_by()).is_gt();
            if higher { other } else { best }
        });
        best.map(|(round, _)| round)
    }
}

/// Writes the clusters of a round to its folder.
pub(super) fn write_clusters(folder: &Path, clusters: &Clusters) -> Result<(), Error> {
    let labels = clusters.labels().to_vec();
    write_sealed(&folder.join(CLUSTERS), &Labels { labels })
}

/// Reads the clusters of a round, of `images` images.
pub(super) fn read_clusters(folder: &Path, images: usize) -> Result<Clusters, Error> {
    let path = folder.join(CLUSTERS);
    let saved: Option<Labels> = read_sealed(&path)?;
    let labels = saved.map(|saved| saved.labels);
    match labels.filter(|labels| labels.len() == images) {
        Some(labels) => Ok(Clusters::from_labels(labels)),
        None => Err(Error::Damaged { path }),
    }
}

fn read_sealed<T: Serialize + DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    match fs::read(path) {
        Ok(bytes) => unseal(path, &bytes).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

fn write_sealed<T: Serialize>(path: &Path, content: &T) -> Result<(), Error> {
    write_atomic(path, seal(path, content)?).map_err(at(path))
}
