//! Qdrant Edge: a shard of Qdrant in this process, with cameras and times as payload.

mod config;
mod payload;

use std::{fmt, fs, path::Path};

use qdrant_edge::{
    CountRequest, CreateIndex, DEFAULT_VECTOR_NAME, Distance, EdgeConfig, EdgeShard,
    EdgeVectorParamsBuilder, FieldIndexOperations, Filter, HnswIndexConfig, JsonPath, NamedQuery,
    PayloadFieldSchema, PayloadSchemaType, PointId, PointInsertOperations, PointOperations,
    PointStruct, QueryEnum, QueryRequest, ScoredPoint, ScoringQuery, SearchParams, UpdateOperation,
    WithPayloadInterface,
};
use reid_eval::{
    Embeddings, Metric,
    gallery::{
        GalleryEntry, GalleryError, GalleryFilter, GalleryMatch, ModelFingerprint, SearchEngine,
    },
};
use serde::{Deserialize, Serialize};

pub use config::QdrantEdgeConfig;

use crate::files::{at, check_description, content, read_json, write_json};

/// The file beside the shard.
const DESCRIPTION: &str = "engine.json";
/// The folder of the shard.
const SHARD: &str = "shard";
/// The version of the format.
const VERSION: u32 = 1;
/// The number of points of an update.
const TOGETHER: usize = 1000;

/// Entries in a shard of Qdrant Edge: approximate search, with cameras and times as payload that Qdrant filters by.
///
/// The shard is a folder, to which each enrolment writes. Qdrant searches new entries without an index, that is
/// exactly, until [`optimize`](Self::optimize) builds one for segments of more than 10 MB of vectors.
///
/// Qdrant normalises vectors for the cosine distance and stores the results, so distances differ from those of a
/// [`Gallery`](reid_eval::gallery::Gallery) by rounding. Times are below 2⁵³, because Qdrant compares them as `f64`.
pub struct QdrantEdgeEngine {
    description: Description,
    shard: EdgeShard,
    entries: usize,
}

/// The content of the file beside the shard.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    version: u32,
    model: ModelFingerprint,
    config: QdrantEdgeConfig,
    dimensions: usize,
}

impl QdrantEdgeEngine {
    /// Creates an engine without entries in a new folder, for the embeddings of one model.
    ///
    /// The folder gets `engine.json`, with the model and the settings, and the folder `shard` of Qdrant.
    ///
    /// # Errors
    /// [`GalleryError::File`] if the folder cannot be created or has an engine, and [`GalleryError::Engine`] if
    /// Qdrant fails.
    ///
    /// # Panics
    /// If there are no dimensions, or if a setting is below its least value.
    pub fn create(
        folder: impl AsRef<Path>,
        model: ModelFingerprint,
        dimensions: usize,
        config: QdrantEdgeConfig,
    ) -> Result<Self, GalleryError> {
        assert!(dimensions > 0, "expected at least 1 dimension, found 0");
        if let Err(reason) = config.check() {
            panic!("{reason}");
        }
        let folder = folder.as_ref();
        fs::create_dir_all(folder).map_err(at(folder))?;
        let path = folder.join(DESCRIPTION);
        if path.exists() {
            return Err(content(&path, "expected no engine in this folder"));
        }
        let description = Description {
            version: VERSION,
            model,
            config,
            dimensions,
        };
        let shard = folder.join(SHARD);
        let shard = EdgeShard::new(&shard, shard_config(&description)?).map_err(failed)?;
        for key in [payload::CAMERA, payload::TIME] {
            let index = FieldIndexOperations::CreateIndex(CreateIndex {
                field_name: path_of(key)?,
                field_schema: Some(PayloadFieldSchema::FieldType(PayloadSchemaType::Integer)),
            });
            let index = UpdateOperation::FieldIndexOperation(index);
            shard.update(index).map_err(failed)?;
        }
        write_json(&path, &description)?;
        Ok(Self {
            description,
            shard,
            entries: 0,
        })
    }

    /// Opens the engine of a model in a folder.
    ///
    /// # Errors
    /// [`GalleryError::FileModel`] if the engine was made for another model, [`GalleryError::File`] if its
    /// description cannot be read, and [`GalleryError::Engine`] if Qdrant cannot open the shard.
    pub fn open(folder: impl AsRef<Path>, model: &ModelFingerprint) -> Result<Self, GalleryError> {
        let path = folder.as_ref().join(DESCRIPTION);
        let description: Description = read_json(&path)?;
        let version = [VERSION, description.version];
        check_description(&path, version, model, &description.model)?;
        let config = description.config.check();
        config.map_err(|reason| content(&path, reason))?;
        let shard = folder.as_ref().join(SHARD);
        let config = shard_config(&description)?;
        let shard = EdgeShard::load(&shard, Some(config)).map_err(failed)?;
        let entries = shard.count(CountRequest::new()).map_err(failed)?;
        Ok(Self {
            description,
            shard,
            entries,
        })
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> QdrantEdgeConfig {
        self.description.config
    }

    /// Sets the number of candidates of the next searches; see [`QdrantEdgeConfig::expansion_search`]. The folder
    /// keeps the number that the engine was created with.
    ///
    /// # Panics
    /// If the number is 0.
    pub fn set_expansion_search(&mut self, expansion_search: usize) {
        let config = self
            .description
            .config
            .with_expansion_search(expansion_search);
        if let Err(reason) = config.check() {
            panic!("{reason}");
        }
        self.description.config = config;
    }

    /// Merges segments, and builds the indexes of those that are large. Returns after all are built.
    ///
    /// # Errors
    /// [`GalleryError::Engine`] if Qdrant fails.
    pub fn optimize(&mut self) -> Result<(), GalleryError> {
        self.shard.optimize().map_err(failed)?;
        self.shard.flush().map_err(failed)
    }

    fn nearest(
        &self,
        query: &[f32],
        filter: Option<Filter>,
        k: usize,
    ) -> Result<Vec<GalleryMatch>, GalleryError> {
        let vector = NamedQuery::default_dense(query.to_vec());
        let request = QueryRequest {
            query: Some(ScoringQuery::Vector(QueryEnum::Nearest(vector))),
            filter,
            params: Some(SearchParams {
                hnsw_ef: Some(self.description.config.expansion_search.max(k)),
                ..SearchParams::default()
            }),
            with_payload: WithPayloadInterface::Fields(vec![path_of(payload::IDENTITY)?]),
            ..QueryRequest::new(k)
        };
        let found = self.shard.query(request).map_err(failed)?;
        let found = found.iter().map(|point| self.found(point));
        let mut found = found.collect::<Result<Vec<_>, _>>()?;
        // Entries at equal distances are returned in the order of their enrolment.
        found.sort_by(|one, other| {
            let by_distance = one.distance.total_cmp(&other.distance);
            by_distance.then(one.entry.cmp(&other.entry))
        });
        Ok(found)
    }

    fn found(&self, point: &ScoredPoint) -> Result<GalleryMatch, GalleryError> {
        let entry = match point.id {
            PointId::NumId(entry) => usize::try_from(entry).ok(),
            PointId::Uuid(_) => None,
        };
        let identity = point.payload.as_ref().and_then(payload::identity);
        let (Some(entry), Some(identity)) = (entry, identity) else {
            let id = &point.id;
            return Err(failed(format!("point {id:?} was not enrolled by reid")));
        };
        let distance = match self.description.config.metric {
            Metric::Cosine => (1.0 - point.score).clamp(0.0, 2.0),
            _ => point.score,
        };
        Ok(GalleryMatch::new(identity, distance, entry))
    }
}

impl SearchEngine for QdrantEdgeEngine {
    fn model(&self) -> &ModelFingerprint {
        &self.description.model
    }

    fn metric(&self) -> Metric {
        self.description.config.metric
    }

    fn dimensions(&self) -> Option<usize> {
        Some(self.description.dimensions)
    }

    fn entry_count(&self) -> usize {
        self.entries
    }

    fn enrol(
        &mut self,
        model: &ModelFingerprint,
        embeddings: &Embeddings,
        entries: &[GalleryEntry],
    ) -> Result<(), GalleryError> {
        self.check_entries(model, embeddings, entries)?;
        let payloads = entries.iter().enumerate();
        let payloads = payloads.map(|(row, entry)| payload::from_entry(row, entry));
        let payloads = payloads.collect::<Result<Vec<_>, _>>()?;
        let rows = embeddings.values().chunks_exact(embeddings.dimensions());
        let points = (self.entries..).zip(rows.zip(payloads));
        let mut points = points.map(|(entry, (vector, payload))| {
            PointStruct::new(PointId::NumId(entry as u64), vector.to_vec(), payload).into()
        });
        loop {
            let part: Vec<_> = points.by_ref().take(TOGETHER).collect();
            let count = part.len();
            if count == 0 {
                break;
            }
            let insert = PointOperations::UpsertPoints(PointInsertOperations::PointsList(part));
            let update = self.shard.update(UpdateOperation::PointOperation(insert));
            update.map_err(failed)?;
            self.entries += count;
        }
        self.shard.flush().map_err(failed)
    }

    fn nearest_entries(
        &self,
        model: &ModelFingerprint,
        queries: &Embeddings,
        filter: &GalleryFilter,
        k: usize,
    ) -> Result<Vec<Vec<GalleryMatch>>, GalleryError> {
        self.check_model(model, queries)?;
        let k = k.min(self.entries);
        if k == 0 || filter.cameras().is_some_and(|cameras| cameras.is_empty()) {
            return Ok(vec![Vec::new(); queries.len()]);
        }
        let filter = payload::filter(filter)?;
        let rows = queries.values().chunks_exact(queries.dimensions());
        rows.map(|query| self.nearest(query, filter.clone(), k))
            .collect()
    }
}

impl fmt::Debug for QdrantEdgeEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QdrantEdgeEngine")
            .field("description", &self.description)
            .field("entries", &self.entries)
            .finish_non_exhaustive()
    }
}

fn shard_config(description: &Description) -> Result<EdgeConfig, GalleryError> {
    let QdrantEdgeConfig {
        metric,
        connectivity,
        expansion_add,
        ..
    } = description.config;
    let distance = match metric {
        Metric::Cosine => Distance::Cosine,
        Metric::Euclidean => Distance::Euclid,
        other => return Err(failed(format!("the metric {other} is not supported"))),
    };
    let vector = EdgeVectorParamsBuilder::new(description.dimensions, distance).build();
    let graph = HnswIndexConfig {
        m: connectivity,
        ef_construct: expansion_add,
        ..HnswIndexConfig::default()
    };
    Ok(EdgeConfig::builder()
        .vector(DEFAULT_VECTOR_NAME, vector)
        .hnsw_config(graph)
        .build())
}

/// The path of a key of the payload.
fn path_of(key: &str) -> Result<JsonPath, GalleryError> {
    let path = key.parse::<JsonPath>();
    path.map_err(|()| failed(format!("`{key}` is not a path")))
}

fn failed(reason: impl ToString) -> GalleryError {
    GalleryError::Engine {
        engine: "Qdrant Edge",
        reason: reason.to_string(),
    }
}
