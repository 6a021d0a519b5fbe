//! Backbones: blocks whose input is an image.

mod ibn;
mod limits;
mod residual;
mod resnet;
mod se_resnext;
mod split;
mod stem;

pub use ibn::{Ibn, InstanceNormed};
pub use residual::{ResidualBlock, ResidualBlockConfig, ResidualKind};
pub use resnet::{AfterStage, ResNet, ResNetConfig};
pub use split::{EarlyStagesConfig, LateStages, LateStagesConfig, SplitPoint};
pub use stem::{MaxPool, Stem};
