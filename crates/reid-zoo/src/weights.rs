//! Weights: loads and saves the tensors of any module.
//!
//! | format | written by | read | written here |
//! |---|---|---|---|
//! | `PyTorch`'s | `torch.save` of any version, flat or under a key such as `state_dict` or `model` | yes | no |
//! | safetensors | any program, in `PyTorch`'s names and layout; Burn, in its own | yes | yes, in `PyTorch`'s |
//! | burnpack | Burn, and `reid-train` for checkpoints | yes | yes |
//!
//! A file is read by its content, whatever its extension: `.pth`, `.pth.tar-60`, `.ckpt`, `.bin`. It is written in
//! the format of its extension, `.safetensors` or `.bpk`. Loading is **strict**: if keys are missing, unexpected or
//! misshapen, the error lists them, and the module is unchanged. A prefix that all keys of a file have, such as
//! `module.`, is removed if keys fit without it. Floats of any width are cast to the dtype of the module.
//!
//! ```
//! use burn::{nn::LinearConfig, tensor::Device};
//! use reid_zoo::weights::{self, Weights};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("layer.safetensors");
//! let device = Device::default();
//! weights::save(&LinearConfig::new(4, 2).init(&device), &path)?;
//!
//! let mut same = LinearConfig::new(4, 2).init(&device);
//! weights::load(&mut same, &path)?;
//!
//! let mut wider = LinearConfig::new(6, 2).init(&device);
//! let error = weights::load(&mut wider, &path).expect_err("another shape");
//! assert!(error.to_string().ends_with("weight: expected [2, 6], found [2, 4]"));
//!
//! let report = Weights::open(&path)?.load_partially_into(&mut wider)?;
//! assert_eq!(report.applied, ["bias"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

use burn::{
    module::Module,
    store::{bridge, burn_pack::Tensor},
    tensor::DType,
};

use crate::Error;

mod backbone;
mod burnpack;
mod densenet;
mod export;
mod format;
mod hash;
mod layout;
mod light_mbn;
mod mobilenet_v2;
mod network;
mod osnet;
mod parameters;
mod prefix;
mod pytorch;
mod report;
mod safetensors;
mod segmentation;

pub use backbone::{PublishedBackbone, load_backbone};
pub(crate) use export::{Names, to_safetensors};
use format::Format;
pub(crate) use hash::{hash, sha256};
pub use layout::Layout;
pub use network::{PublishedHead, PublishedNetwork, load_published};
pub(crate) use network::{build_published, classes};
use parameters::Convention;
pub use report::{Misshapen, WeightReport};

/// Loads the weights of a file into a module, strictly.
///
/// # Errors
/// As [`Weights::open`] and [`Weights::load_into`].
pub fn load<M: Module>(module: &mut M, path: impl AsRef<Path>) -> Result<(), Error> {
    Weights::open(path)?.load_into(module)
}

/// Saves every tensor of a module, including running statistics. The format is `.safetensors`, with `PyTorch`'s names
/// and layout, or `.bpk`.
///
/// The file is written under a temporary name in the same folder and renamed when it is complete. If the save fails,
/// an existing file is unchanged.
///
/// # Errors
/// If the extension names no format that can be written, if the format does not support the dtype of a tensor, or if
/// the file cannot be written.
pub fn save<M: Module>(module: &M, path: impl AsRef<Path>) -> Result<(), Error> {
    let path = path.as_ref();
    let collect = |convention| parameters::collect(module, convention);
    let saved = match Format::to_write(path)? {
        Format::Safetensors => safetensors::write(path, collect(Convention::PyTorch)),
        Format::Burnpack => burnpack::write(path, collect(Convention::Burn)),
        Format::PyTorch => {
            let path = path.to_owned();
            return Err(Error::ReadOnly { path });
        }
    };
    let path = path.to_owned();
    saved.map_err(|reason| Error::Save { path, reason })
}

/// The weights of a file, which can be selected and renamed before they are loaded.
///
/// [`without`](Self::without) and [`renamed`](Self::renamed) apply in the order of the calls:
///
/// ```
/// use burn::{nn::{Linear, LinearConfig}, tensor::Device};
/// use reid_zoo::weights::{self, Weights};
///
/// #[derive(burn::module::Module, Debug)]
/// struct Published {
///     encoder: Linear,
///     classifier: Linear,
/// }
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("published.safetensors");
/// let device = Device::default();
/// let layer = |outputs| LinearConfig::new(4, outputs).init(&device);
/// weights::save(&Published { encoder: layer(3), classifier: layer(9) }, &path)?;
///
/// let mut encoder = layer(3);
/// Weights::open(&path)?
///     .without("classifier.")
///     .renamed("encoder.", "")
///     .load_into(&mut encoder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Weights {
    path: PathBuf,
    format: Format,
    convention: Convention,
    tensors: Vec<Tensor>,
    optional: Vec<String>,
}

impl Weights {
    /// Opens a file of weights.
    ///
    /// # Errors
    /// If the file cannot be read, does not contain weights, is damaged, or contains several sets of weights.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::read(path.as_ref(), None)
    }

    /// Opens the weights under the top-level key `nest` of a `PyTorch` checkpoint, such as `ema` if it has `ema` and
    /// `model`.
    ///
    /// # Errors
    /// As [`open`](Self::open), if the checkpoint has no such key, and if the file has another format, in which keys
    /// are not nested.
    pub fn open_nested(path: impl AsRef<Path>, nest: &str) -> Result<Self, Error> {
        Self::read(path.as_ref(), Some(nest))
    }

    fn read(path: &Path, nest: Option<&str>) -> Result<Self, Error> {
        let io = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        let format = Format::of_content(path, &format::head(path).map_err(io)?)?;
        if let (Some(nest), Format::Safetensors | Format::Burnpack) = (nest, format) {
            let (path, nest) = (path.to_owned(), nest.to_owned());
            return Err(Error::NotNested { path, nest });
        }
        let tensors = match format {
            Format::PyTorch => (Convention::PyTorch, pytorch::read(path, nest)?),
            Format::Safetensors => safetensors::read(path, &fs::read(path).map_err(io)?)?,
            Format::Burnpack => {
                let tensors = burnpack::read(path, fs::read(path).map_err(io)?)?;
                (Convention::Burn, tensors)
            }
        };
        Ok(Self::new(path, format, tensors))
    }

    /// Parses the bytes of a safetensors file; messages name `path`.
    pub(crate) fn from_safetensors(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let tensors = safetensors::read(path, bytes)?;
        Ok(Self::new(path, Format::Safetensors, tensors))
    }

    fn new(path: &Path, format: Format, read: (Convention, Vec<Tensor>)) -> Self {
        let (convention, mut tensors) = read;
        tensors.sort_by(|one, other| one.name.cmp(&other.name));
        Self {
            path: path.to_owned(),
            format,
            convention,
            tensors,
            optional: Vec::new(),
        }
    }

    /// The keys, in alphabetical order unless they were renamed.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|tensor| tensor.name.as_str())
    }

    /// Removes the tensors whose keys start with `prefix`, such as `fc.`.
    #[must_use]
    pub fn without(mut self, prefix: &str) -> Self {
        self.tensors
            .retain(|tensor| !tensor.name.starts_with(prefix));
        self
    }

    /// Replaces the prefix `from` of keys by `to`. Keys without this prefix are unchanged.
    ///
    /// `renamed("module.", "")` is for weights that were saved from `DataParallel`. `renamed("", "backbone.")` is for
    /// loading a backbone into a whole model.
    #[must_use]
    pub fn renamed(mut self, from: &str, to: &str) -> Self {
        for tensor in &mut self.tensors {
            if let Some(rest) = tensor.name.strip_prefix(from) {
                tensor.name = format!("{to}{rest}");
            }
        }
        self
    }

    /// Keeps only the keys with the prefix that `key` has in the file, and removes this prefix. Keeps all keys if
    /// the file has `key` without a prefix, or not at all.
    fn under(mut self, key: &str) -> Result<Self, Error> {
        let prefixes = prefix::before(key, self.keys());
        if prefixes.contains("") {
            return Ok(self);
        }
        let prefixes: Vec<String> = prefixes.into_iter().map(str::to_owned).collect();
        match prefixes.as_slice() {
            [] => Ok(self),
            [prefix] => {
                self.tensors
                    .retain(|tensor| tensor.name.starts_with(prefix));
                Ok(self.renamed(prefix, ""))
            }
            _ => Err(Error::Ambiguous {
                path: self.path,
                choices: prefixes,
                advice: "remove one of these prefixes with `Weights::renamed`",
            }),
        }
    }

    /// Makes keys that start with `prefix` optional: if the file does not have one, the module keeps its value.
    #[must_use]
    pub fn optional(mut self, prefix: &str) -> Self {
        self.optional.push(prefix.to_owned());
        self
    }

    /// Loads the weights into a module, strictly: file and module must have the same keys.
    ///
    /// Only `num_batches_tracked`, the counter of `PyTorch`'s batch normalisation, is ignored.
    ///
    /// # Errors
    /// If a key is missing, unexpected or misshapen, if two keys are the same after renaming, or if values cannot be
    /// read. The module is then unchanged.
    pub fn load_into<M: Module>(&self, module: &mut M) -> Result<(), Error> {
        let Comparison {
            report,
            fitting,
            diagnosis,
        } = self.compare(module)?;
        if !report.fits() {
            return Err(self.mismatch(diagnosis, report));
        }
        self.apply(module, fitting)?;
        Ok(())
    }

    /// Loads the weights that fit, and reports which fit and which do not.
    ///
    /// # Errors
    /// If no weights fit ([`Error::Mismatch`]), if two keys are the same after renaming, or if values cannot be read.
    /// The module is then unchanged.
    pub fn load_partially_into<M: Module>(&self, module: &mut M) -> Result<WeightReport, Error> {
        let Comparison {
            mut report,
            fitting,
            diagnosis,
        } = self.compare(module)?;
        if fitting.is_empty() {
            return Err(self.mismatch(diagnosis, report));
        }
        report.applied = self.apply(module, fitting)?;
        Ok(report)
    }

    /// Compares the keys and layouts of the file with those of a module. A prefix that all keys of the file have is
    /// removed if keys fit without it.
    fn compare<M: Module>(&self, module: &M) -> Result<Comparison<'_>, Error> {
        let expected = parameters::collect(module, self.convention);
        let names: BTreeSet<&str> = expected.iter().map(|tensor| tensor.name.as_str()).collect();
        let keys: Vec<&str> = self.keys().filter(|key| !prefix::is_counter(key)).collect();
        let before = prefix::common(&keys, &names);
        let mut found = BTreeMap::new();
        for tensor in &self.tensors {
            let key = tensor.name.strip_prefix(before).unwrap_or(&tensor.name);
            if found.insert(key, tensor).is_some() {
                return Err(Error::DuplicateKey {
                    path: self.path.clone(),
                    key: key.to_owned(),
                });
            }
        }
        let keys = found.keys().copied();
        let keys: BTreeSet<&str> = keys.filter(|key| !prefix::is_counter(key)).collect();
        let mut report = WeightReport::default();
        let mut fitting = Vec::new();
        for expected in &expected {
            let key = expected.name.as_str();
            match found.remove(key) {
                Some(found) if Layout::of(expected).takes(&Layout::of(found)) => {
                    fitting.push(Fitting {
                        key: key.to_owned(),
                        found,
                        dtype: expected.dtype,
                    });
                }
                Some(found) => report.misshapen.push(Misshapen {
                    key: key.to_owned(),
                    expected: Layout::of(expected),
                    found: Layout::of(found),
                }),
                None if self.is_optional(key) => {}
                None => report.missing.push(key.to_owned()),
            }
        }
        let unexpected = found.into_keys().filter(|key| !prefix::is_counter(key));
        report.unexpected = unexpected.map(str::to_owned).collect();
        Ok(Comparison {
            diagnosis: prefix::diagnosis(&keys, &names, &report),
            report,
            fitting,
        })
    }

    fn mismatch(&self, diagnosis: String, report: WeightReport) -> Error {
        Error::Mismatch {
            path: self.path.clone(),
            diagnosis,
            report: Box::new(report),
        }
    }

    fn is_optional(&self, key: &str) -> bool {
        self.optional.iter().any(|prefix| key.starts_with(prefix))
    }

    /// Reads all weights that fit, then puts them into the module. Returns their keys.
    fn apply<M: Module>(
        &self,
        module: &mut M,
        fitting: Vec<Fitting<'_>>,
    ) -> Result<Vec<String>, Error> {
        let mut keys = Vec::with_capacity(fitting.len());
        let mut values = HashMap::with_capacity(fitting.len());
        for Fitting { key, found, dtype } in fitting {
            let damaged = |reason: String| {
                let reason = format!("`{key}`: {reason}");
                self.format.damaged(&self.path, reason)
            };
            let data = bridge::to_data(found).map_err(|error| damaged(error.to_string()))?;
            let data = data
                .try_cast(dtype)
                .map_err(|error| damaged(error.to_string()))?;
            keys.push(key.clone());
            values.insert(key, data);
        }
        *module = parameters::fill(module.clone(), self.convention, values);
        Ok(keys)
    }
}

/// The result of comparing a file with a module.
struct Comparison<'a> {
    report: WeightReport,
    fitting: Vec<Fitting<'a>>,
    /// The probable cause if they do not fit.
    diagnosis: String,
}

/// A tensor of the file that fits the module, and its dtype in the module.
struct Fitting<'a> {
    key: String,
    found: &'a Tensor,
    dtype: DType,
}
