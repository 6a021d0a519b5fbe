//! Blocks in the graph, and the layers that they share: a convolution and its normalisation.

use burn::nn::conv::Conv2d;
use reid_nn::{
    block::Identity,
    norm::{BatchNorm, InstanceNorm},
};

use crate::{
    error::Error,
    graph::{Scope, Value},
};

/// A block that can be exported: it adds its operators to the graph.
///
/// Implement it for a custom [`Block`](reid_nn::Block), so that networks with it can be exported. The block
/// is in evaluation mode, with batch normalisation folded.
///
/// ```
/// use burn::{module::Module, tensor::Tensor};
/// use reid_nn::{Block, norm::BatchNorm};
/// use reid_onnx::{Error, LowerBlock, Scope, Value};
///
/// #[derive(Module, Debug)]
/// struct NormRelu {
///     norm: BatchNorm,
/// }
///
/// impl Block for NormRelu {
///     fn forward(&self, features: Tensor<4>) -> Tensor<4> {
///         self.norm.forward_relu(features)
///     }
/// }
///
/// impl LowerBlock for NormRelu {
///     fn lower_block(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
///         let normalised = scope.at("norm").batch_norm(&self.norm, features);
///         Ok(scope.relu(&normalised))
///     }
/// }
/// # let _ = |norm| NormRelu { norm };
/// ```
pub trait LowerBlock {
    /// Adds the operators of the block to the graph, and returns the output.
    ///
    /// # Shapes
    /// - `features`: `[channels, height, width]`, without the batch
    /// - result: that of the block
    ///
    /// # Errors
    /// If the block, or a part of it, cannot be exported.
    fn lower_block(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error>;
}

/// A gate that can be exported. Every such gate is a [`LowerBlock`], which has an example: the features are
/// multiplied by the factors.
pub trait LowerGate {
    /// Adds the operators of the gate to the graph, and returns the factors.
    ///
    /// # Shapes
    /// - `features`: `[channels, height, width]`, without the batch
    /// - result: the same, or size 1 in a dimension where one factor applies to all elements
    ///
    /// # Errors
    /// If the gate, or a part of it, cannot be exported.
    fn lower_gate(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error>;
}

impl<G: LowerGate> LowerBlock for G {
    fn lower_block(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let factors = self.lower_gate(scope, features)?;
        Ok(scope.mul(features, &factors))
    }
}

impl LowerBlock for Identity {
    fn lower_block(&self, _: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        Ok(features.clone())
    }
}

impl<B: LowerBlock> LowerBlock for Option<B> {
    fn lower_block(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        match self {
            Some(block) => block.lower_block(scope, features),
            None => Ok(features.clone()),
        }
    }
}

impl<B: LowerBlock> LowerBlock for Vec<B> {
    fn lower_block(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let mut features = features.clone();
        for (index, block) in self.iter().enumerate() {
            features = block.lower_block(&mut scope.at(index), &features)?;
        }
        Ok(features)
    }
}

macro_rules! tuple_of_blocks {
    ($($name:ident $index:tt),+) => {
        impl<$($name: LowerBlock),+> LowerBlock for ($($name,)+) {
            fn lower_block(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
                let features = features.clone();
                $(let features = self.$index.lower_block(&mut scope.at($index), &features)?;)+
                Ok(features)
            }
        }
    };
}

tuple_of_blocks!(A 0, B 1);
tuple_of_blocks!(A 0, B 1, C 2);
tuple_of_blocks!(A 0, B 1, C 2, D 3);

/// What follows a convolution and its normalisation.
#[derive(Clone, Copy)]
pub(crate) enum Activation {
    None,
    Relu,
    /// `min(max(0, x), 6)`.
    Relu6,
}

/// Adds a convolution, the batch normalisation after it unless it is folded, and an activation. The parts
/// have these names.
pub(crate) fn conv_norm(
    scope: &mut Scope<'_>,
    [conv_name, norm_name]: [&str; 2],
    (conv, norm): (&Conv2d, Option<&BatchNorm>),
    features: &Value<3>,
    activation: Activation,
) -> Result<Value<3>, Error> {
    let mut output = scope.at(conv_name).conv2d(conv, features)?;
    if let Some(norm) = norm {
        output = scope.at(norm_name).batch_norm(norm, &output);
    }
    Ok(match activation {
        Activation::None => output,
        Activation::Relu => scope.relu(&output),
        Activation::Relu6 => scope.clamp(&output, 0.0, Some(6.0)),
    })
}

/// Adds an instance normalisation with this name, if there is one.
pub(crate) fn instance_norm(
    scope: &mut Scope<'_>,
    name: &str,
    norm: Option<&InstanceNorm>,
    features: Value<3>,
) -> Value<3> {
    match norm {
        Some(norm) => scope.at(name).instance_norm(norm, &features),
        None => features,
    }
}
