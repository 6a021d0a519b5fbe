//! Hard examples as parts of a page: the worst queries with the images that rank above their matches, and the
//! hardest triplets.

use image::RgbImage;
use reid_core::{InputSize, Sample, Split, Splits};
use reid_eval::{HardQuery, HardTriplet, RankedEntry};

use crate::{
    ContactSheet, Error, Page, RankedFigure, RankedRow, RankedTile, open_picture,
    ranked_list::sample,
};

impl RankedRow {
    /// Reads the images of a hard query from disk: the query, the listed non-matches, and the first match
    /// with its rank.
    ///
    /// # Errors
    /// If one of the images cannot be read or decoded ([`Error::Open`]).
    ///
    /// # Panics
    /// If the query has the index of a query or gallery image that the splits do not have.
    pub fn open_hard(splits: &Splits, hard: &HardQuery) -> Result<Self, Error> {
        let open = |split, index| open_picture(&sample(splits, split, index).path);
        let tile = |entry: &RankedEntry, rank| -> Result<_, Error> {
            let picture = open(Split::Gallery, entry.gallery)?;
            Ok(RankedTile {
                rank,
                ..RankedTile::new(picture, entry.distance, entry.relevance)
            })
        };
        let wrong = hard.wrong.iter().map(|entry| tile(entry, None));
        let mut found = wrong.collect::<Result<Vec<_>, _>>()?;
        found.push(tile(&hard.first_match, hard.result.first_match)?);
        Ok(Self {
            query: open(Split::Query, hard.result.query)?,
            found,
            ..Self::default()
        })
    }
}

impl Page {
    /// Adds hard queries ([`Report::hard_queries`](reid_eval::Report::hard_queries)): a table with the file,
    /// the identity and the average precision of each, and a figure. In the figure, the non-matches that rank
    /// above the first match follow each query, and then the first match with its rank.
    ///
    /// ```
    /// use reid_core::{Identity, Sample, Splits};
    /// use reid_eval::{Distances, Embeddings, Metric, Protocol, RetrievalTask, evaluate};
    /// use reid_vis::{Page, RgbImage, save_picture};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let sample = |name: &str, identity| {
    ///     let path = folder.path().join(name);
    ///     save_picture(&path, &RgbImage::new(8, 16)).map(|()| Sample::new(path, Identity::new(identity)))
    /// };
    /// let splits = Splits::new("toy")
    ///     .with_query(vec![sample("query.png", 7)?])
    ///     .with_gallery(vec![sample("anna.png", 7)?, sample("ben.png", 8)?]);
    /// let embeddings = |values: &[f32], samples: &[Sample]| {
    ///     let identities = samples.iter().map(|sample| sample.identity);
    ///     Embeddings::new(values.to_vec(), 2, identities.collect())
    /// };
    /// let query = embeddings(&[1.0, 0.0], &splits.query)?;
    /// let gallery = embeddings(&[0.0, 1.0, 1.0, 0.1], &splits.gallery)?;
    ///
    /// let protocol = Protocol::NoCameras;
    /// let report = evaluate(&query, &gallery, &protocol)?;
    /// let distances = Distances::between(&query, &gallery, Metric::Cosine)?;
    /// let task = RetrievalTask::new(&distances, query.labels(), gallery.labels()).with_protocol(&protocol);
    /// let page = Page::new("toy").with_hard_queries(&splits, &report.hard_queries(&task, 8, 9)?)?;
    /// assert!(page.to_html().contains("query.png</td><td>7</td><td>50.00 %</td><td>2</td>"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If an image cannot be read or decoded ([`Error::Open`]).
    ///
    /// # Panics
    /// If a query has the index of a query or gallery image that the splits do not have.
    pub fn with_hard_queries(self, splits: &Splits, hard: &[HardQuery]) -> Result<Self, Error> {
        let rows = hard.iter().map(|hard| {
            let result = &hard.result;
            let query = sample(splits, Split::Query, result.query);
            let rank = result.first_match.map(|rank| rank.to_string());
            let precision = 100.0 * result.average_precision.unwrap_or(0.0);
            [
                query.path.display().to_string(),
                query.identity.to_string(),
                format!("{precision:.2} %"),
                rank.unwrap_or_default(),
            ]
        });
        let columns = [
            "query",
            "identity",
            "average precision",
            "rank of first match",
        ];
        let page = self.with_table(&columns, rows);
        let rows = hard.iter().map(|hard| RankedRow::open_hard(splits, hard));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let Some(first) = rows.first() else {
            return Ok(page);
        };
        let figure = RankedFigure::new().with_tile(tile(&first.query));
        let description = "Each query with the nearest images that rank above its first match, and the first \
                           match with its rank.";
        page.with_picture(description, &figure.draw(&rows))
    }

    /// Adds hard triplets of samples ([`hard_triplets`](reid_eval::hard_triplets)): a table and a contact
    /// sheet of their images.
    ///
    /// # Errors
    /// If an image cannot be read or decoded ([`Error::Open`]).
    ///
    /// # Panics
    /// If a triplet has the index of a sample that does not exist.
    pub fn with_hard_triplets(
        self,
        samples: &[Sample],
        triplets: &[HardTriplet],
    ) -> Result<Self, Error> {
        let path = |index: usize| {
            let count = samples.len();
            let sample = samples.get(index).unwrap_or_else(|| {
                panic!("a triplet contains sample {index} (from 0), but there are {count} samples")
            });
            &sample.path
        };
        let rows = triplets.iter().map(|triplet| {
            let images = [triplet.anchor, triplet.positive, triplet.negative];
            let [anchor, positive, negative] =
                images.map(|image| path(image).display().to_string());
            let distances = [triplet.positive_distance, triplet.negative_distance];
            let [to_positive, to_negative] = distances.map(|distance| format!("{distance:.4}"));
            [anchor, positive, to_positive, negative, to_negative]
        });
        let columns = [
            "image",
            "farthest of its identity",
            "distance",
            "nearest of another identity",
            "distance",
        ];
        let page = self.with_table(&columns, rows);
        let captions = ["image", "same identity", "another identity"];
        let mut sheet = ContactSheet::new(captions);
        for (number, triplet) in triplets.iter().enumerate() {
            let images = [triplet.anchor, triplet.positive, triplet.negative];
            let pictures = images.iter().map(|&image| open_picture(path(image)));
            let pictures = pictures.collect::<Result<Vec<_>, _>>()?;
            if number == 0 {
                sheet = sheet.with_cell(tile(&pictures[0]));
            }
            sheet = sheet.with_row(pictures);
        }
        if triplets.is_empty() {
            return Ok(page);
        }
        let description = "Images with the farthest image of the same identity and the nearest image of \
                           another one.";
        page.with_picture(description, &sheet.draw())
    }
}

/// The size of tiles of images such as this one: upright as people, or square.
fn tile(picture: &RgbImage) -> InputSize {
    if 2 * picture.height() < 3 * picture.width() {
        InputSize::new(96, 96)
    } else {
        InputSize::new(128, 64)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use image::Rgb;
    use reid_core::Identity;
    use reid_eval::{
        Distances, Embeddings, Metric, Protocol, Relevance, RetrievalTask, evaluate, hard_triplets,
    };

    use super::*;

    fn write(folder: &Path, name: &str, identity: i64, [width, height]: [u32; 2]) -> Sample {
        let path = folder.join(name);
        let picture = RgbImage::from_pixel(width, height, Rgb([0, 0, 200]));
        crate::save_picture(&path, &picture).expect("written");
        Sample::new(path, Identity::new(identity))
    }

    fn embeddings(values: &[f32], samples: &[Sample]) -> Embeddings {
        let identities = samples.iter().map(|sample| sample.identity);
        Embeddings::new(values.to_vec(), 1, identities.collect()).expect("one dimension")
    }

    #[test]
    fn a_hard_query_is_drawn_with_the_rank_of_its_first_match() {
        let folder = tempfile::tempdir().expect("a folder");
        let names = ["a.png", "b.png", "c.png", "d.png"];
        let gallery = names.iter().zip([1, 2, 3, 4]);
        let gallery = gallery.map(|(name, identity)| write(folder.path(), name, identity, [2, 4]));
        let mut splits = Splits::new("toy")
            .with_query(vec![write(folder.path(), "q.png", 1, [2, 4])])
            .with_gallery(gallery.collect());
        let query = embeddings(&[0.0], &splits.query);
        let gallery = embeddings(&[9.0, 3.0, 2.0, 1.0], &splits.gallery);
        let config = reid_eval::EvaluationConfig::default()
            .with_metric(Metric::Euclidean)
            .with_protocol(Protocol::NoCameras);
        let report = evaluate(&query, &gallery, &config).expect("a match");
        let distances = Distances::between(&query, &gallery, Metric::Euclidean).expect("equal");
        let task = RetrievalTask::new(&distances, query.labels(), gallery.labels())
            .with_protocol(&config.protocol);
        let hard = report.hard_queries(&task, 5, 2).expect("the same task");
        let row = RankedRow::open_hard(&splits, &hard[0]).expect("opened");
        let tiles = row.found.iter().map(|tile| (tile.relevance, tile.rank));
        let (wrong, right) = (Relevance::NonMatch, Relevance::Match);
        let expected = [(wrong, None), (wrong, None), (right, Some(4))];
        assert_eq!(tiles.collect::<Vec<_>>(), expected);

        let page = Page::new("")
            .with_hard_queries(&splits, &hard)
            .expect("opened");
        let html = page.to_html();
        assert!(
            html.contains("q.png</td><td>1</td><td>25.00 %</td><td>4</td>"),
            "{html}"
        );
        assert_eq!(html.matches("<img").count(), 1);
        let none = Page::new("")
            .with_hard_queries(&splits, &[])
            .expect("no image");
        assert_eq!(none.to_html().matches("<img").count(), 0);

        splits.gallery[0].path = folder.path().join("gone.png");
        let error = Page::new("").with_hard_queries(&splits, &hard);
        let error = error.expect_err("not there").to_string();
        assert!(error.contains("gone.png"), "{error}");
    }

    #[test]
    fn triplets_are_a_table_and_a_sheet() {
        let folder = tempfile::tempdir().expect("a folder");
        let samples = [("a.png", 1), ("b.png", 1), ("c.png", 2)];
        let samples = samples.map(|(name, identity)| write(folder.path(), name, identity, [4, 4]));
        let embeddings = embeddings(&[0.0, 3.0, 1.0], &samples);
        let triplets = hard_triplets(&embeddings, Metric::Euclidean, 9).expect("finite");
        assert_eq!(triplets.len(), 1);
        let page = Page::new("")
            .with_hard_triplets(&samples, &triplets)
            .expect("opened");
        let html = page.to_html();
        assert!(html.contains("b.png</td><td>3.0000</td>"), "{html}");
        assert!(html.contains("c.png</td><td>1.0000</td>"), "{html}");
        assert_eq!(html.matches("<img").count(), 1);
        let none = Page::new("")
            .with_hard_triplets(&samples, &[])
            .expect("no image");
        assert_eq!(none.to_html().matches("<img").count(), 0);
    }

    #[test]
    #[should_panic(expected = "a triplet contains sample 4 (from 0), but there are 0 samples")]
    fn a_triplet_of_other_samples_is_rejected() {
        let triplet = HardTriplet::new([4, 5, 6], [0.5, 0.4]);
        drop(Page::new("").with_hard_triplets(&[], &[triplet]));
    }

    #[test]
    fn tiles_have_the_shape_of_people_or_of_vehicles() {
        let size = |width, height| tile(&RgbImage::new(width, height));
        assert_eq!(size(64, 128), InputSize::new(128, 64));
        assert_eq!(size(100, 80), InputSize::new(96, 96));
    }
}
