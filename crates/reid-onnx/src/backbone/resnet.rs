//! ResNet, ResNeXt and their IBN forms, whole or split.

use burn::{
    module::Param,
    nn::conv::Conv2dConfig,
    tensor::{Device, Tensor, TensorData},
};
use reid_nn::{
    Init,
    backbone::{LateStages, PaddedShortcut, ResNet, ResidualBlock},
};

use super::stem_pool;
use crate::{
    block::{
        Activation::{self, Relu},
        LowerBlock, conv_norm, instance_norm,
    },
    error::Error,
    graph::{Scope, Value},
};

impl<I: LowerBlock, A: LowerBlock> LowerBlock for ResNet<I, A> {
    fn lower_block(&self, scope: &mut Scope<'_>, images: &Value<3>) -> Result<Value<3>, Error> {
        let layers = (&self.conv1, self.bn1.as_ref());
        let stem = conv_norm(scope, ["conv1", "bn1"], layers, images, Activation::None)?;
        let stem = instance_norm(scope, "in1", self.in1.as_ref(), stem);
        let mut stem = scope.relu(&stem);
        if let Some(layers) = &self.deep {
            for (index, layer) in [&layers.0, &layers.1].into_iter().enumerate() {
                let layers = (&layer.conv, layer.bn.as_ref());
                let scope = &mut scope.at("deep");
                stem = conv_norm(&mut scope.at(index), ["conv", "bn"], layers, &stem, Relu)?;
            }
        }
        let mut features = stem_pool(scope, self.stem, stem);
        let stages = [&self.layer1, &self.layer2, &self.layer3, &self.layer4];
        for (index, (stage, after)) in stages.into_iter().zip(&self.after).enumerate() {
            let name = format!("layer{}", index + 1);
            features = stage.lower_block(&mut scope.at(name), &features)?;
            features = after.lower_block(&mut scope.at("after").at(index), &features)?;
        }
        Ok(features)
    }
}

impl<I: LowerBlock, A: LowerBlock> LowerBlock for LateStages<I, A> {
    fn lower_block(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let mut features = features.clone();
        for (index, (stage, after)) in self.stages.iter().zip(&self.after).enumerate() {
            features = stage.lower_block(&mut scope.at("stages").at(index), &features)?;
            features = after.lower_block(&mut scope.at("after").at(index), &features)?;
        }
        Ok(features)
    }
}

impl<I: LowerBlock> LowerBlock for ResidualBlock<I> {
    fn lower_block(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let shortcut = match &self.downsample {
            Some((conv, norm)) => {
                let (names, layers) = (["0", "1"], (conv, norm.as_ref()));
                let scope = &mut scope.at("downsample");
                conv_norm(scope, names, layers, features, Activation::None)?
            }
            None => match self.padded {
                Some(padded) => {
                    let device = self.conv1.weight.val().device();
                    padded_shortcut(scope, (padded, device), features)?
                }
                None => features.clone(),
            },
        };
        let hidden = first(self, scope, features)?;
        let second = (&self.conv2, self.bn2.as_ref());
        let names = ["conv2", "bn2"];
        let residual = match &self.conv3 {
            None => conv_norm(scope, names, second, &hidden, Activation::None)?,
            Some(conv3) => {
                let hidden = conv_norm(scope, names, second, &hidden, Relu)?;
                let (names, third) = (["conv3", "bn3"], (conv3, self.bn3.as_ref()));
                conv_norm(scope, names, third, &hidden, Activation::None)?
            }
        };
        let inside = self
            .se_module
            .lower_block(&mut scope.at("se_module"), &residual)?;
        let sum = scope.add(&inside, &shortcut);
        let sum = instance_norm(scope, "in_sum", self.in_sum.as_ref(), sum);
        Ok(scope.relu(&sum))
    }
}

/// Adds a shortcut without parameters, as a strided 1 x 1 convolution whose weights are 0 and 1.
fn padded_shortcut(
    scope: &mut Scope<'_>,
    (shortcut, device): (PaddedShortcut, Device),
    features: &Value<3>,
) -> Result<Value<3>, Error> {
    let [channels, _, _] = features.dims;
    let outputs = shortcut.before + channels + shortcut.after;
    let mut weights = vec![0.0_f32; outputs * channels];
    for channel in 0..channels {
        weights[(shortcut.before + channel) * channels + channel] = 1.0;
    }
    let config = Conv2dConfig::new([channels, outputs], [1, 1]).with_bias(false);
    let config = config.with_stride([shortcut.stride; 2]);
    let mut conv = Init::empty(&device).conv2d(&config);
    let weights = TensorData::new(weights, [outputs, channels, 1, 1]);
    conv.weight = Param::from_tensor(Tensor::from_data(weights, &device));
    scope.at("shortcut").conv2d(&conv, features)
}

/// Adds the first convolution of a residual block, its normalisation and `ReLU`. In IBN-a, the two halves of
/// the channels have different normalisations.
fn first<I>(
    block: &ResidualBlock<I>,
    scope: &mut Scope<'_>,
    features: &Value<3>,
) -> Result<Value<3>, Error> {
    let (Some(half), Some(rest)) = (&block.in1, &block.bn1) else {
        let layers = (&block.conv1, block.bn1.as_ref());
        return conv_norm(scope, ["conv1", "bn1"], layers, features, Relu);
    };
    let hidden = scope.at("conv1").conv2d(&block.conv1, features)?;
    let ([first], channels) = (half.weight.shape().dims(), hidden.dims[0]);
    let instances = scope.slice(&hidden, 0, [0, first]);
    let batch = scope.slice(&hidden, 0, [first, channels]);
    let instances = scope.at("in1").instance_norm(half, &instances);
    let batch = scope.at("bn1").batch_norm(rest, &batch);
    let both = scope.concat(&[instances, batch]);
    Ok(scope.relu(&both))
}
