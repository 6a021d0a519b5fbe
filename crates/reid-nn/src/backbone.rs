//! Backbones: blocks whose input is an image.

mod residual;
mod resnet;

pub use residual::{ResidualBlock, ResidualBlockConfig, ResidualKind};
pub use resnet::{MaxPool, ResNet, ResNetConfig, Stem};
