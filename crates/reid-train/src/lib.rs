//! Recipes, optimizers, schedules, training loop and checkpoints for re-identification on Burn.
