//! Synthetic data sets for re-identification: people and vehicles drawn from a seed, for trying things
//! where no real set is at hand.
//!
//! | set | layout of its folder |
//! |---|---|
//! | [`SyntheticConfig`], people | Market-1501's |
//! | [`VehiclesConfig`], vehicles | VeRi-776's |
//!
//! A set is a pure function of its settings: the same numbers give the same pictures on every machine.
//! `reid-data` reads the folders as it reads real ones.

#![doc(test(attr(deny(warnings))))]

mod camera;
mod canvas;
mod colour;
mod error;
mod figure;
mod folder;
mod layout;
mod obstacle;
mod outfit;
mod people;
mod scene;
mod setting;
mod team;
mod vehicles;

pub use error::Error;
pub use people::SyntheticConfig;
pub use vehicles::VehiclesConfig;
