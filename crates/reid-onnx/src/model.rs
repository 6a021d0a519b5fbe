//! Whole networks in the graph.

use reid_nn::{
    Block, Head, Model, ReidModel,
    segmentation::{PixelModel, SegmentationModel},
};
use reid_zoo::ArchitectureModel;

use crate::{
    block::LowerBlock,
    error::Error,
    graph::{Scope, Value},
    head::LowerHead,
};

/// A network that can be exported. A [`ReidModel`] is one if its backbone is a [`LowerBlock`] and its head a
/// [`LowerHead`].
pub trait LowerModel: Model {
    /// Adds the operators from the images to the embeddings to the graph, and returns the embeddings. The
    /// model is in evaluation mode, with batch normalisation folded.
    ///
    /// # Shapes
    /// - `images`: `[3, height, width]`, normalised, without the batch
    /// - result: `[dimensions]`
    ///
    /// # Errors
    /// If a part of the model cannot be exported.
    fn lower_model(&self, scope: &mut Scope<'_>, images: &Value<3>) -> Result<Value<1>, Error>;
}

impl<B: Block + LowerBlock, H: Head + LowerHead> LowerModel for ReidModel<B, H> {
    fn lower_model(&self, scope: &mut Scope<'_>, images: &Value<3>) -> Result<Value<1>, Error> {
        let features = self
            .backbone
            .lower_block(&mut scope.at("backbone"), images)?;
        self.head.lower_head(&mut scope.at("head"), &features)
    }
}

/// A segmentation model that can be exported. A [`SegmentationModel`] is one if its context block, its
/// attention and the blocks in the sockets of its backbone are [`LowerBlock`]s.
pub trait LowerPixelModel: PixelModel {
    /// Adds the operators from the images to the logits of their pixels, `[classes, height, width]`, to the
    /// graph, and returns the logits. The model is in evaluation mode, with batch normalisation folded.
    ///
    /// # Errors
    /// If a part of the model cannot be exported.
    fn lower_pixels(&self, scope: &mut Scope<'_>, images: &Value<3>) -> Result<Value<3>, Error>;
}

impl<C, A, I, S> LowerPixelModel for SegmentationModel<C, A, I, S>
where
    C: Block + LowerBlock,
    A: Block + LowerBlock,
    I: Block + LowerBlock,
    S: Block + LowerBlock,
{
    fn lower_pixels(&self, scope: &mut Scope<'_>, images: &Value<3>) -> Result<Value<3>, Error> {
        let [_, height, width] = images.dims;
        let features = self
            .backbone
            .lower_block(&mut scope.at("backbone"), images)?;
        let logits = self.head.lower_block(&mut scope.at("head"), &features)?;
        Ok(scope.resize(&logits, [height, width], self.alignment))
    }
}

impl LowerModel for ArchitectureModel {
    fn lower_model(&self, scope: &mut Scope<'_>, images: &Value<3>) -> Result<Value<1>, Error> {
        match self {
            Self::Baseline(model) => model.lower_model(scope, images),
            Self::Rga(model) => model.lower_model(scope, images),
            Self::Branched(model) => model.lower_model(scope, images),
            Self::Mgn(model) => model.lower_model(scope, images),
            Self::Fnc(model) => model.lower_model(scope, images),
            Self::OsNet(model) => model.lower_model(scope, images),
            Self::LightMbn(model) => model.lower_model(scope, images),
            Self::OsNetBranched(model) => model.lower_model(scope, images),
            Self::OsNetFnc(model) => model.lower_model(scope, images),
            Self::MobileNetV2(model) => model.lower_model(scope, images),
            Self::ResNet(model) => model.lower_model(scope, images),
            Self::DenseNet(model) => model.lower_model(scope, images),
            _ => Err(scope.unsupported("a network that this version knows", "another one")),
        }
    }
}
