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
//!
//! Use it where a real dataset is not available, and where the identity of every image has to be certain. Do not
//! compare methods by it: drawn people differ from real ones, and another method may be the best on real images.
//!
//! ```
//! use reid_core::{Camera, Identity};
//! use reid_synthetic::SyntheticConfig;
//!
//! let config = SyntheticConfig::new();
//! let draw = |camera| config.draw(Identity::new(1), Camera::new(camera), 0);
//! assert_eq!(draw(1).dimensions(), (32, 64)); // width and height
//! assert_eq!(draw(1), draw(1)); // a pure function of its arguments
//! assert_ne!(draw(1), draw(2)); // another camera, another background and light
//! ```

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
