//! Kernels of convolutional neural networks.

pub mod normalisation;

mod adam;
mod average;
mod convolution;
mod correlate;
mod depthwise;
mod gate;
mod inner_products;
mod inverted_residual;
mod mixing;
mod omni_scale;
mod outer_products;
mod packed;
mod pointwise;
mod pooling;
mod power_mean;
mod relu;
mod sum;
mod sweep;
mod tile;
mod transpose;
mod weight_gradient;
mod window;
mod window_average;

pub use adam::Adam;
pub use average::{global_avg_pool, global_avg_pool_backward};
pub use convolution::{ConvEpilogue, Convolution};
pub use gate::{Broadcast, Gate};
pub use inverted_residual::{InvertedResidual, InvertedWeights};
pub use mixing::Mixing;
pub use omni_scale::{ChannelGate, LightConvolution, OmniScale};
pub use pooling::Pooling;
pub use power_mean::{PowerMeans, power_means};
pub use relu::{add_relu, relu_backward};
pub use window_average::WindowAverage;

/// The number of values in one task of an elementwise kernel.
const PART: usize = 1 << 15;

/// The largest input, in values, that stays on the calling thread: waking another thread would take longer.
const ONE_THREAD: usize = 1 << 18;
