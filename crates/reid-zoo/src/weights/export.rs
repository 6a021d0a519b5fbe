//! Export: the bytes of a safetensors file in the names of this library or in those of torchreid.

use burn::{
    module::Module,
    store::burn_pack::Tensor,
    tensor::{Bytes, DType},
};

use super::{
    parameters::{self, Convention},
    safetensors,
};

/// The names of the tensors in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// Those of this library.
    Own,
    /// Those of torchreid, for a published `OSNet` with two blocks per stage. With the counters of `PyTorch`'s batch
    /// normalisation, so that a `PyTorch` program finds every key of its state dict.
    Torchreid,
}

/// The prefixes of an `OSNet` in this library and in torchreid. The transition is the last layer of its stage.
const TORCHREID: [(&str, &str); 6] = [
    ("backbone.pool2.", "conv2.2.0."),
    ("backbone.pool3.", "conv3.2.0."),
    ("backbone.", ""),
    ("head.reduction.", "fc.0."),
    ("head.norm.", "fc.1."),
    ("head.", ""),
];

/// Serialises the tensors of a module that `keep` accepts by their own names, with `PyTorch`'s layout.
pub(crate) fn to_safetensors<M: Module>(
    module: &M,
    names: Names,
    keep: impl Fn(&str) -> bool,
) -> Result<Vec<u8>, String> {
    let mut tensors = parameters::collect(module, Convention::PyTorch);
    tensors.retain(|tensor| keep(&tensor.name));
    if names == Names::Torchreid {
        for tensor in &mut tensors {
            tensor.name = torchreid(&tensor.name);
        }
        let counters = tensors.iter().filter_map(counter);
        let counters: Vec<Tensor> = counters.collect();
        tensors.extend(counters);
    }
    safetensors::to_bytes(tensors)
}

fn torchreid(name: &str) -> String {
    let renamed = TORCHREID.iter().find_map(|(ours, theirs)| {
        let rest = name.strip_prefix(ours)?;
        Some(format!("{theirs}{rest}"))
    });
    renamed.unwrap_or_else(|| name.to_owned())
}

/// The counter of a batch normalisation, at 0; `None` unless the tensor is its running variance. `PyTorch` uses the
/// counter only in training without a momentum.
fn counter(tensor: &Tensor) -> Option<Tensor> {
    let norm = tensor.name.strip_suffix("running_var")?;
    let name = format!("{norm}num_batches_tracked");
    let zero = Bytes::from_bytes_vec(vec![0; 8]);
    Some(Tensor::new(
        name,
        DType::I64,
        Vec::<usize>::new(),
        None,
        zero,
    ))
}
