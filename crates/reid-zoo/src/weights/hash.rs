//! Hash: of the values of a module, whatever file they came from.

use burn::{module::Module, store::bridge};
use sha2::{Digest, Sha256};

use super::parameters::{self, Convention};

/// Computes a SHA-256 of the names, shapes and values of the tensors of a module that `counts` accepts by their
/// names in files of `PyTorch`. The result does not depend on the format, the names or the order of a file.
pub(crate) fn hash<M: Module>(module: &M, counts: impl Fn(&str) -> bool) -> String {
    let mut tensors = parameters::collect(module, Convention::PyTorch);
    tensors.retain(|tensor| counts(&tensor.name));
    tensors.sort_by(|one, other| one.name.cmp(&other.name));
    let mut hash = Sha256::new();
    for tensor in &tensors {
        let data = bridge::to_data(tensor).expect("tensors of a module have values");
        // Names and shapes contain no line break, so the fields of two tensors cannot be confused.
        let (name, shape) = (&tensor.name, tensor.shape.to_vec());
        hash.update(format!("\n{name} {shape:?} {:?}\n", tensor.dtype));
        hash.update(data.as_bytes());
    }
    format!("{:x}", hash.finalize())
}

/// Computes a SHA-256 in hexadecimal digits, as `sha256sum` prints it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use burn::{nn::LinearConfig, tensor::Device};

    use super::*;
    use crate::weights;

    #[test]
    fn the_hash_is_that_of_the_values_and_not_of_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let device = Device::default();
        let layer = || LinearConfig::new(3, 2).init(&device);
        let module = layer();
        let whole = hash(&module, |_| true);
        for name in ["a.safetensors", "a.bpk"] {
            let path = folder.path().join(name);
            weights::save(&module, &path).expect("saved");
            let mut same = layer();
            assert_ne!(hash(&same, |_| true), whole);
            weights::load(&mut same, &path).expect("loaded");
            assert_eq!(hash(&same, |_| true), whole, "{name}");
        }
        assert_ne!(hash(&module, |name| name != "bias"), whole);
    }

    #[test]
    fn sha256_is_written_as_sha256sum_does() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(b""), empty);
    }
}
