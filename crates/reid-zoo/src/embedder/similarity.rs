//! Similarity maps of images: why an embedder finds them similar.

use image::RgbImage;
use reid_core::SimilarityMap;
use reid_nn::similarity_map::{EmbeddingTerms, similarity_maps};

use super::Embedder;
use crate::error::Error;

/// The number of images whose terms are in memory at a time.
const CHUNK: usize = 8;

impl Embedder {
    /// Computes why an image is similar to each of the others: the contribution of each pair of positions to
    /// the cosine similarity of the embeddings ([`similarity_maps`]). `reid-vis` draws them.
    ///
    /// The contributions add up to the similarity of the embeddings, also with a flip test. For a custom head
    /// without a closed form, autodiff computes them, which takes longer. No classifier is needed. Eight of
    /// the other images are in memory at a time.
    ///
    /// ```no_run
    /// use reid_data::open_image;
    /// use reid_zoo::Embedder;
    ///
    /// let embedder = Embedder::open("run/best")?;
    /// let (query, found) = (open_image("query.jpg")?, open_image("found.jpg")?);
    /// let maps = embedder.similarity_maps(&query, &[found])?;
    /// println!("similarity {}", maps[0].similarity());
    /// for link in maps[0].strongest_links(5) {
    ///     println!("{:?} and {:?} contribute {}", link.first, link.second, link.contribution);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If there are no other images, if the embedder was made of a custom model that does not implement
    /// [`Embed::embedding_terms`](reid_nn::Embed::embedding_terms), or if a contribution is not finite.
    pub fn similarity_maps(
        &self,
        image: &RgbImage,
        others: &[RgbImage],
    ) -> Result<Vec<SimilarityMap>, Error> {
        if others.is_empty() {
            return Err(reid_train::Error::NoImages { split: None }.into());
        }
        let one = self.terms(std::slice::from_ref(image))?;
        let mut maps = Vec::with_capacity(others.len());
        for others in others.chunks(CHUNK) {
            maps.extend(similarity_maps(&one, &self.terms(others)?)?);
        }
        Ok(maps)
    }

    /// The terms of embeddings, averaged over the image and its mirror image in a flip test.
    fn terms(&self, images: &[RgbImage]) -> Result<EmbeddingTerms, Error> {
        let images = self.extractor.prepare(images, &self.device);
        let images = self.extractor.precision().cast(images);
        let terms = |images| self.model.embedding_terms(images).ok_or(Error::NoTerms);
        if !self.extractor.flip_test() {
            return terms(images);
        }
        let mirrored = terms(images.clone().flip([3]))?.mirrored();
        Ok(terms(images)?.mean_with(mirrored))
    }
}
