//! Labels as the payload of Qdrant, and filters of galleries as filters of Qdrant.

use std::collections::BTreeSet;

use qdrant_edge::{Filter, Payload};
use reid_core::{Camera, Identity, Track};
use reid_eval::gallery::{GalleryEntry, GalleryError, GalleryFilter};
use serde_json::{Value, json};

use super::failed;

/// The keys of the payload.
pub(super) const IDENTITY: &str = "identity";
pub(super) const CAMERA: &str = "camera";
pub(super) const TIME: &str = "time";
const TRACK: &str = "track";
const PATH: &str = "path";

/// The first time that `f64` cannot distinguish from all others.
const TIMES: u64 = 1 << 53;

/// The payload of an entry. Labels that are not known are left out.
pub(super) fn from_entry(row: usize, entry: &GalleryEntry) -> Result<Value, GalleryError> {
    if let Some(time) = entry.time.filter(|time| *time >= TIMES) {
        return Err(failed(format!(
            "entry {row} (from 0): expected a time below 2^53, found {time}"
        )));
    }
    let path = entry.path.as_ref().and_then(|path| path.to_str());
    let labels = [
        (IDENTITY, Some(json!(entry.identity.label()))),
        (CAMERA, entry.camera.map(|camera| json!(camera.number()))),
        (TIME, entry.time.map(|time| json!(time))),
        (
            TRACK,
            entry.track.map(Track::number).map(|track| json!(track)),
        ),
        (
            PATH,
            path.filter(|path| !path.is_empty()).map(|path| json!(path)),
        ),
    ];
    let labels = labels.into_iter();
    Ok(Value::Object(
        labels
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect(),
    ))
}

/// The identity in a payload.
pub(super) fn identity(payload: &Payload) -> Option<Identity> {
    payload.0.get(IDENTITY)?.as_i64().map(Identity::new)
}

/// The filter of Qdrant that accepts the same entries; `None` if all are accepted. Cameras to which a filter is
/// limited must not be empty.
pub(super) fn filter(filter: &GalleryFilter) -> Result<Option<Filter>, GalleryError> {
    if filter.accepts_all() {
        return Ok(None);
    }
    let mut must = Vec::new();
    if let Some(cameras) = filter.cameras() {
        must.push(any_of(cameras));
    }
    // All times are below `TIMES`.
    if let Some(first) = filter.first_time() {
        must.push(json!({ "key": TIME, "range": { "gte": first.min(TIMES) } }));
    }
    if let Some(last) = filter.last_time() {
        must.push(json!({ "key": TIME, "range": { "lte": last.min(TIMES) } }));
    }
    let excluded = filter.excluded_cameras();
    let must_not = if excluded.is_empty() {
        Vec::new()
    } else {
        vec![any_of(excluded)]
    };
    let filter = json!({ "must": must, "must_not": must_not });
    serde_json::from_value(filter).map(Some).map_err(failed)
}

/// The condition that the camera is one of some.
fn any_of(cameras: &BTreeSet<Camera>) -> Value {
    let cameras: Vec<u32> = cameras.iter().map(|camera| camera.number()).collect();
    json!({ "key": CAMERA, "match": { "any": cameras } })
}
