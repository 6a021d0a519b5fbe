//! Backbones: blocks whose input is a batch of images.

mod after_stage;
mod cifar_resnet;
mod config;
mod conv_norm;
mod densenet;
mod dilation;
mod ibn;
mod limits;
mod mobilenet_v2;
mod osnet;
mod residual;
mod resnet;
mod se_resnext;
mod shortcut;
mod split;
mod stem;

pub use after_stage::AfterStage;
pub use config::ResNetConfig;
pub use conv_norm::ConvNorm;
pub use densenet::{DenseLayer, DenseLayerConfig, DenseNet, DenseNetConfig, Transition};
pub use dilation::{Dilation, FirstDilation};
pub use ibn::{Ibn, InstanceNormed};
pub use mobilenet_v2::{InvertedResidual, InvertedResidualConfig, MobileNetV2, MobileNetV2Config};
pub use osnet::{
    LightConv, OsBlock, OsBlockConfig, OsInstanceNorm, OsNet, OsNetConfig, OsNetEarlyStagesConfig,
    OsNetLateStages, OsNetLateStagesConfig, OsNetStage,
};
pub use residual::{ResidualBlock, ResidualBlockConfig, ResidualKind};
pub use resnet::ResNet;
pub use shortcut::{PaddedShortcut, Shortcut};
pub use split::{EarlyStagesConfig, LateStages, LateStagesConfig, SplitPoint};
pub use stem::{MaxPool, Stem};
