//! Backbones: blocks whose input is an image.

mod residual;
mod resnet;
mod stem;

pub use residual::{ResidualBlock, ResidualBlockConfig, ResidualKind};
pub use resnet::{ResNet, ResNetConfig};
pub use stem::{MaxPool, Stem};
