//! Backbones: blocks whose input is a batch of images.

mod config;
mod ibn;
mod limits;
mod residual;
mod resnet;
mod se_resnext;
mod split;
mod stem;

pub use config::{AfterStage, ResNetConfig};
pub use ibn::{Ibn, InstanceNormed};
pub use residual::{ResidualBlock, ResidualBlockConfig, ResidualKind};
pub use resnet::ResNet;
pub use split::{EarlyStagesConfig, LateStages, LateStagesConfig, SplitPoint};
pub use stem::{MaxPool, Stem};
