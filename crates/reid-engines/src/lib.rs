//! Search in galleries of `reid` by existing engines.
//!
//! An engine is a [`SearchEngine`](reid_eval::gallery::SearchEngine), as [`Gallery`](reid_eval::gallery::Gallery) is,
//! whose search is exact. An engine searches with an index: faster in a large gallery, and some of the nearest entries
//! may be missed.
//!
//! [`UsearchEngine`] is an HNSW graph (Malkov and Yashunin, TPAMI 2020, arXiv:1603.09320) in memory, saved as a file of
//! `USearch` and a file of labels. It needs a C++ compiler to build.
//!
//! ```
//! use reid_core::{Camera, Identity};
//! use reid_engines::{UsearchConfig, UsearchEngine};
//! use reid_eval::{
//!     Embeddings, Labels,
//!     gallery::{GalleryEntry, GalleryFilter, ModelFingerprint, SearchEngine},
//! };
//!
//! let model = ModelFingerprint::new("strong baseline of May");
//! let of = |values: &[f32]| {
//!     Embeddings::from_parts(values.to_vec(), 2, Labels::unknown(values.len() / 2))
//! };
//! let mut engine = UsearchEngine::new(model.clone(), UsearchConfig::default());
//! let entry = |identity, camera| {
//!     GalleryEntry::new(Identity::new(identity)).with_camera(Camera::new(camera))
//! };
//! engine.enrol(&model, &of(&[1.0, 0.0, 0.6, 0.8])?, &[entry(7, 1), entry(8, 2)])?;
//!
//! let folder = tempfile::tempdir()?;
//! engine.save(folder.path())?;
//! let engine = UsearchEngine::open(folder.path(), &model)?;
//! let others = GalleryFilter::default().except_cameras([Camera::new(1)]);
//! let found = engine.search(&model, &of(&[1.0, 0.1])?, &others, 1)?;
//! assert_eq!(found[0][0].identity, Identity::new(8));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod files;
mod permits;
mod usearch_engine;

pub use usearch_engine::{UsearchConfig, UsearchEngine};
