//! Filters: the entries of a gallery that a search considers.

use std::collections::BTreeSet;

use reid_core::Camera;
use serde::{Deserialize, Serialize};

use super::GalleryEntry;

/// The entries that a search considers; by default all.
///
/// ```
/// use reid_core::{Camera, Identity};
/// use reid_eval::gallery::{GalleryEntry, GalleryFilter};
///
/// // The other cameras, in the last hour before second 90,000.
/// let filter = GalleryFilter::default()
///     .except_cameras([Camera::new(3)])
///     .from_time(86_400)
///     .until_time(90_000);
/// let entry = GalleryEntry::new(Identity::new(7)).with_camera(Camera::new(4)).with_time(88_000);
/// assert!(filter.accepts(&entry));
/// assert!(!filter.accepts(&entry.with_camera(Camera::new(3))));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GalleryFilter {
    cameras: Option<BTreeSet<Camera>>,
    excluded_cameras: BTreeSet<Camera>,
    first_time: Option<u64>,
    last_time: Option<u64>,
}

impl GalleryFilter {
    /// Considers only entries of these cameras. Entries without a camera are not considered.
    #[must_use]
    pub fn only_cameras(self, cameras: impl IntoIterator<Item = Camera>) -> Self {
        Self {
            cameras: Some(cameras.into_iter().collect()),
            ..self
        }
    }

    /// Considers no entries of these cameras, such as that of the query. Entries without a camera are
    /// considered.
    #[must_use]
    pub fn except_cameras(self, cameras: impl IntoIterator<Item = Camera>) -> Self {
        Self {
            excluded_cameras: cameras.into_iter().collect(),
            ..self
        }
    }

    /// Considers only entries of this time or later. Entries without a time are not considered.
    #[must_use]
    pub fn from_time(self, time: u64) -> Self {
        Self {
            first_time: Some(time),
            ..self
        }
    }

    /// Considers only entries of this time or earlier. Entries without a time are not considered.
    #[must_use]
    pub fn until_time(self, time: u64) -> Self {
        Self {
            last_time: Some(time),
            ..self
        }
    }

    /// The cameras whose entries are considered; `None` for all.
    #[must_use]
    pub fn cameras(&self) -> Option<&BTreeSet<Camera>> {
        self.cameras.as_ref()
    }

    /// The cameras whose entries are not considered.
    #[must_use]
    pub fn excluded_cameras(&self) -> &BTreeSet<Camera> {
        &self.excluded_cameras
    }

    /// The least time of entries that are considered; `None` for any.
    #[must_use]
    pub fn first_time(&self) -> Option<u64> {
        self.first_time
    }

    /// The greatest time of entries that are considered; `None` for any.
    #[must_use]
    pub fn last_time(&self) -> Option<u64> {
        self.last_time
    }

    /// Whether a search considers every entry.
    #[must_use]
    pub fn accepts_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a search considers an entry.
    #[must_use]
    pub fn accepts(&self, entry: &GalleryEntry) -> bool {
        let of_camera = |cameras: &BTreeSet<Camera>| {
            entry.camera.is_some_and(|camera| cameras.contains(&camera))
        };
        let at_time = |holds: &dyn Fn(u64) -> bool| entry.time.is_some_and(holds);
        self.cameras.as_ref().is_none_or(of_camera)
            && !of_camera(&self.excluded_cameras)
            && self
                .first_time
                .is_none_or(|first| at_time(&|time| time >= first))
            && self
                .last_time
                .is_none_or(|last| at_time(&|time| time <= last))
    }
}
