//! What convolutional networks compute.

pub mod normalisation;

mod adam;
mod average;
mod convolution;
mod correlate;
mod gate;
mod inner_products;
mod mixing;
mod outer_products;
mod pooling;
mod power_mean;
mod rectifier;
mod sum;
mod sweep;
mod tile;
mod turn;
mod weight_gradient;
mod window;

pub use adam::Adam;
pub use average::{means, spread};
pub use convolution::{Convolution, Epilogue};
pub use gate::{Gate, Shared};
pub use mixing::Mixing;
pub use pooling::Pooling;
pub use power_mean::{PowerMeans, power_means};
pub use rectifier::{add_rectified, rectified_gradient};

/// Numbers of a task that does little with each.
const PART: usize = 1 << 15;

/// So many of them are not worth the wait for another thread.
const ALONE: usize = 1 << 18;
