//! Synthetic datasets for re-identification: images of people and vehicles, drawn from a seed. They serve
//! tests, examples and benchmarks that must run without a real dataset.
//!
//! | configuration | content | folder layout |
//! |---|---|---|
//! | [`SyntheticConfig`] | people | Market-1501 |
//! | [`VehiclesConfig`] | vehicles | VeRi-776 |
//! | [`StreetsConfig`] | streets with vehicles, and the class of every pixel | `images` and `labels` |
//!
//! A dataset is a pure function of its configuration: the same configuration gives the same images.
//! `reid-data` reads these folders like those of the real datasets.

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
pub use people::{SyntheticConfig, Walker};
pub use vehicles::{Street, StreetsConfig, VehiclesConfig};
