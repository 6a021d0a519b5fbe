//! Attention blocks: forward, and forward with backward, two images at a time.
//!
//! ```sh
//! cargo bench --bench attention
//! ```
//!
//! `blocks` compares all of them on the map of a ResNet's third stage. `relations` compares
//! relation-aware attention as it is computed here with the published way, over 128 to 8192 places.

use burn::{
    module::Module,
    tensor::{Device, Distribution, Tensor},
};
use divan::Bencher;
use reid::{
    core::FeatureShape,
    nn::{
        Block, BlockConfig,
        attention::{
            CbamChannelConfig, CbamSpatialConfig, FullyConnectedChannelConfig,
            FullyConnectedSpatialConfig, NonLocalConfig, RgaChannelConfig, RgaSpatialConfig,
            Similarity, SqueezeExcitationConfig,
        },
    },
};

const IMAGES: usize = 2;

fn main() {
    divan::main();
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
    let device = Device::default();
    let block = config.init(place, &device);
    let input = input(place, &device);
    bencher.bench_local(|| function(&block, input.clone()).sum().into_scalar::<f32>());
}

fn training<B: Block>(
    bencher: Bencher<'_, '_>,
    config: &impl BlockConfig<Block = B>,
    place: FeatureShape,
    function: impl Fn(&B, Tensor<4>) -> Tensor<4> + Sync,
) {
    let device = Device::default().autodiff();
    let block = config.init(place, &device).train();
    let input = input(place, &device);
    bencher.bench_local(|| {
        let leaf = input.clone().detach().require_grad();
        let gradients = function(&block, leaf.clone()).sum().backward();
        let gradient = leaf.grad(&gradients).expect("the input's gradient");
        gradient.sum().into_scalar::<f32>()
    });
}

#[divan::bench_group(sample_count = 5)]
mod blocks {
    use super::*;

    const PLACE: FeatureShape = FeatureShape::new(1024, 16, 8);

    macro_rules! both_ways {
        ($($name:ident: $config:expr;)+) => {
            $(mod $name {
                use super::*;

                #[divan::bench]
                fn forward(bencher: Bencher<'_, '_>) {
                    super::super::forward(bencher, &$config, PLACE, Block::forward);
                }

                #[divan::bench]
                fn training(bencher: Bencher<'_, '_>) {
                    super::super::training(bencher, &$config, PLACE, Block::forward);
                }
            })+
        };
    }

    both_ways! {
        squeeze_excitation: SqueezeExcitationConfig::new();
        cbam_channel: CbamChannelConfig::new();
        cbam_spatial: CbamSpatialConfig::new();
        fully_connected_channel: FullyConnectedChannelConfig::new();
        fully_connected_spatial: FullyConnectedSpatialConfig::new();
        non_local_gaussian: NonLocalConfig::new();
        non_local_dot_product: NonLocalConfig::new().with_similarity(Similarity::DotProduct);
        rga_spatial: RgaSpatialConfig::new();
        rga_channel: RgaChannelConfig::new();
    }
}

/// 256 channels, as after the first stage of a ResNet-50; 2048 places are its map at 256 x 128.
#[divan::bench_group(sample_count = 3)]
mod relations {
    use super::*;

    const PLACES: [usize; 4] = [128, 512, 2048, 8192];

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

    #[divan::bench(args = PLACES)]
    fn factorised_training(bencher: Bencher<'_, '_>, places: usize) {
        training(
            bencher,
            &RgaSpatialConfig::new(),
            place(places),
            Block::forward,
        );
    }

    #[divan::bench(args = PLACES)]
    fn published_training(bencher: Bencher<'_, '_>, places: usize) {
        training(
            bencher,
            &RgaSpatialConfig::new(),
            place(places),
            |block, x| x.clone() * block.relations(x).gate,
        );
    }
}
