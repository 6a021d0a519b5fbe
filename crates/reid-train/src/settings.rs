//! The settings of a recipe that do not depend on the task.

use std::ops::Bound;

use burn::tensor::Device;
use reid_core::{Problems, Seed, Validate};
use reid_nn::Precision;

use crate::{
    averaging::{Averaged, MAX_STEPS, Swa},
    groups::ParameterGroup,
    optimizer::OptimizerConfig,
    recipe::{Recipe, SegmentationRecipe},
    schedule::{MAX_EPOCHS, Schedule},
};

/// The largest number of accumulated batches.
const MAX_BATCHES: usize = 1 << 16;

/// The settings of a recipe that do not depend on the task. [`Recipe`] documents them.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) seed: Seed,
    pub(crate) precision: Precision,
    pub(crate) optimizer: OptimizerConfig,
    pub(crate) schedule: Schedule,
    pub(crate) clip_norm: Option<f64>,
    pub(crate) groups: Vec<ParameterGroup>,
    pub(crate) layer_decay: Option<f64>,
    pub(crate) accumulated_batches: usize,
    pub(crate) average_decay: Option<f64>,
    pub(crate) swa: Option<Swa>,
    pub(crate) renewal_batches: Option<usize>,
    pub(crate) epochs: usize,
    pub(crate) evaluate_every: usize,
}

/// Copies the fields of a recipe that have the names of [`Settings`].
macro_rules! from_recipe {
    ($recipe:ident) => {
        Self {
            name: $recipe.name.clone(),
            seed: $recipe.seed,
            precision: $recipe.precision,
            optimizer: $recipe.optimizer,
            schedule: $recipe.schedule.clone(),
            clip_norm: $recipe.clip_norm,
            groups: $recipe.groups.clone(),
            layer_decay: $recipe.layer_decay,
            accumulated_batches: $recipe.accumulated_batches,
            average_decay: $recipe.average_decay,
            swa: $recipe.swa,
            renewal_batches: $recipe.renewal_batches,
            epochs: $recipe.epochs,
            evaluate_every: $recipe.evaluate_every,
        }
    };
}

impl<N, L> From<&Recipe<N, L>> for Settings {
    fn from(recipe: &Recipe<N, L>) -> Self {
        from_recipe!(recipe)
    }
}

impl<N> From<&SegmentationRecipe<N>> for Settings {
    fn from(recipe: &SegmentationRecipe<N>) -> Self {
        from_recipe!(recipe)
    }
}

impl Settings {
    /// Whether a checkpoint with this state holds an average of the weights.
    pub(crate) fn has_average(&self, averaged: &Averaged) -> bool {
        self.average_decay.is_some() || (self.swa.is_some() && averaged.models > 0)
    }

    /// The largest number of batches from which the running statistics of an average are computed anew; `None`
    /// if they are averaged instead.
    pub(crate) fn renewal(&self) -> Option<usize> {
        let whole_epoch = self.swa.map(|_| usize::MAX);
        self.renewal_batches.or(whole_epoch)
    }

    fn validate_averaging(&self, problems: &mut Problems) {
        if let Some(decay) = self.average_decay {
            problems.number("average_decay", decay, 0.0..1.0);
        }
        if let Some(swa) = &self.swa {
            problems.at("swa", |problems| {
                let last = self.epochs.saturating_sub(1);
                problems.count("first_epoch", swa.first_epoch, 0..=last);
                swa.validate(problems);
            });
            let holds = self.average_decay.is_none();
            problems.require("swa", holds, "null with `average_decay`", "both");
        }
        if let Some(batches) = self.renewal_batches {
            problems.count("renewal_batches", batches, 1..=MAX_STEPS);
            let holds = self.average_decay.is_some() || self.swa.is_some();
            let expected = "null without `average_decay` and `swa`";
            problems.require("renewal_batches", holds, expected, batches);
        }
    }

    /// Adds a problem if a device does not support the precision.
    pub(crate) fn validate_device(&self, device: &Device, problems: &mut Problems) {
        if !self.precision.is_supported(device) {
            problems.at("precision", |problems| {
                let found = format_args!("{:?} on {device:?}", self.precision);
                problems.add("a precision that the device supports", found);
            });
        }
    }
}

/// The problems of the fields from `optimizer` to `epochs`.
impl Validate for Settings {
    fn validate(&self, problems: &mut Problems) {
        problems.nested("optimizer", &self.optimizer);
        problems.nested("schedule", &self.schedule);
        if let Some(norm) = self.clip_norm {
            let holds = norm.is_finite() && norm > 0.0;
            problems.require("clip_norm", holds, "a finite number above 0, or null", norm);
        }
        for (index, group) in self.groups.iter().enumerate() {
            problems.nested(&format!("groups[{index}]"), group);
        }
        if let Some(decay) = self.layer_decay {
            let range = (Bound::Excluded(0.0), Bound::Included(1.0));
            problems.number("layer_decay", decay, range);
        }
        let batches = self.accumulated_batches;
        problems.count("accumulated_batches", batches, 1..=MAX_BATCHES);
        self.validate_averaging(problems);
        problems.count("epochs", self.epochs, 1..=MAX_EPOCHS);
    }
}
