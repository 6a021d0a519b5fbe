//! Embeddings of the boxes that a detector found in a frame.

use image::RgbImage;
use reid_data::{BoundingBox, Frame};
use reid_eval::{Embeddings, Labels};

use super::Embedder;
use crate::error::Error;

impl Embedder {
    /// Computes the embeddings of the boxes that a detector found in a frame, in order, with unknown
    /// identities: `[boxes, dimensions]`. Without boxes, the result has no rows.
    ///
    /// Each box is cropped from the frame, resized and normalised in parallel, one batch at a time. Its
    /// embedding is that of the cropped image by [`embed`](Self::embed). [`Frame::region`] defines the pixels
    /// that a box covers; a box that extends beyond the frame is clipped.
    ///
    /// ```
    /// use burn::tensor::Device;
    /// use reid_core::{InputSize, Seed};
    /// use reid_data::{BoundingBox, Frame};
    /// use reid_nn::{Init, Network, backbone::ResNetConfig, head::BnNeckConfig};
    /// use reid_zoo::{BagOfTricksConfig, Embedder};
    ///
    /// let (device, input) = (Device::default(), InputSize::new(32, 16));
    /// let backbone = ResNetConfig::resnet18().with_width(4);
    /// let network = BagOfTricksConfig { backbone, head: BnNeckConfig::new() };
    /// let model = network.init(input, 10, &Init::new(Seed::new(1), &device));
    /// let embedder = Embedder::new(model, input, &device);
    ///
    /// let image = image::RgbImage::new(64, 48);
    /// let frame = Frame::from(&image).with_name("camera 3, frame 1200");
    /// let boxes = [BoundingBox::new(3.0, 5.0, 10.0, 20.0), BoundingBox::new(50.0, 20.0, 30.0, 30.0)];
    /// let embeddings = embedder.embed_boxes(&frame, &boxes)?;
    /// assert_eq!((embeddings.len(), embeddings.dimensions()), (2, 32));
    /// # Ok::<(), reid_zoo::Error>(())
    /// ```
    ///
    /// # Errors
    /// If boxes have an infinite value or NaN, no area, or no pixel in the frame; the error names the frame
    /// and every such box. Also if an embedding is not finite.
    pub fn embed_boxes(
        &self,
        frame: &Frame<'_>,
        boxes: &[BoundingBox],
    ) -> Result<Embeddings, Error> {
        if boxes.is_empty() {
            let none = Embeddings::from_parts(Vec::new(), self.dimensions()?, Labels::unknown(0));
            return Ok(none.map_err(reid_train::Error::from)?);
        }
        let model = &*self.model;
        Ok(self
            .extractor
            .embed_boxes(model, frame, boxes, &self.device)?)
    }

    /// The number of dimensions of an embedding. The first call embeds a black image to find it.
    ///
    /// # Errors
    /// If the embedding of a black image is not finite.
    pub fn dimensions(&self) -> Result<usize, Error> {
        if let Some(dimensions) = self.dimensions.get() {
            return Ok(*dimensions);
        }
        let found = self.embed(&RgbImage::new(1, 1))?.len();
        Ok(*self.dimensions.get_or_init(|| found))
    }
}
