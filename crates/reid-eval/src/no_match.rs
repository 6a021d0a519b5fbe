//! No match: why no query has one, in the words of the labels.

use std::collections::BTreeSet;

use reid_core::{Camera, Identity};

use crate::{Error, Labels, Protocol};

impl Error {
    /// There is nothing to average: none of these queries has a match in this gallery.
    pub(crate) fn no_match(protocol: &Protocol, query: &Labels, gallery: &Labels) -> Self {
        Self::NoMatch {
            queries: query.len(),
            gallery: gallery.len(),
            protocol: protocol.clone(),
            reason: reason(protocol, query, gallery),
        }
    }
}

/// Where a match would have been found.
pub(crate) fn place(protocol: &Protocol) -> String {
    match protocol {
        Protocol::Market => "in another camera".to_owned(),
        Protocol::NoCameras => "in the gallery".to_owned(),
        Protocol::Custom(_) => format!("by the protocol `{protocol}`"),
    }
}

fn reason(protocol: &Protocol, query: &Labels, gallery: &Labels) -> String {
    let (queries, images) = (query.len(), gallery.len());
    let wanted: BTreeSet<Identity> = known(query).collect();
    if wanted.is_empty() {
        return format!("all {queries} queries are junk or of unknown identity");
    }
    if matches!(protocol, Protocol::Custom(_)) {
        return format!("it says match for none of {queries} queries with {images} gallery images");
    }
    if !known(gallery).any(|identity| wanted.contains(&identity)) {
        return format!(
            "none of the {} identities of {queries} queries is among {images} gallery images; are identities \
             labelled alike on both sides?",
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
            "for each of {queries} queries all gallery images of its identity are from its own camera"
        ),
        _ => format!("each of {queries} queries is the only gallery image of its identity"),
    }
}

/// The identities that somebody knows.
fn known(labels: &Labels) -> impl Iterator<Item = Identity> {
    let identities = labels.identities().iter().copied();
    identities.filter(|identity| !identity.is_junk() && !identity.is_unknown())
}

/// The camera of all images, if they have one and the same.
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
    fn the_labels_that_leave_no_match_are_named() {
        let said = |protocol, query: &Labels, gallery: &Labels| {
            Error::no_match(&protocol, query, gallery).to_string()
        };
        let (one, two) = (labels(&[1, 2], &[1, 1]), labels(&[1, 2], &[1, 2]));
        assert_eq!(
            said(Protocol::Market, &one, &one),
            "mAP and CMC need at least one query with a match in another camera: all 2 queries and all 2 \
             gallery images are from camera 1"
        );
        let cases = [
            (
                said(Protocol::Market, &one, &labels(&[1, 3], &[1, 2])),
                "all 2 queries are from camera 1, and so are the gallery images of their identities",
            ),
            (
                said(Protocol::Market, &two, &two),
                "for each of 2 queries all gallery images of its identity are from its own camera",
            ),
            (
                said(Protocol::Market, &labels(&[-2, -1], &[1, 2]), &two),
                "all 2 queries are junk or of unknown identity",
            ),
            (
                said(Protocol::NoCameras, &two, &labels(&[8, 0, -1], &[1, 1, 1])),
                "none of the 2 identities of 2 queries is among 3 gallery images; are identities labelled \
                 alike on both sides?",
            ),
            (
                said(Protocol::NoCameras, &two, &two),
                "each of 2 queries is the only gallery image of its identity",
            ),
        ];
        for (found, reason) in cases {
            assert!(found.ends_with(&format!(": {reason}")), "{found}");
        }
    }
}
