//! What convolutional networks compute.

pub mod normalisation;

mod adam;
mod convolution;
mod correlate;
mod inner_products;
mod outer_products;
mod pooling;
mod rectifier;
mod sweep;
mod tile;
mod weight_gradient;
mod window;

pub use adam::Adam;
pub use convolution::{Convolution, Epilogue};
pub use pooling::Pooling;
pub use rectifier::{add_rectified, rectified_gradient};
