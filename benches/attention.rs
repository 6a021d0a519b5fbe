//! Attention blocks: forward, and forward with backward, two images at a time.
//!
//! ```sh
//! cargo bench --bench attention
//! ```
//!
//! All blocks on the map of a ResNet-50's third stage, and in `relations` relation-aware attention as
//! it is computed here beside the published way, over 128 to 8192 places.

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

/// Frees a map as large as those that a network's first step frees, which is when glibc's `malloc`
/// begins to keep such memory. Before it, what a block costs hangs on where its memory ends.
fn keep_memory() {
    drop(black_box(vec![1_u8; 31 << 20]));
}

fn input(place: FeatureShape, device: &Device) -> Tensor<4> {
    let shape = [IMAGES, place.channels, place.height, place.width];
    Tensor::random(shape, Distribution::Default, device)
}

/// Times a function of a block and its input; reading one value waits for the result.
fn forward<B: Block>(
    bencher: Bencher<'_, '_>,
    config: &impl BlockConfig<Block = B>,
    place: FeatureShape,
    function: impl Fn(&B, Tensor<4>) -> Tensor<4> + Sync,
) {
    let device = device::pick().expect("a device");
    let block = config.init(place, &Init::new(Seed::new(1), &device));
    let input = input(place, &device);
    bencher.bench_local(|| function(&block, input.clone()).sum().into_scalar::<f32>());
}

fn training<B: Block>(
    bencher: Bencher<'_, '_>,
    config: &impl BlockConfig<Block = B>,
    place: FeatureShape,
    function: impl Fn(&B, Tensor<4>) -> Tensor<4> + Sync,
) {
    let device = device::pick().expect("a device").autodiff();
    let block = config.init(place, &Init::new(Seed::new(1), &device));
    let input = input(place, &device);
    bencher.bench_local(|| {
        let leaf = input.clone().detach().require_grad();
        let gradients = function(&block, leaf.clone()).sum().backward();
        let gradient = leaf.grad(&gradients).expect("the input's gradient");
        gradient.sum().into_scalar::<f32>()
    });
}

/// The map of a ResNet-50's third stage.
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

/// 256 channels, as after the first stage of a ResNet-50; 2048 places are its map at 256 x 128.
#[divan::bench_group(sample_count = 3)]
mod relations {
    use divan::Bencher;
    use reid::{
        core::FeatureShape,
        nn::{Block, attention::RgaSpatialConfig},
    };

    use super::{forward, training};

    const PLACES: [usize; 4] = [128, 512, 2048, 8192];
    // In training the published form takes gigabytes at 8192.
    const TRAINED: [usize; 3] = [128, 512, 2048];

    fn place(places: usize) -> FeatureShape {
        FeatureShape::new(256, places / 8, 8)
    }

    #[divan::bench(args = PLACES)]
    fn factorised(bencher: Bencher<'_, '_>, places: usize) {
        forward(
            bencher,
            &RgaSpatialConfig::new(),
            place(places),
            Block::forward,
        );
    }

    #[divan::bench(args = PLACES)]
    fn published(bencher: Bencher<'_, '_>, places: usize) {
        forward(
            bencher,
            &RgaSpatialConfig::new(),
            place(places),
            |block, x| x.clone() * block.relations(x).gate,
        );
    }

    #[divan::bench(args = TRAINED)]
    fn factorised_training(bencher: Bencher<'_, '_>, places: usize) {
        training(
            bencher,
            &RgaSpatialConfig::new(),
            place(places),
            Block::forward,
        );
    }

    #[divan::bench(args = TRAINED)]
    fn published_training(bencher: Bencher<'_, '_>, places: usize) {
        training(
            bencher,
            &RgaSpatialConfig::new(),
            place(places),
            |block, x| x.clone() * block.relations(x).gate,
        );
    }
}
