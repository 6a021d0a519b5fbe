//! What the tests share: networks with random weights, and another runtime that runs their files.

use std::{env, fs, path::Path};

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{Device, Tensor, TensorData},
};
use reid_core::{InputSize, Seed};
use reid_nn::{Init, Network};
use rten_tensor::NdTensor;

/// A generator of values in `[0, 1)`: Knuth's linear congruential generator of 64 bits.
pub(crate) struct Values(pub(crate) u64);

impl Values {
    pub(crate) fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1_u64 << 24) as f32
    }

    pub(crate) fn tensor<const D: usize>(
        &mut self,
        dims: [usize; D],
        device: &Device,
    ) -> Tensor<D> {
        let values = (0..dims.iter().product()).map(|_| self.next()).collect();
        Tensor::from_data(TensorData::new::<f32, _>(values, dims), device)
    }
}

/// Sets every vector of parameters to values from 0.5 to 1.5: weights and biases, running means and
/// variances.
impl ModuleMapper for Values {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if D > 1 {
            return param;
        }
        param.map(|old| (self.tensor(old.dims(), &old.device()) + 0.5).detach())
    }
}

/// Builds a network with random weights and running statistics.
pub(crate) fn build<N: Network>(network: &N, input: InputSize) -> N::Model {
    let device = Device::default();
    let model = network.init(input, 5, &Init::new(Seed::new(7), &device));
    model.map(&mut Values(7))
}

/// Random images.
pub(crate) fn images(batch: usize, InputSize { height, width }: InputSize) -> Tensor<4> {
    let images = Values(11).tensor([batch, 3, height, width], &Device::default());
    images * 4.0 - 2.0
}

/// Computes embeddings with RTen from the bytes of an ONNX file.
pub(crate) fn run(file: &[u8], images: Tensor<4>) -> Vec<f32> {
    run_as::<2>(file, images)
}

/// Computes an output of rank `D` with RTen from the bytes of an ONNX file.
pub(crate) fn run_as<const D: usize>(file: &[u8], images: Tensor<4>) -> Vec<f32> {
    let dims = images.dims();
    let values: Vec<f32> = images.into_data().try_to_vec().expect("f32");
    let model = rten::Model::load(file.to_vec()).expect("a file with known operators");
    let input = NdTensor::from_data(dims, values);
    let output = model.run_one(input.into(), None).expect("an output");
    let output: NdTensor<f32, D> = output.try_into().expect("f32 values of this rank");
    output.into_data()
}

/// Fails unless values differ by at most 1e-4 of the largest.
pub(crate) fn assert_close<const D: usize>(name: &str, found: &[f32], expected: Tensor<D>) {
    let expected: Vec<f32> = expected.into_data().try_to_vec().expect("f32");
    assert_eq!(found.len(), expected.len(), "{name}");
    let pairs = found.iter().zip(&expected);
    let difference = pairs.fold(0.0, |worst: f32, (a, b)| worst.max((a - b).abs()));
    let largest = expected.iter().fold(0.0, |most: f32, b| most.max(b.abs()));
    assert!(
        largest > 0.0 && difference <= 1e-4 * largest,
        "{name}: values of up to {largest} differ by {difference}"
    );
}

/// Keeps a file, its images and their outputs for `check_files.py`, if `REID_ONNX_FILES` names a folder.
pub(crate) fn keep<const D: usize>(
    name: &str,
    file: &[u8],
    images: &Tensor<4>,
    outputs: &Tensor<D>,
) {
    let Some(folder) = env::var_os("REID_ONNX_FILES") else {
        return;
    };
    let words: Vec<&str> = name
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let path = |end: &str| Path::new(&folder).join(format!("{}{end}", words.join("_")));
    let bytes = |data: TensorData| {
        data.iter::<f32>()
            .flat_map(f32::to_le_bytes)
            .collect::<Vec<_>>()
    };
    let batch = images.dims()[0];
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(path(".onnx"), file).expect("written");
    fs::write(path(&format!(".{batch}.images")), bytes(images.to_data())).expect("written");
    let outputs = bytes(outputs.to_data());
    fs::write(path(&format!(".{batch}.outputs")), outputs).expect("written");
}
