//! Weights: the tensors of any module, from and to files.
//!
//! | format | written by | read | written here |
//! |---|---|---|---|
//! | `PyTorch`'s | `torch.save` of any version, flat or under a key such as `state_dict` or `model` | yes | no |
//! | safetensors | anybody, in `PyTorch`'s names and layout; Burn, in its own | yes | yes, in `PyTorch`'s |
//! | burnpack | Burn, checkpoints of `reid-train` too | yes | yes |
//!
//! The content of a file tells the format that is read, whatever its name: `.pth`, `.pth.tar-60`, `.ckpt`, `.bin`; its
//! name, `.safetensors` or `.bpk`, the one that is written. Loading is **strict**: what is missing,
//! unexpected or misshapen is an error that lists it, and the module stays as it was. A prefix that all
//! keys of a file have, such as `module.`, is taken off if they fit then. Floats of any width are cast to the
//! module's.
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
    fs::{self, File},
    io::{self, Read},
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
mod format;
mod layout;
mod parameters;
mod prefix;
mod pytorch;
mod report;
mod safetensors;

pub use backbone::load_backbone;
use format::Format;
pub use layout::Layout;
use parameters::Convention;
pub use report::{Misshapen, WeightReport};

/// Loads a file into a module, strictly.
///
/// # Errors
/// As [`Weights::open`] and [`Weights::load_into`].
pub fn load<M: Module>(module: &mut M, path: impl AsRef<Path>) -> Result<(), Error> {
    Weights::open(path)?.load_into(module)
}

/// Saves every tensor of a module, running statistics too, as `.safetensors` in `PyTorch`'s names
/// and layout, or as `.bpk`.
///
/// The file is written under a temporary name beside it and renamed when it is whole: one that was
/// there before is replaced, or left as it was if anything fails.
///
/// # Errors
/// If the name tells no format that is written, if the format does not have the type of a tensor, or
/// if the file cannot be written.
pub fn save<M: Module>(module: &M, path: impl AsRef<Path>) -> Result<(), Error> {
    let path = path.as_ref();
    let collect = |convention| parameters::collect(module, convention);
    let saved = match Format::to_write(path)? {
        Format::Safetensors => safetensors::write(path, collect(Convention::PyTorch)),
        Format::Burnpack => burnpack::write(path, collect(Convention::Burn)),
        Format::PyTorch => {
            return Err(Error::ReadOnly {
                path: path.to_owned(),
            });
        }
    };
    saved.map_err(|reason| Error::Save {
        path: path.to_owned(),
        reason,
    })
}

/// The weights in a file, ready to be renamed and loaded.
///
/// Prefixes are taken off or changed in the order of the calls:
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
    /// If the file cannot be read, is something else, is damaged, or holds several sets of weights.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::read(path.as_ref(), None)
    }

    /// Opens the weights that a checkpoint of `PyTorch` has under a top-level key, such as `ema` beside
    /// `model`. In other formats keys have no levels: [`renamed`](Self::renamed) takes a prefix off.
    ///
    /// # Errors
    /// As [`open`](Self::open), and if there is no such key.
    pub fn open_nested(path: impl AsRef<Path>, nest: &str) -> Result<Self, Error> {
        Self::read(path.as_ref(), Some(nest))
    }

    fn read(path: &Path, nest: Option<&str>) -> Result<Self, Error> {
        let io = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        let format = Format::of_content(path, &head(path).map_err(io)?)?;
        let (convention, mut tensors) = match format {
            Format::PyTorch => (Convention::PyTorch, pytorch::read(path, nest)?),
            Format::Safetensors => safetensors::read(path, &fs::read(path).map_err(io)?)?,
            Format::Burnpack => {
                let tensors = burnpack::read(path, fs::read(path).map_err(io)?)?;
                (Convention::Burn, tensors)
            }
        };
        tensors.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Self {
            path: path.to_owned(),
            format,
            convention,
            tensors,
            optional: Vec::new(),
        })
    }

    /// The keys, in alphabetical order unless they were renamed.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|tensor| tensor.name.as_str())
    }

    /// Leaves out the file's keys that start with `prefix`, such as `fc.`.
    #[must_use]
    pub fn without(mut self, prefix: &str) -> Self {
        self.tensors
            .retain(|tensor| !tensor.name.starts_with(prefix));
        self
    }

    /// Replaces the prefix `from` of the file's keys by `to`: `module.` by nothing for weights saved
    /// from `DataParallel`, nothing by `backbone.` to load a trunk into a whole model. Other keys
    /// stay as they are.
    #[must_use]
    pub fn renamed(mut self, from: &str, to: &str) -> Self {
        for tensor in &mut self.tensors {
            if let Some(rest) = tensor.name.strip_prefix(from) {
                tensor.name = format!("{to}{rest}");
            }
        }
        self
    }

    /// Only the keys under the prefix that `key` has, without it; all keys if it stands there as it is, or
    /// nowhere.
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
                advice: "take one of these prefixes off with `Weights::renamed`",
            }),
        }
    }

    /// Lets the module keep its values for keys that start with `prefix` where the file has none.
    #[must_use]
    pub fn optional(mut self, prefix: &str) -> Self {
        self.optional.push(prefix.to_owned());
        self
    }

    /// Loads the weights into a module, all of them into all of it.
    ///
    /// `num_batches_tracked`, the counter of `PyTorch`'s batch normalisation, is not unexpected.
    ///
    /// # Errors
    /// If a key is missing, unexpected or misshapen, if two keys are the same after renaming, or if
    /// values cannot be read. The module is then as it was.
    pub fn load_into<M: Module>(&self, module: &mut M) -> Result<(), Error> {
        let Comparison {
            report,
            fitting,
            diagnosis,
        } = self.compare(module)?;
        if !report.fits() {
            return Err(Error::Mismatch {
                path: self.path.clone(),
                diagnosis,
                report: Box::new(report),
            });
        }
        self.apply(module, fitting)?;
        Ok(())
    }

    /// Loads the weights that fit, and reports which did and which did not.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if none fits; if two keys are the same after renaming, or if values cannot be read. The
    /// module is then as it was.
    pub fn load_partially_into<M: Module>(&self, module: &mut M) -> Result<WeightReport, Error> {
        let Comparison {
            mut report,
            fitting,
            diagnosis,
        } = self.compare(module)?;
        if fitting.is_empty() {
            return Err(Error::Mismatch {
                path: self.path.clone(),
                diagnosis,
                report: Box::new(report),
            });
        }
        report.applied = self.apply(module, fitting)?;
        Ok(report)
    }

    /// What does not fit a module, and what does. A prefix that all keys of the file have is taken off if
    /// keys fit then.
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
        let keys: BTreeSet<&str> = found
            .keys()
            .copied()
            .filter(|key| !prefix::is_counter(key))
            .collect();
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

    fn is_optional(&self, key: &str) -> bool {
        self.optional.iter().any(|prefix| key.starts_with(prefix))
    }

    /// Puts weights into a module, after all of them are read; gives their keys.
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

/// A file beside a module.
struct Comparison<'a> {
    report: WeightReport,
    fitting: Vec<Fitting<'a>>,
    /// What is probably wrong if they do not fit.
    diagnosis: String,
}

/// A tensor of the file that fits the module, and the type it has there.
struct Fitting<'a> {
    key: String,
    found: &'a Tensor,
    dtype: DType,
}

/// The first bytes of a file.
fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(format::HEAD);
    let limit = format::HEAD as u64;
    File::open(path)?.take(limit).read_to_end(&mut head)?;
    Ok(head)
}
