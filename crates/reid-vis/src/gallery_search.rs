//! Searches in a gallery as parts of a page: each query with its ranked gallery images, and the decision.

use std::path::Path;

use image::{ImageFormat, RgbImage, imageops};
use reid_core::Identity;
use reid_eval::{
    Interval, Relevance,
    gallery::{Gallery, GalleryMatch},
};

use crate::{
    Error, Page, RankedRow, RankedTile, open_picture, page::embedded, ranked_list, svg::escaped,
};

/// The largest height and width of an image in a row of a page, in pixels. Larger images are reduced.
const LONGEST_SIDE: u32 = 320;

impl RankedRow {
    /// Reads the images of a search in a gallery from disk: the query, and the nearest image of each identity
    /// that [`Gallery::search`] found.
    ///
    /// `name` returns the name of an identity. If the gallery has a threshold, each image is accepted or not,
    /// and the decision is that of [`Gallery::decide`].
    ///
    /// # Errors
    /// - [`Error::Open`] if an image cannot be read or decoded.
    /// - [`Error::EntryWithoutFile`] if the file of an entry is not known.
    ///
    /// # Panics
    /// If an entry is not in the gallery.
    pub fn open_search(
        gallery: &Gallery,
        query: impl AsRef<Path>,
        found: &[GalleryMatch],
        name: impl Fn(Identity) -> String,
    ) -> Result<Self, Error> {
        let (query, entries) = (query.as_ref(), gallery.entries());
        let tile = |(index, found): (usize, &GalleryMatch)| -> Result<_, Error> {
            let GalleryMatch {
                identity,
                distance,
                entry,
                ..
            } = *found;
            let count = entries.len();
            let labels = entries.get(entry).unwrap_or_else(|| {
                panic!(
                    "the search found entry {entry} (from 0), but the gallery has {count} entries"
                )
            });
            let path = labels.path.as_ref();
            let path = path.ok_or(Error::EntryWithoutFile { entry, identity })?;
            Ok(RankedTile {
                rank: Some(index + 1),
                name: name(identity),
                accepted: gallery
                    .threshold()
                    .map(|threshold| threshold.accepts(distance)),
                ..RankedTile::new(open_picture(path)?, distance, Relevance::Unknown)
            })
        };
        let found = found.iter().enumerate().map(tile);
        let found = found.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            query: open_picture(query)?,
            name: query.display().to_string(),
            decision: decision(gallery, found.first()),
            found,
        })
    }
}

/// The decision about a query in words, from its nearest image. Empty without a threshold.
fn decision(gallery: &Gallery, nearest: Option<&RankedTile>) -> String {
    let Some(threshold) = gallery.threshold() else {
        return String::new();
    };
    let limit = threshold.distance;
    match nearest {
        None => "Unknown: no identity was found in the gallery.".to_owned(),
        Some(tile) if tile.accepted == Some(true) => format!(
            "{}: the distance {:.4} is at most the threshold {limit:.4}.",
            tile.name, tile.distance
        ),
        Some(tile) => format!(
            "Unknown: {} is the nearest, but the distance {:.4} is above the threshold {limit:.4}.",
            tile.name, tile.distance
        ),
    }
}

impl Page {
    /// Adds the legend of searches in a gallery: its size, the threshold with its rates, and what the frames
    /// of accepted and rejected images look like.
    ///
    /// The rates are those of the images that calibrated the threshold. For a query that shows nobody in a
    /// gallery of `n` entries, the probability that it is accepted is at most `n · false_accept_rate`.
    #[must_use]
    pub fn with_search_legend(self, gallery: &Gallery) -> Self {
        let (identities, entries) = (gallery.identities().len(), gallery.entries().len());
        let page = self.with_text(&format!(
            "The gallery has {entries} entries of {identities} identities. Beside each query are the nearest \
             identities, each with its nearest image and its {} distance.",
            gallery.config().metric
        ));
        let Some(threshold) = gallery.threshold() else {
            return page
                .with_text("The gallery has no threshold, so nothing is accepted or rejected.");
        };
        let percent = |rate: f64| format!("{:.2} %", 100.0 * rate);
        let rate = |name: &str, rate: Interval| {
            let interval = format!("{} to {}", percent(rate.low), percent(rate.high));
            [name.to_owned(), percent(rate.value), interval]
        };
        let limit = format!("{:.4}", threshold.distance);
        let rates = threshold.rates;
        let far = rates.false_accepts.value;
        let stranger = percent((far * entries as f64).min(1.0));
        page.with(
            "<p class=\"legend\"><span class=\"accepted\">accepted</span> The distance is at most the \
             threshold. <span class=\"rejected\">rejected</span> The distance is larger.</p>",
        )
        .with_table(
            &["", "value", "confidence interval"],
            [
                ["threshold".to_owned(), limit, String::new()],
                rate(
                    "false accept rate: accepted pairs of different identities",
                    rates.false_accepts,
                ),
                rate(
                    "true accept rate: accepted pairs of one identity",
                    rates.true_accepts,
                ),
            ],
        )
        .with_text(&format!(
            "The rates are those of the images that calibrated the threshold, for a false accept rate of at \
             most {}. A query that shows nobody in the gallery is accepted with a probability of at most \
             {stranger}: the false accept rate times {entries} entries.",
            percent(threshold.wanted)
        ))
    }

    /// Adds a ranked list: the name of the query, the decision in words, and the images in one line. Below
    /// each gallery image are its rank, its name, its distance, and whether it is accepted and right.
    ///
    /// Images are embedded as JPEG, reduced to at most 320 pixels along each side.
    ///
    /// ```
    /// use reid_eval::Relevance;
    /// use reid_vis::{Page, RankedRow, RankedTile, RgbImage};
    ///
    /// let anna = RankedTile {
    ///     name: "anna".to_owned(),
    ///     accepted: Some(true),
    ///     ..RankedTile::new(RgbImage::new(64, 128), 0.21, Relevance::Match)
    /// };
    /// let row = RankedRow {
    ///     query: RgbImage::new(64, 128),
    ///     found: vec![anna],
    ///     name: "door.jpg".to_owned(),
    ///     decision: "anna: the distance 0.2100 is at most the threshold 0.3000.".to_owned(),
    /// };
    /// let html = Page::new("Who came").with_ranked_row(&row)?.to_html();
    /// assert!(html.contains("1: anna<br>0.2100<br>accepted, right"));
    /// # Ok::<(), reid_vis::Error>(())
    /// ```
    ///
    /// # Errors
    /// If an image has no pixels ([`Error::Encode`]).
    pub fn with_ranked_row(self, row: &RankedRow) -> Result<Self, Error> {
        let mut parts = Vec::new();
        if !row.name.is_empty() {
            parts.push(format!("<h3>{}</h3>", escaped(&row.name)));
        }
        if !row.decision.is_empty() {
            parts.push(format!("<p>{}</p>", escaped(&row.decision)));
        }
        parts.push("<div class=\"ranked wide\">".to_owned());
        parts.push(figure("query", &row.query, &["query".to_owned()])?);
        for (tile, rank) in row.found.iter().zip(row.ranks()) {
            let words = words(tile);
            let title = match tile.name.as_str() {
                "" => rank,
                name => format!("{rank}: {name}"),
            };
            let lines = [title, format!("{:.4}", tile.distance), words.join(", ")];
            parts.push(figure(words[0], &tile.picture, &lines)?);
        }
        parts.push("</div>".to_owned());
        Ok(self.with(&parts.join("\n")))
    }
}

/// The words for a gallery image: whether it is accepted, and its relevance if that is known. The first word
/// is the class of its frame.
fn words(tile: &RankedTile) -> Vec<&'static str> {
    let accepted = tile
        .accepted
        .map(|accepted| if accepted { "accepted" } else { "rejected" });
    let known = tile.relevance != Relevance::Unknown || accepted.is_none();
    let relevance = known.then(|| ranked_list::name(tile.relevance));
    accepted.into_iter().chain(relevance).collect()
}

/// A `figure` element of a class. The lines are the caption, and the first one is the alternative text.
fn figure(class: &str, picture: &RgbImage, lines: &[String]) -> Result<String, Error> {
    let description = lines.first().map_or("", String::as_str);
    let image = embedded(description, &reduced(picture), ImageFormat::Jpeg)?;
    let lines: Vec<String> = lines.iter().map(|line| escaped(line)).collect();
    let caption = lines.join("<br>");
    Ok(format!(
        "<figure class=\"{class}\">{image}<figcaption>{caption}</figcaption></figure>"
    ))
}

/// The image with at most [`LONGEST_SIDE`] pixels along each side, in the same proportions.
fn reduced(picture: &RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let longest = width.max(height);
    if longest <= LONGEST_SIDE {
        return picture.clone();
    }
    let side = |length: u32| {
        let side = u64::from(length) * u64::from(LONGEST_SIDE) / u64::from(longest);
        u32::try_from(side).unwrap_or(LONGEST_SIDE).max(1)
    };
    let filter = imageops::FilterType::Triangle;
    imageops::resize(picture, side(width), side(height), filter)
}

#[cfg(test)]
mod tests {
    use image::Rgb;
    use reid_eval::{
        Distances, Embeddings, Metric, Protocol, Resampling, RetrievalTask, Threshold,
        gallery::{GalleryConfig, GalleryEntry, GalleryFilter, ModelFingerprint},
    };

    use super::*;

    fn embeddings(values: &[f32], identities: &[i64]) -> Embeddings {
        let identities = identities.iter().copied().map(Identity::new);
        Embeddings::new(values.to_vec(), 1, identities.collect()).expect("one dimension")
    }

    /// A threshold of 0.5 that accepts none of the two pairs of different identities.
    fn threshold() -> Threshold {
        let (query, gallery) = (
            embeddings(&[0.0, 9.0], &[1, 2]),
            embeddings(&[0.5, 9.25], &[1, 2]),
        );
        let distances = Distances::between(&query, &gallery, Metric::Euclidean).expect("equal");
        let task = RetrievalTask::new(&distances, query.labels(), gallery.labels())
            .with_protocol(&Protocol::NoCameras);
        Threshold::calibrate(&task, 0.01, &Resampling::default()).expect("separable")
    }

    fn write(folder: &Path, name: &str) -> std::path::PathBuf {
        let path = folder.join(name);
        let picture = RgbImage::from_pixel(4, 8, Rgb([0, 0, 200]));
        crate::save_picture(&path, &picture).expect("written");
        path
    }

    /// A gallery of two people, of whom the image files are in the folder, and a query at 0.25.
    fn search(folder: &Path, threshold: Option<Threshold>) -> (Gallery, Vec<GalleryMatch>) {
        let model = ModelFingerprint::new("any");
        let config = GalleryConfig::default().with_metric(Metric::Euclidean);
        let mut gallery = Gallery::new(model.clone(), config);
        if let Some(threshold) = threshold {
            gallery = gallery.with_threshold(threshold);
        }
        let entry = |identity, name| {
            GalleryEntry::new(Identity::new(identity)).with_path(write(folder, name))
        };
        let entries = [entry(7, "a.png"), entry(8, "b.png")];
        let enrolled = embeddings(&[0.0, 3.0], &[7, 8]);
        gallery
            .enrol(&model, &enrolled, &entries)
            .expect("enrolled");
        let query = embeddings(&[0.25], &[-2]);
        let filter = GalleryFilter::default();
        let found = gallery.search(&model, &query, &filter, 9).expect("found");
        (gallery, found[0].clone())
    }

    fn name(identity: Identity) -> String {
        match identity.label() {
            7 => "<script>alert(1)</script>".to_owned(),
            _ => "a&b".to_owned(),
        }
    }

    #[test]
    fn a_search_is_a_row_with_a_decision_and_escaped_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let (gallery, found) = search(folder.path(), Some(threshold()));
        let query = write(folder.path(), "q.png");
        let mut row = RankedRow::open_search(&gallery, &query, &found, name).expect("opened");
        assert!(row.name.ends_with("q.png"), "{}", row.name);
        row.name = "<q>.png".to_owned();
        let accepted = row.found.iter().map(|tile| tile.accepted);
        assert_eq!(accepted.collect::<Vec<_>>(), [Some(true), Some(false)]);

        let page = Page::new("").with_search_legend(&gallery);
        let html = page.with_ranked_row(&row).expect("pixels").to_html();
        assert!(!html.contains("<script"), "{html}");
        assert!(!html.contains("<q>"), "{html}");
        for expected in [
            "<td>threshold</td><td>0.5000</td>",
            "2 entries of 2 identities",
            "false accept rate: accepted pairs of different identities</td><td>0.00 %</td>",
            "&#60;q&#62;.png</h3>",
            "&#60;script&#62;alert(1)&#60;/script&#62;: the distance 0.2500 is at most the threshold 0.5000.",
            "<figcaption>1: &#60;script&#62;alert(1)&#60;/script&#62;<br>0.2500<br>accepted</figcaption>",
            "<figure class=\"rejected\"><img alt=\"2: a&#38;b\" src=\"data:image/jpeg;base64,",
            "<figcaption>2: a&#38;b<br>2.7500<br>rejected</figcaption>",
        ] {
            assert!(html.contains(expected), "{expected}: {html}");
        }
        let images: Vec<&str> = html.split("src=\"").skip(1).collect();
        assert_eq!(images.len(), 3);
        for address in images {
            assert!(
                address.starts_with("data:image/jpeg;base64,/9j/"),
                "{address}"
            );
        }
    }

    #[test]
    fn a_query_beyond_the_threshold_is_unknown() {
        let folder = tempfile::tempdir().expect("a folder");
        let (gallery, found) = search(folder.path(), Some(threshold()));
        let query = write(folder.path(), "q.png");
        let open = |found: &[GalleryMatch]| {
            RankedRow::open_search(&gallery, &query, found, name).expect("opened")
        };
        let expected =
            "Unknown: a&b is the nearest, but the distance 2.7500 is above the threshold 0.5000.";
        assert_eq!(open(&found[1..]).decision, expected);
        assert_eq!(
            open(&[]).decision,
            "Unknown: no identity was found in the gallery."
        );
    }

    #[test]
    fn without_a_threshold_nothing_is_decided() {
        let folder = tempfile::tempdir().expect("a folder");
        let (gallery, found) = search(folder.path(), None);
        let query = write(folder.path(), "q.png");
        let row = RankedRow::open_search(&gallery, &query, &found, name).expect("opened");
        assert_eq!(row.decision, "");
        let page = Page::new("").with_search_legend(&gallery);
        let html = page.with_ranked_row(&row).expect("pixels").to_html();
        assert!(html.contains("The gallery has no threshold"), "{html}");
        assert!(html.contains("0.2500<br>unknown</figcaption>"), "{html}");
    }

    #[test]
    fn an_entry_without_a_file_is_reported() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut gallery, found) = search(folder.path(), None);
        let query = write(folder.path(), "q.png");
        let (model, again) = (gallery.model().clone(), embeddings(&[0.0], &[7]));
        let entry = GalleryEntry::new(Identity::new(7));
        // The entries are those of 8 and then of 7.
        gallery
            .update(&model, Identity::new(7), &again, &[entry])
            .expect("updated");
        let mut seven = found[0];
        seven.entry = 1;
        let error = RankedRow::open_search(&gallery, &query, &[seven], name).expect_err("no file");
        assert!(
            error.to_string().contains("found none for entry 1"),
            "{error}"
        );
    }

    #[test]
    fn large_images_are_reduced_in_proportion() {
        assert_eq!(reduced(&RgbImage::new(640, 1280)).dimensions(), (160, 320));
        assert_eq!(reduced(&RgbImage::new(4000, 2)).dimensions(), (320, 1));
        assert_eq!(reduced(&RgbImage::new(64, 128)).dimensions(), (64, 128));
    }
}
