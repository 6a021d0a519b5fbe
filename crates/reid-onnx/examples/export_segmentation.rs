//! Exports a segmentation model as an ONNX file, for ONNX Runtime, OpenVINO, TensorRT and other runtimes.
//!
//! A run of the example `segment_streets`, or one of its checkpoints:
//!
//! ```sh
//! cargo run --release -p reid-onnx --example export_segmentation -- --run target/segment_streets \
//!     --size 1024x2048 --out streets.onnx
//! ```
//!
//! Published weights, with the names of torchvision, semseg or mmsegmentation:
//!
//! ```sh
//! cargo run --release -p reid-onnx --example export_segmentation -- --network deeplab \
//!     --weights deeplabv3_resnet101_coco.pth --classes 21 --size 520x520 --out deeplab.onnx
//! ```
//!
//! The file is for images of `--size`, by default the crops of the run, or 769x769. Its output is the logits of
//! every pixel. Without `--run` and `--weights`, the weights of `--network` are random.

#![expect(clippy::print_stdout, reason = "a program talks to its user")]

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use burn::tensor::Device;
use clap::{Parser, ValueEnum};
use reid_core::{InputSize, Seed};
use reid_nn::{
    Block, BlockConfig, Init,
    attention::AttentionConfig,
    backbone::ResNetConfig,
    segmentation::{AsppConfig, PyramidPoolingConfig, SegmentationConfig, SegmentationModel},
};
use reid_onnx::{
    LowerBlock, SegmentationExportConfig, export_segmentation, export_segmentation_run,
};
use reid_zoo::{segmentation, weights};

/// The context block of a run of `segment_streets`.
#[derive(Clone, Copy, ValueEnum)]
enum Context {
    Plain,
    Pyramid,
    Aspp,
}

#[derive(Clone, Copy, ValueEnum)]
enum Network {
    /// torchvision's fully convolutional network.
    Fcn,
    /// torchvision's DeepLabV3.
    Deeplab,
    /// semseg's PSPNet.
    Pspnet,
    /// mmsegmentation's DeepLabV3, `deeplabv3_r101-d8`.
    MmsegDeeplab,
    /// mmsegmentation's PSPNet, `pspnet_r101-d8`.
    MmsegPspnet,
}

#[derive(Parser)]
#[command(about = "Exports a segmentation model as an ONNX file")]
struct Arguments {
    /// A run of `segment_streets`, or a checkpoint of it such as `run/best`.
    #[arg(long, conflicts_with_all = ["network", "layers", "weights", "classes"])]
    run: Option<PathBuf>,
    /// The context block of the run.
    #[arg(long, value_enum, default_value = "plain")]
    context: Context,
    /// The network of published weights.
    #[arg(long, value_enum, default_value = "deeplab")]
    network: Network,
    /// The number of layers of its ResNet: 50 or 101.
    #[arg(long, default_value_t = 101)]
    layers: usize,
    /// Its weights.
    #[arg(long)]
    weights: Option<PathBuf>,
    /// The number of classes of the weights.
    #[arg(long, default_value_t = 19)]
    classes: usize,
    /// The size of the images.
    #[arg(long, value_name = "HEIGHTxWIDTH")]
    size: Option<InputSize>,
    /// The file. Default: `target/segmentation.onnx`.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Export a narrow network into a temporary folder, to check that the example works.
    #[arg(long)]
    smoke: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let temporary = tempfile::tempdir()?;
    let default = || {
        if arguments.smoke {
            temporary.path().join("segmentation.onnx")
        } else {
            PathBuf::from("target/segmentation.onnx")
        }
    };
    let out = arguments.out.clone().unwrap_or_else(default);
    match &arguments.run {
        Some(run) => export_run(&arguments, run, &out)?,
        None => export_named(&arguments, &out)?,
    }
    println!(
        "{}: {} bytes",
        out.display(),
        std::fs::metadata(&out)?.len()
    );
    Ok(())
}

fn export_run(arguments: &Arguments, run: &Path, out: &Path) -> Result<(), reid_onnx::Error> {
    type Run<C> = SegmentationConfig<C, AttentionConfig>;
    let size = arguments.size;
    match arguments.context {
        Context::Plain => export_segmentation_run::<Run<()>>(run, size, out),
        Context::Pyramid => export_segmentation_run::<Run<PyramidPoolingConfig>>(run, size, out),
        Context::Aspp => export_segmentation_run::<Run<AsppConfig>>(run, size, out),
    }
}

fn export_named(arguments: &Arguments, out: &Path) -> Result<(), Box<dyn Error>> {
    let mut backbone = match arguments.layers {
        50 => ResNetConfig::resnet50(),
        101 => ResNetConfig::resnet101(),
        other => return Err(format!("--layers: expected 50 or 101, found {other}").into()),
    };
    if arguments.smoke {
        (backbone.width, backbone.blocks) = (4, [1; 4]);
    }
    match arguments.network {
        Network::Fcn => export_config(&segmentation::fcn(backbone), arguments, out),
        Network::Deeplab => export_config(&segmentation::deeplab_v3(backbone), arguments, out),
        Network::Pspnet => export_config(&segmentation::pspnet(backbone), arguments, out),
        Network::MmsegDeeplab => {
            export_config(&segmentation::mmseg_deeplab_v3(backbone), arguments, out)
        }
        Network::MmsegPspnet => {
            export_config(&segmentation::mmseg_pspnet(backbone), arguments, out)
        }
    }
}

/// Exports a network with published or random weights.
fn export_config<C>(
    network: &SegmentationConfig<C>,
    arguments: &Arguments,
    out: &Path,
) -> Result<(), Box<dyn Error>>
where
    C: BlockConfig<Block: Block + LowerBlock>,
{
    let side = if arguments.smoke { 65 } else { 769 };
    let size = arguments.size.unwrap_or(InputSize::new(side, side));
    let (classes, device) = (arguments.classes, Device::default());
    let init = Init::new(Seed::new(1), &device);
    let mut model: SegmentationModel<C::Block> = network.init(size, classes, &init);
    if let Some(file) = &arguments.weights
        && !weights::load_published(&mut model, file)?
    {
        return Err(format!("{}: no classifier of {classes} classes", file.display()).into());
    }
    export_segmentation(&model, &SegmentationExportConfig::new(size), out)?;
    Ok(())
}
