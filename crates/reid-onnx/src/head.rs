//! Heads in the graph.

use reid_nn::{
    head::{
        BlockThenHead, BnNeck, BranchedHead, Branches, ChannelGroupsHead, LinearBnNeck,
        LinearBnReluHead, NeckFeature, PooledHead, ReducedBnNeck, StripeHead,
    },
    norm::BatchNorm,
    pool::{Pool, PoolConfig},
};

use crate::{
    backbone::layer,
    block::{Activation::Relu, LowerBlock},
    error::Error,
    graph::{Scope, Value},
};

/// The smallest exponent of generalised-mean pooling that single-precision powers compute accurately.
const LEAST_EXPONENT: f32 = 0.01;
/// The smallest exponent with which the maximum is exported. A runtime may round the ratio of the largest
/// value to itself down, and its power to 0. The mean of 10⁶ values differs from the maximum by at most
/// 1.4e-5 of it.
const MAX_EXPONENT: f32 = 1e6;

/// A head that can be exported: it adds the operators of its embedding to the graph. Classifiers are not
/// exported.
///
/// Implement it for a custom [`Head`](reid_nn::Head), so that networks with it can be exported.
///
/// ```
/// use burn::{module::Module, tensor::{Device, Tensor}};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Head, Init, ReidModel, ReidOutput, backbone::ResNetConfig, pool};
/// # use reid_core::FeatureShape;
/// # use reid_nn::{HeadConfig, OutputShape};
/// use reid_onnx::{Error, ExportConfig, LowerHead, Scope, Value, export_onnx};
///
/// #[derive(Module, Debug)]
/// struct MaxHead {}
///
/// impl Head for MaxHead {
///     fn forward(&self, features: Tensor<4>) -> ReidOutput {
///         let features = pool::max(features);
///         ReidOutput::single(features.clone(), features)
///     }
/// }
///
/// impl LowerHead for MaxHead {
///     fn lower_head(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<1>, Error> {
///         let pooled = scope.global_max_pool(features);
///         Ok(scope.flatten(&pooled))
///     }
/// }
/// # struct MaxHeadConfig;
/// # impl HeadConfig for MaxHeadConfig {
/// #     type Head = MaxHead;
/// #     fn init(&self, _input: FeatureShape, _classes: usize, _init: &Init<'_>) -> MaxHead {
/// #         MaxHead {}
/// #     }
/// #     fn output(&self, input: FeatureShape, classes: usize) -> OutputShape {
/// #         OutputShape::single(input.channels, classes)
/// #     }
/// # }
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("max.onnx");
/// let (device, input) = (Device::default(), InputSize::new(32, 16));
/// let backbone = ResNetConfig::resnet18().with_width(4);
/// let init = Init::new(Seed::new(1), &device);
/// let model = ReidModel::new(&backbone, &MaxHeadConfig, input, 10, &init);
/// export_onnx(&model, &ExportConfig::new(input), &path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait LowerHead {
    /// Adds the operators of the embedding to the graph, and returns it.
    ///
    /// # Shapes
    /// - `features`: `[channels, height, width]`, without the batch
    /// - result: `[dimensions]`
    ///
    /// # Errors
    /// If the head, or a part of it, cannot be exported.
    fn lower_head(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<1>, Error>;
}

impl<H: LowerHead> LowerHead for Vec<H> {
    fn lower_head(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<1>, Error> {
        let heads = self.iter().enumerate();
        let embeddings = heads.map(|(index, head)| head.lower_head(&mut scope.at(index), features));
        let embeddings = embeddings.collect::<Result<Vec<_>, _>>()?;
        Ok(scope.concat(&embeddings))
    }
}

macro_rules! tuple_of_heads {
    ($($name:ident $index:tt),+) => {
        impl<$($name: LowerHead),+> LowerHead for ($($name,)+) {
            fn lower_head(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<1>, Error> {
                let embeddings = [$(self.$index.lower_head(&mut scope.at($index), features)?),+];
                Ok(scope.concat(&embeddings))
            }
        }
    };
}

tuple_of_heads!(A 0, B 1);
tuple_of_heads!(A 0, B 1, C 2);
tuple_of_heads!(A 0, B 1, C 2, D 3);

impl LowerHead for BnNeck {
    fn lower_head(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<1>, Error> {
        let before = pooled(scope, &self.pool, features)?;
        Ok(neck(scope, self.embedding, &self.bottleneck, before))
    }
}

impl LowerHead for PooledHead {
    fn lower_head(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<1>, Error> {
        pooled(scope, &self.pool, features)
    }
}

impl LowerHead for LinearBnReluHead {
    fn lower_head(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<1>, Error> {
        let pooled = pooled(scope, &self.pool, features)?;
        let hidden = scope.at("reduction").linear(&self.reduction, &pooled);
        let hidden = scope.at("norm").batch_norm(&self.norm, &hidden);
        Ok(scope.relu(&hidden))
    }
}

impl LowerHead for ReducedBnNeck {
    fn lower_head(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<1>, Error> {
        let pooled = pooled(scope, &self.pool, features)?;
        let hidden = scope.at("reduction").linear(&self.reduction, &pooled);
        let hidden = scope.at("norm").batch_norm(&self.norm, &hidden);
        let before = scope.relu(&hidden);
        Ok(neck(scope, self.embedding, &self.bottleneck, before))
    }
}

impl LowerHead for LinearBnNeck {
    fn lower_head(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<1>, Error> {
        let pooled = pooled_map(scope, &self.pool, features)?;
        let before = scope.at("reduction").conv2d(&self.reduction, &pooled)?;
        let before = scope.flatten(&before);
        Ok(neck(scope, self.embedding, &self.bottleneck, before))
    }
}

impl LowerHead for ChannelGroupsHead {
    fn lower_head(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<1>, Error> {
        let pooled = scope.global_avg_pool(features);
        let channels = pooled.dims[0] / self.necks.len().max(1);
        let mut embeddings = Vec::new();
        for (index, head) in self.necks.iter().enumerate() {
            let group = scope.slice(&pooled, 0, [index * channels, (index + 1) * channels]);
            let hidden = layer(&mut scope.at("shared"), &self.shared, &group, Relu)?;
            embeddings.push(head.lower_head(&mut scope.at("necks").at(index), &hidden)?);
        }
        Ok(scope.concat(&embeddings))
    }
}

impl<H: LowerHead> LowerHead for StripeHead<H> {
    fn lower_head(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<1>, Error> {
        let mut embeddings = vec![self.whole.lower_head(&mut scope.at("whole"), features)?];
        let rows = features.dims[1] / self.stripes.len().max(1);
        for (index, head) in self.stripes.iter().enumerate() {
            let stripe = scope.slice(features, 1, [index * rows, (index + 1) * rows]);
            embeddings.push(head.lower_head(&mut scope.at("stripes").at(index), &stripe)?);
        }
        Ok(scope.concat(&embeddings))
    }
}

impl<B: LowerBlock, H: LowerHead> LowerHead for BlockThenHead<B, H> {
    fn lower_head(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<1>, Error> {
        let features = self.block.lower_block(&mut scope.at("block"), features)?;
        self.head.lower_head(&mut scope.at("head"), &features)
    }
}

impl<B: Branches + LowerHead, G: LowerHead> LowerHead for BranchedHead<B, G> {
    fn lower_head(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<1>, Error> {
        let bottleneck = &self.bottleneck;
        let shared = bottleneck.lower_block(&mut scope.at("bottleneck"), features)?;
        let global = self.global.as_ref();
        let global = global.map(|head| head.lower_head(&mut scope.at("global"), features));
        let mut embeddings = Vec::from_iter(global.transpose()?);
        if !self.branches.list().is_empty() {
            embeddings.push(
                self.branches
                    .lower_head(&mut scope.at("branches"), &shared)?,
            );
        }
        Ok(scope.concat(&embeddings))
    }
}

/// Adds the neck of a head, unless the embedding is taken before it.
fn neck(
    scope: &mut Scope<'_>,
    embedding: NeckFeature,
    norm: &BatchNorm,
    before: Value<1>,
) -> Value<1> {
    match embedding {
        NeckFeature::Before => before,
        NeckFeature::After => scope.at("bottleneck").batch_norm(norm, &before),
        NeckFeature::AfterUnit => {
            let after = scope.at("bottleneck").batch_norm(norm, &before);
            scope.unit_length(&after)
        }
    }
}

/// Adds global pooling.
fn pooled(scope: &mut Scope<'_>, pool: &Pool, features: &Value<3>) -> Result<Value<1>, Error> {
    let pooled = pooled_map(scope, pool, features)?;
    Ok(scope.flatten(&pooled))
}

/// Adds global pooling to a feature map of height and width 1.
fn pooled_map(scope: &mut Scope<'_>, pool: &Pool, features: &Value<3>) -> Result<Value<3>, Error> {
    let scope = &mut scope.at("pool");
    Ok(match pool.config() {
        PoolConfig::Average => scope.global_avg_pool(features),
        PoolConfig::Max => scope.global_max_pool(features),
        PoolConfig::GeneralisedMean { exponent } => generalised_mean(scope, features, exponent)?,
    })
}

/// Adds the generalised mean, relative to the largest value of a channel, so that no power exceeds 1.
///
/// ```text
/// x₀ = max_hw(max(x, 1e-6))      f = x₀·mean_hw((max(x, 1e-6)/x₀)^p)^(1/p)
/// ```
fn generalised_mean(
    scope: &mut Scope<'_>,
    features: &Value<3>,
    exponent: f64,
) -> Result<Value<3>, Error> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the exponent is a single-precision parameter"
    )]
    let exponent = exponent as f32;
    if exponent < LEAST_EXPONENT {
        let expected =
            format!("an exponent of generalised-mean pooling of at least {LEAST_EXPONENT}");
        return Err(scope.unsupported(expected, exponent));
    }
    let floored = scope.clamp(features, 1e-6, None);
    let largest = scope.global_max_pool(&floored);
    if exponent >= MAX_EXPONENT {
        return Ok(largest);
    }
    let ratios = scope.div(&floored, &largest);
    let powers = scope.pow(&ratios, exponent);
    let mean = scope.global_avg_pool(&powers);
    let root = scope.pow(&mean, exponent.recip());
    Ok(scope.mul(&root, &largest))
}
