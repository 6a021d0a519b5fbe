//! Embeddings of the boxes that a detector found in a frame.

use std::path::PathBuf;

use burn::tensor::Device;
use reid_data::{BoundingBox, Frame};
use reid_eval::Embeddings;
use reid_nn::Embed;

use super::Extractor;
use crate::error::Error;

impl Extractor {
    /// Computes the embeddings of the boxes of a frame, in order, with unknown identities: `[boxes, dimensions]`.
    ///
    /// Each box is cropped, resized and normalised in parallel, one batch at a time. An embedding is that of
    /// the cropped image by [`embed_images`](Self::embed_images). [`Frame::region`] defines the pixels that a
    /// box covers.
    ///
    /// # Errors
    /// If there are no boxes, if boxes cannot be cropped ([`reid_data::Error::Boxes`] has the index of each),
    /// or if an embedding is not finite. The error names the frame and the index of the box, from 0.
    pub fn embed_boxes(
        &self,
        model: &dyn Embed,
        frame: &Frame<'_>,
        boxes: &[BoundingBox],
        device: &Device,
    ) -> Result<Embeddings, Error> {
        let regions = frame.regions(boxes)?;
        let prepare = |index: usize| self.loader.prepare(&frame.crop(&regions[index]));
        let embeddings = self.embed_prepared(model, regions.len(), prepare, device);
        embeddings.map_err(|error| match error {
            Error::Embedding { split, row, .. } => {
                let image = PathBuf::from(format!("box {row} of {frame}"));
                Error::Embedding { split, row, image }
            }
            error => error,
        })
    }
}
