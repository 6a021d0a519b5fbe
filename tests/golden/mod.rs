//! Reads golden files (named reference values) and compares results with them.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Device, Gradients, Int, Tensor, TensorData},
};
use safetensors::{Dtype, SafeTensors};

use crate::formula::{self, ModulePath, UNIT};

pub(crate) mod network;
pub(crate) mod part;

// Tolerances, relative to the largest expected magnitude.
pub(crate) const LOGITS: f64 = 1e-4;
pub(crate) const OUTPUT: f64 = 1e-5;
pub(crate) const STATISTIC: f64 = 1e-5;
pub(crate) const GRADIENT: f64 = 1e-3;
/// The reference magnitude for the tolerance of a gradient that is zero up to rounding.
pub(crate) const ROUNDING: f64 = 1e-2;
/// The tolerance in double precision. The remaining difference is the rounding of the stored reference.
pub(crate) const DOUBLE: f64 = 1e-6;

/// A prefix of file names, and the function that compares a file with such a name.
pub(crate) type Checker = (&'static str, fn(&Golden));

/// Compares every golden file whose name begins with a prefix in `checkers`; the first such prefix applies.
pub(crate) fn check_files(checkers: &[Checker]) {
    let folder = folder();
    let entries = fs::read_dir(&folder);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry of the folder").path())
        .collect();
    paths.sort();

    let (mut met, mut failures) = (BTreeSet::new(), Vec::new());
    for path in paths {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let known = checkers.iter().find(|(prefix, _)| name.starts_with(prefix));
        let Some((prefix, check)) = known.filter(|_| name.ends_with(".safetensors")) else {
            continue;
        };
        let golden = Golden::open(&path);
        check(&golden);
        match golden.finish() {
            Ok(summary) => report(&format!("{name}: {summary}")),
            Err(failure) => failures.push(format!("{name}:\n  {failure}")),
        }
        met.insert(*prefix);
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    assert!(!met.is_empty(), "no golden file in {}", folder.display());
    if std::env::var_os("REID_GOLDENS").is_none() {
        let known: BTreeSet<_> = checkers.iter().map(|(prefix, _)| *prefix).collect();
        assert_eq!(
            met, known,
            "expected at least one golden file for each prefix (right), found files for these (left)"
        );
    }
}

#[expect(
    clippy::print_stdout,
    reason = "`--nocapture` shows the differences of each file"
)]
fn report(line: &str) {
    println!("{line}");
}

/// The folder of golden files: the environment variable `REID_GOLDENS`, or `tests/golden`.
pub(crate) fn folder() -> PathBuf {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    std::env::var_os("REID_GOLDENS").map_or_else(|| own.into(), PathBuf::from)
}

/// One golden file, and the results of its comparisons.
pub(crate) struct Golden {
    path: PathBuf,
    arrays: BTreeMap<String, Array>,
    metadata: HashMap<String, String>,
    unread: RefCell<BTreeSet<String>>,
    failures: RefCell<Vec<String>>,
    compared: Cell<usize>,
    /// The largest difference relative to its tolerance, and the name of its tensor.
    worst: RefCell<(f64, String)>,
}

struct Array {
    shape: Vec<usize>,
    values: Vec<f64>,
}

impl Golden {
    /// Reads a file.
    pub(crate) fn open(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file = SafeTensors::deserialize(&bytes);
        let file = file.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let arrays = file.iter().map(|(name, view)| {
            let (shape, values) = (
                view.shape().to_vec(),
                read_values(view.dtype(), view.data()),
            );
            (name.to_owned(), Array { shape, values })
        });
        let arrays: BTreeMap<_, _> = arrays.collect();
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a file that was read");
        Self {
            path: path.to_owned(),
            metadata: header.metadata().clone().unwrap_or_default(),
            unread: RefCell::new(arrays.keys().cloned().collect()),
            failures: RefCell::default(),
            compared: Cell::default(),
            worst: RefCell::default(),
            arrays,
        }
    }

    /// Lists the names of all tensors.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.arrays.keys().map(String::as_str)
    }

    /// Returns an entry of the file's metadata.
    pub(crate) fn metadata(&self, name: &str) -> &str {
        let entry = self.metadata.get(name);
        entry.unwrap_or_else(|| panic!("{}: no metadata {name}", self.path.display()))
    }

    /// Replaces every parameter and running statistic of a module by the tensors of the file. `key` maps a
    /// path in the module to the name of a tensor.
    pub(crate) fn loaded<M: Module>(&self, module: M, key: impl Fn(&str) -> String) -> M {
        let module_path = ModulePath::default();
        module.map(&mut Load {
            golden: self,
            key,
            module_path,
        })
    }

    /// Compares every running statistic of a module with the tensor that `key` names.
    pub(crate) fn meets_statistics<M: Module>(
        &self,
        module: &M,
        key: impl Fn(&str) -> String,
        tolerance: f64,
    ) {
        let module_path = ModulePath::default();
        module.visit(&mut Statistics {
            golden: self,
            key,
            tolerance,
            module_path,
            all: true,
        });
    }

    /// As [`meets_statistics`](Self::meets_statistics), but skips the statistics that the file does not have.
    pub(crate) fn meets_known_statistics<M: Module>(
        &self,
        module: &M,
        key: impl Fn(&str) -> String,
        tolerance: f64,
    ) {
        let module_path = ModulePath::default();
        module.visit(&mut Statistics {
            golden: self,
            key,
            tolerance,
            module_path,
            all: false,
        });
    }

    /// Compares the gradient of every parameter: its norm and its dot product with a probe
    /// (`grad64.<name>`), and for small parameters all values (`grad.<name>`).
    pub(crate) fn meets_gradients<M: Module>(
        &self,
        module: &M,
        gradients: &Gradients,
        naming: impl Fn(&str) -> String,
        tolerance: f64,
    ) {
        for (path, gradient) in formula::gradients(module, gradients) {
            let (name, gradient) = (naming(&path), gradient.unwrap_or_default());
            let probe = formula::values(&format!("probe.{name}"), UNIT, gradient.len());
            let pairs = gradient.iter().zip(probe);
            let product = pairs.map(|(g, p)| g * f64::from(p)).sum();
            let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            let key = format!("grad64.{name}");
            let expected = self.values(&key);
            // A gradient that is zero up to rounding differs from the reference by rounding.
            let allowed = tolerance * expected[0].max(tolerance);
            self.compare_scaled(&key, &[norm, product], expected, allowed);
            let whole = format!("grad.{name}");
            if self.has(&whole) {
                self.compare_scaled(&whole, &gradient, self.values(&whole), allowed);
            }
        }
    }

    /// Whether the file has a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.arrays.contains_key(name)
    }

    /// Whether the file has tensors whose names start with `prefix`.
    pub(crate) fn has_some(&self, prefix: &str) -> bool {
        self.names().any(|name| name.starts_with(prefix))
    }

    /// The shape of a tensor.
    pub(crate) fn shape<const D: usize>(&self, name: &str) -> [usize; D] {
        let shape = self.array(name).shape.as_slice();
        let rank = |_| {
            let path = self.path.display();
            panic!("{path}: expected {D} dimensions of {name}, found shape {shape:?}")
        };
        shape.try_into().unwrap_or_else(rank)
    }

    /// The values of a tensor.
    pub(crate) fn values(&self, name: &str) -> &[f64] {
        self.unread.borrow_mut().remove(name);
        &self.array(name).values
    }

    /// Reads a tensor in the device's default dtype.
    pub(crate) fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let data = TensorData::new(self.values(name).to_vec(), self.shape::<D>(name));
        Tensor::from_data(data, device)
    }

    /// Reads a tensor of integers.
    pub(crate) fn integers(&self, name: &str, device: &Device) -> Tensor<1, Int> {
        let data = TensorData::new(self.values(name).to_vec(), self.shape::<1>(name));
        Tensor::from_data(data.convert::<i64>(), device)
    }

    /// Compares a tensor with the tensor `name` of the file. The shapes must be equal, and no difference may
    /// be larger than `tolerance` times the largest expected magnitude.
    pub(crate) fn meets<const D: usize>(&self, name: &str, found: Tensor<D>, tolerance: f64) {
        let (expected, dims) = (self.shape::<D>(name), found.dims());
        if dims != expected {
            self.fail(format!(
                "{name}: expected shape {expected:?}, found {dims:?}"
            ));
        }
        let found = found.try_into_vec_as::<f64>();
        let found = found.expect("the tensor is computed");
        self.compare(name, &found, tolerance);
    }

    /// Compares values with those of a tensor. No difference may be larger than `tolerance` times the largest
    /// expected magnitude.
    pub(crate) fn compare(&self, name: &str, found: &[f64], tolerance: f64) {
        let expected = self.values(name);
        let largest = expected.iter().fold(0.0_f64, |max, x| max.max(x.abs()));
        self.compare_scaled(name, found, expected, tolerance * largest);
    }

    /// Compares values with expected values, up to the absolute tolerance `allowed`.
    pub(crate) fn compare_scaled(&self, name: &str, found: &[f64], expected: &[f64], allowed: f64) {
        self.compared.set(self.compared.get() + 1);
        if found.len() != expected.len() {
            let (found, expected) = (found.len(), expected.len());
            self.fail(format!("{name}: expected {expected} values, found {found}"));
            return;
        }
        let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
        // A difference that is NaN exceeds every tolerance.
        let far = |a: f64, b: f64| if b.is_nan() { f64::INFINITY } else { a.max(b) };
        let difference = differences.fold(0.0, far);
        let used = difference / allowed;
        if used > self.worst.borrow().0 {
            self.worst.replace((used, name.to_owned()));
        }
        if difference > allowed {
            self.fail(format!(
                "{name}: the largest difference is {difference:.1e}, {allowed:.1e} is allowed"
            ));
        }
    }

    /// Skips tensors by name: they need not be compared.
    pub(crate) fn skip(&self, which: impl Fn(&str) -> bool) {
        self.unread.borrow_mut().retain(|name| !which(name));
    }

    /// Records a failure.
    pub(crate) fn fail(&self, failure: String) {
        self.failures.borrow_mut().push(failure);
    }

    /// Summarises the comparisons in a line.
    ///
    /// # Errors
    /// Lists the failures, and the tensors that were neither compared nor skipped.
    pub(crate) fn finish(self) -> Result<String, String> {
        let mut failures = self.failures.into_inner();
        let unread = self.unread.into_inner().into_iter();
        failures.extend(unread.map(|name| format!("{name}: never compared")));
        let (compared, (worst, whose)) = (self.compared.get(), self.worst.into_inner());
        if failures.is_empty() {
            Ok(format!(
                "{compared} comparisons pass; the largest error is {worst:.3} of its tolerance ({whose})"
            ))
        } else {
            Err(failures.join("\n  "))
        }
    }

    fn array(&self, name: &str) -> &Array {
        let array = self.arrays.get(name);
        array.unwrap_or_else(|| panic!("{}: no tensor {name}", self.path.display()))
    }
}

struct Load<'a, K> {
    golden: &'a Golden,
    key: K,
    module_path: ModulePath,
}

impl<K: Fn(&str) -> String> ModuleMapper for Load<'_, K> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.module_path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.module_path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let key = (self.key)(&self.module_path.path());
        let value = self.golden.tensor(&key, &param.lazy_device());
        let id = param.id;
        param.transform_for_load(self.module_path.transposed(value), id)
    }
}

struct Statistics<'a, K> {
    golden: &'a Golden,
    key: K,
    tolerance: f64,
    module_path: ModulePath,
    /// Whether a statistic that the file lacks is an error.
    all: bool,
}

impl<K: Fn(&str) -> String> ModuleVisitor for Statistics<'_, K> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.module_path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.module_path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.module_path.path();
        if path.contains("running_") {
            let name = (self.key)(&path);
            if !self.all && !self.golden.has(&name) {
                return;
            }
            self.golden.meets(&name, param.val(), self.tolerance);
        }
    }
}

fn read_values(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
    match dtype {
        Dtype::F32 => decoded(bytes, |value| f32::from_le_bytes(value).into()),
        Dtype::F64 => decoded(bytes, f64::from_le_bytes),
        Dtype::I64 => decoded(bytes, |value| i64::from_le_bytes(value) as f64),
        other => panic!("expected F32, F64 or I64 in a golden file, found {other:?}"),
    }
}

fn decoded<const N: usize>(bytes: &[u8], decode: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    let (values, rest) = bytes.as_chunks::<N>();
    assert!(
        rest.is_empty(),
        "expected a multiple of {N} bytes, found {}",
        bytes.len()
    );
    values.iter().map(|&value| decode(value)).collect()
}
