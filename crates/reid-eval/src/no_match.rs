//! The error for an evaluation without matches: finds out from the labels why no query has a match.

use std::collections::BTreeSet;

use reid_core::{Camera, Identity};

use crate::{Error, Labels, Protocol};

impl Error {
    /// Builds [`Error::NoMatch`] for labels with which no query has a match in the gallery.
    pub(crate) fn no_match(protocol: &Protocol, query: &Labels, gallery: &Labels) -> Self {
        Self::NoMatch {
            queries: query.len(),
            gallery: gallery.len(),
            protocol: protocol.clone(),
            reason: reason(protocol, query, gallery),
        }
    }
}

/// Formats where the protocol looks for a match.
pub(crate) fn match_condition(protocol: &Protocol) -> String {
    match protocol {
        Protocol::Market => "in another camera".to_owned(),
        Protocol::NoCameras => "in the gallery".to_owned(),
        Protocol::Custom(_) => format!("under the protocol `{protocol}`"),
    }
}

fn reason(protocol: &Protocol, query: &Labels, gallery: &Labels) -> String {
    let (queries, images) = (query.len(), gallery.len());
    let wanted: BTreeSet<Identity> = known(query).collect();
    if wanted.is_empty() {
        return format!("all {queries} queries are junk or of unknown identity");
    }
    if matches!(protocol, Protocol::Custom(_)) {
        return format!(
            "its rule found no match among {queries} queries x {images} gallery images"
        );
    }
    if !known(gallery).any(|identity| wanted.contains(&identity)) {
        return format!(
            "none of the {} identities of the {queries} queries is in the gallery ({images} images); \
             do query and gallery use the same identity numbers?",
            wanted.len()
        );
    }
    match (protocol, one_camera(query), one_camera(gallery)) {
        (Protocol::Market, Some(camera), Some(other)) if camera == other => format!(
            "all {queries} queries and all {images} gallery images are from camera {}",
            camera.number()
        ),
        (Protocol::Market, Some(camera), _) => format!(
            "all {queries} queries are from camera {}, and so are the gallery images of their identities",
            camera.number()
        ),
        (Protocol::Market, ..) => format!(
            "for each of the {queries} queries, all gallery images of its identity are from the \
             query's camera"
        ),
        _ => format!(
            "none of the {queries} queries has another image of its identity in the gallery"
        ),
    }
}

/// The identities that are neither junk nor unknown.
fn known(labels: &Labels) -> impl Iterator<Item = Identity> {
    let identities = labels.identities().iter().copied();
    identities.filter(|identity| !identity.is_junk() && !identity.is_unknown())
}

/// The camera of the images, if all images are from the same camera.
fn one_camera(labels: &Labels) -> Option<Camera> {
    let cameras = labels.cameras()?;
    let first = *cameras.first()?;
    cameras
        .iter()
        .all(|camera| *camera == first)
        .then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(identities: &[i64], cameras: &[u32]) -> Labels {
        let cameras = cameras.iter().copied().map(Camera::new).collect();
        Labels::new(identities.iter().copied().map(Identity::new).collect())
            .with_cameras(cameras)
            .expect("one each")
    }

    #[test]
    fn the_message_says_why_no_query_has_a_match() {
        let message = |protocol, query: &Labels, gallery: &Labels| {
            Error::no_match(&protocol, query, gallery).to_string()
        };
        let (one, two) = (labels(&[1, 2], &[1, 1]), labels(&[1, 2], &[1, 2]));
        assert_eq!(
            message(Protocol::Market, &one, &one),
            "mAP and CMC need at least one query with a match in another camera: all 2 queries and all 2 \
             gallery images are from camera 1"
        );
        let cases = [
            (
                message(Protocol::Market, &one, &labels(&[1, 3], &[1, 2])),
                "all 2 queries are from camera 1, and so are the gallery images of their identities",
            ),
            (
                message(Protocol::Market, &two, &two),
                "for each of the 2 queries, all gallery images of its identity are from the query's camera",
            ),
            (
                message(Protocol::Market, &labels(&[-2, -1], &[1, 2]), &two),
                "all 2 queries are junk or of unknown identity",
            ),
            (
                message(Protocol::NoCameras, &two, &labels(&[8, 0, -1], &[1, 1, 1])),
                "none of the 2 identities of the 2 queries is in the gallery (3 images); \
                 do query and gallery use the same identity numbers?",
            ),
            (
                message(Protocol::NoCameras, &two, &two),
                "none of the 2 queries has another image of its identity in the gallery",
            ),
        ];
        for (found, reason) in cases {
            assert!(found.ends_with(&format!(": {reason}")), "{found}");
        }
    }
}
