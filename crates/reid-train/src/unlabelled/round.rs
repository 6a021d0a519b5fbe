//! One round: clusters the training images, and trains an epoch on the clusters.

use std::{fs, path::Path, time::Duration};

use burn::tensor::{Tensor, TensorData};
use reid_core::Split;
use reid_eval::{Clusters, Report};
use reid_nn::{
    Model, Network,
    loss::{ClusterContrast, ClusterContrastConfig},
};

use super::{
    ClusterSummary, RoundSummary, UnlabelledTrainer, events::RoundEvents, labelled, record,
    schedule::RoundSchedule, transfer::transfer,
};
use crate::{
    checkpoint::{CheckpointKind, Checkpoints},
    error::{Error, at},
    event::{Event, Observer},
    learner::ReidLearner,
    recipe::Recipe,
    trainer::Trainer,
};

/// The result of a round.
pub(super) struct Round<M> {
    pub(super) model: M,
    pub(super) report: Option<Report>,
    /// `None` if the round was interrupted.
    pub(super) summary: Option<RoundSummary>,
}

type LearnerOf<N> = ReidLearner<<N as Network>::Model, ClusterContrast>;

impl<N: Network> UnlabelledTrainer<'_, N> {
    /// Makes the next round, or the rest of it if a checkpoint of it exists.
    pub(super) fn round(
        &self,
        observer: &mut dyn Observer,
        is_first: bool,
    ) -> Result<Round<N::Model>, Error> {
        let round = self.record.rounds.len();
        let folder = self.round_folder(round);
        let checkpoints = Checkpoints::new(&folder);
        let is_started = checkpoints.find(CheckpointKind::Last)?.is_some();
        let (clusters, centroids) = if is_started {
            // The checkpoint has the centroids.
            let images = self.splits.train.len();
            (record::read_clusters(&folder, images)?, None)
        } else {
            let (clusters, centroids) = self.cluster(&folder)?;
            (clusters, Some(centroids))
        };
        let summary = ClusterSummary::new(round, &clusters, &self.splits.train);
        observer.observe(&Event::Clustered {
            summary: &summary,
            clusters: &clusters,
        });
        let count = clusters.count();
        if count < 2 {
            return Err(Error::Clusters {
                round: round + 1,
                images: summary.images,
                clusters: count,
                outliers: summary.outliers,
            });
        }

        let splits = labelled(self.splits, clusters.labels(), self.is_evaluated(round));
        let recipe = self.recipe_of(round, count);
        let learner = self.learner(&recipe, count, centroids);
        let mut trainer =
            Trainer::with_learner(&recipe, &splits, learner, self.loading, &self.device)?
                .with_schedule(self.schedule(round))
                .with_checkpoints(checkpoints)
                .with_interrupt(self.interrupt.clone());
        if let Some(before) = round.checked_sub(1) {
            trainer = trainer.with_optimizers_of(&self.checkpoint_of(before)?)?;
        }
        let outcome = trainer
            .resume()?
            .run(&mut self.events(observer, is_first))?;
        let mut history = outcome.history;
        let training = history.pop().filter(|_| !outcome.interrupted);
        let summary = training.map(|mut training| {
            training.epoch = round + 1;
            RoundSummary {
                clusters: summary,
                training,
            }
        });
        Ok(Round {
            model: outcome.learner.model,
            report: outcome.report,
            summary,
        })
    }

    /// Clusters the training images by their embeddings, and writes the clusters to the folder of the
    /// round. Also returns the means of the clusters, `[clusters, dimensions]`.
    fn cluster(&self, folder: &Path) -> Result<(Clusters, TensorData), Error> {
        let model = self.model.evaluation();
        let samples = &self.splits.train;
        let embeddings = self
            .extractor
            .embed(&model, samples, Split::Train, &self.device)?;
        let clusters = Clusters::find(&embeddings, &self.clustering)?;
        fs::create_dir_all(folder).map_err(at(folder))?;
        record::write_clusters(folder, &clusters)?;
        let shape = [clusters.count(), embeddings.dimensions()];
        let means = TensorData::new(clusters.means(&embeddings), shape);
        Ok((clusters, means))
    }

    /// The learner of a round: the model so far, with a new classifier, and a criterion with these
    /// centroids.
    fn learner(
        &self,
        recipe: &Recipe<N, ClusterContrastConfig>,
        clusters: usize,
        centroids: Option<TensorData>,
    ) -> LearnerOf<N> {
        let built = ReidLearner::build(recipe, clusters, &self.device);
        let learner = ReidLearner {
            model: transfer(&self.model, built.model),
            criterion: built.criterion,
        };
        if let Some(centroids) = centroids {
            let device = self.device.clone().autodiff();
            let centroids = Tensor::from_data(centroids, &device);
            learner.criterion.set_centroids(centroids);
        }
        learner
    }

    /// The recipe of the run of a round: one epoch, with its own random streams, and of at most as many
    /// clusters per batch as there are.
    fn recipe_of(&self, round: usize, clusters: usize) -> Recipe<N, ClusterContrastConfig> {
        let mut recipe = self.recipe.clone();
        recipe.seed = recipe.seed.named("round").at(round as u64);
        (recipe.epochs, recipe.evaluate_every) = (1, 0);
        recipe.sampling.identities = recipe.sampling.identities.min(clusters);
        for group in &mut recipe.groups {
            group.frozen_epochs = group.frozen_epochs.saturating_sub(round);
        }
        recipe
    }

    fn schedule(&self, round: usize) -> RoundSchedule {
        RoundSchedule {
            schedule: self.recipe.schedule.clone(),
            round,
            rounds: self.recipe.epochs,
        }
    }

    /// Whether the model is evaluated after a round, if there are queries.
    fn is_evaluated(&self, round: usize) -> bool {
        let (done, every) = (round + 1, self.recipe.evaluate_every);
        done == self.recipe.epochs || every > 0 && done.is_multiple_of(every)
    }

    fn events<'o>(&self, observer: &'o mut dyn Observer, is_first: bool) -> RoundEvents<'o> {
        let scores = self.record.rounds.iter();
        let scores = scores.filter_map(|round| round.training.scores);
        RoundEvents {
            observer,
            round: self.record.rounds.len(),
            rounds: self.recipe.epochs,
            is_first,
            highest: scores.fold(f64::NEG_INFINITY, |highest, scores| {
                highest.max(scores.best_by())
            }),
            per_step: Duration::ZERO,
        }
    }
}
