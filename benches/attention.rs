//! Attention blocks: forward passes, and forward and backward passes, with two images.
//!
//! ```sh
//! cargo bench --bench attention
//! ```
//!
//! All blocks run on the feature map of the third stage of a ResNet-50. The group `relations` compares two
//! forms of relation-aware attention over 128 to 8192 positions: the factorised form, which reid computes,
//! and the published form, which computes the relation matrix.

use std::hint::black_box;

use burn::tensor::{Device, Distribution, Tensor};
use divan::Bencher;
use reid::{
    core::{FeatureShape, Seed},
    device,
    nn::{
        Block, BlockConfig, Init,
        attention::{
            CbamChannelConfig, CbamSpatialConfig, FullyConnectedChannelConfig,
            FullyConnectedSpatialConfig, NonLocalConfig, RgaChannelConfig, RgaSpatialConfig,
            Similarity, SqueezeExcitationConfig,
        },
    },
};

const IMAGES: usize = 2;

fn main() {
    keep_memory();
    divan::main();
}

/// Frees an allocation as large as those that a network's first step frees. From then on, glibc's `malloc`
/// keeps freed memory of this size. Otherwise the time of a block depends on the layout of the heap.
fn keep_memory() {
    drop(black_box(vec![1_u8; 31 << 20]));
}

fn input(shape: FeatureShape, device: &Device) -> Tensor<4> {
    let shape = [IMAGES, shape.channels, shape.height, shape.width];
    Tensor::random(shape, Distribution::Default, device)
}

/// Times a function of a block and its input. Reading one value waits for the result.
fn forward<B: Block>(
    bencher: Bencher<'_, '_>,
    config: &impl BlockConfig<Block = B>,
    shape: FeatureShape,
    function: impl Fn(&B, Tensor<4>) -> Tensor<4> + Sync,
) {
    let device = device::pick().expect("a device");
    let block = config.init(shape, &Init::new(Seed::new(1), &device));
    let input = input(shape, &device);
    bencher.bench_local(|| function(&block, input.clone()).sum().into_scalar::<f32>());
}

/// Times a function of a block and its input, forward and backward.
fn training<B: Block>(
    bencher: Bencher<'_, '_>,
    config: &impl BlockConfig<Block = B>,
    shape: FeatureShape,
    function: impl Fn(&B, Tensor<4>) -> Tensor<4> + Sync,
) {
    let device = device::pick().expect("a device").autodiff();
    let block = config.init(shape, &Init::new(Seed::new(1), &device));
    let input = input(shape, &device);
    bencher.bench_local(|| {
        let leaf = input.clone().detach().require_grad();
        let gradients = function(&block, leaf.clone()).sum().backward();
        let gradient = leaf.grad(&gradients).expect("the input's gradient");
        gradient.sum().into_scalar::<f32>()
    });
}

/// The feature map of the third stage of a ResNet-50.
const STAGE: FeatureShape = FeatureShape::new(1024, 16, 8);

macro_rules! blocks {
    ($($forward:ident, $training:ident: $config:expr;)+) => {
        $(
            #[divan::bench(sample_count = 5)]
            fn $forward(bencher: Bencher<'_, '_>) {
                forward(bencher, &$config, STAGE, Block::forward);
            }

            #[divan::bench(sample_count = 5)]
            fn $training(bencher: Bencher<'_, '_>) {
                training(bencher, &$config, STAGE, Block::forward);
            }
        )+
    };
}

blocks! {
    squeeze_excitation, squeeze_excitation_training: SqueezeExcitationConfig::new();
    cbam_channel, cbam_channel_training: CbamChannelConfig::new();
    cbam_spatial, cbam_spatial_training: CbamSpatialConfig::new();
    fully_connected_channel, fully_connected_channel_training: FullyConnectedChannelConfig::new();
    fully_connected_spatial, fully_connected_spatial_training: FullyConnectedSpatialConfig::new();
    non_local_gaussian, non_local_gaussian_training: NonLocalConfig::new();
    non_local_dot_product, non_local_dot_product_training: NonLocalConfig::new().with_similarity(Similarity::DotProduct);
    rga_spatial, rga_spatial_training: RgaSpatialConfig::new();
    rga_channel, rga_channel_training: RgaChannelConfig::new();
}

/// Spatial relation-aware attention with 256 channels, as after the first stage of a ResNet-50. At 256 x 128,
/// that feature map has 2048 positions.
#[divan::bench_group(sample_count = 3)]
mod relations {
    use divan::Bencher;
    use reid::{
        core::FeatureShape,
        nn::{Block, attention::RgaSpatialConfig},
    };

    use super::{forward, training};

    const POSITIONS: [usize; 4] = [128, 512, 2048, 8192];
    // With 8192 positions, the published form needs gigabytes in training.
    const TRAINED: [usize; 3] = [128, 512, 2048];

    fn shape(positions: usize) -> FeatureShape {
        FeatureShape::new(256, positions / 8, 8)
    }

    #[divan::bench(args = POSITIONS)]
    fn factorised(bencher: Bencher<'_, '_>, positions: usize) {
        forward(
            bencher,
            &RgaSpatialConfig::new(),
            shape(positions),
            Block::forward,
        );
    }

    #[divan::bench(args = POSITIONS)]
    fn published(bencher: Bencher<'_, '_>, positions: usize) {
        forward(
            bencher,
            &RgaSpatialConfig::new(),
            shape(positions),
            |block, x| x.clone() * block.relations(x).gate,
        );
    }

    #[divan::bench(args = TRAINED)]
    fn factorised_training(bencher: Bencher<'_, '_>, positions: usize) {
        training(
            bencher,
            &RgaSpatialConfig::new(),
            shape(positions),
            Block::forward,
        );
    }

    #[divan::bench(args = TRAINED)]
    fn published_training(bencher: Bencher<'_, '_>, positions: usize) {
        training(
            bencher,
            &RgaSpatialConfig::new(),
            shape(positions),
            |block, x| x.clone() * block.relations(x).gate,
        );
    }
}
