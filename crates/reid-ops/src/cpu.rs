//! The operations on slices of numbers.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined into a function that is compiled for wide vectors does not use them"
)]

mod convolution;
mod correlate;
mod inner_products;
mod normalisation;
mod pooling;
mod rectifier;
mod sweep;
mod tile;
mod weight_gradient;
mod window;

pub(crate) use convolution::Geometry;
pub(crate) use convolution::{forward as convolve, input_gradient};
pub(crate) use normalisation::{Map, Sizes, Statistics, statistics};
pub(crate) use pooling::Pooling;
pub(crate) use rectifier::{add_rectified, rectified_gradient};
pub(crate) use weight_gradient::weight_gradient;
