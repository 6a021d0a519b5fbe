//! Exports a network as an ONNX file, for ONNX Runtime, OpenVINO, TensorRT and other runtimes.
//!
//! A trained run, or one of its checkpoints:
//!
//! ```sh
//! cargo run --release -p reid-onnx --example export_onnx -- --run run --out model.onnx
//! ```
//!
//! A named network with published weights, such as those of torchreid:
//!
//! ```sh
//! cargo run --release -p reid-onnx --example export_onnx -- --architecture osnet-x0.25 \
//!     --weights osnet_x0_25_msmt17.pth --out osnet.onnx
//! ```
//!
//! Without `--run` and `--architecture`, it exports an untrained OSNet x0.25. The input size of a run is in
//! the file of the run; for a named network it is `--size`, by default 256x128.

#![expect(clippy::print_stdout, reason = "a program talks to its user")]

use std::{error::Error, path::PathBuf};

use burn::tensor::Device;
use clap::Parser;
use reid_core::{InputSize, Seed};
use reid_nn::{Init, Network};
use reid_onnx::{ExportConfig, export_onnx, export_run};
use reid_zoo::{
    Architecture, ArchitectureModel,
    weights::{self, Weights},
};

/// The prefix of the classifier, which is not exported.
const CLASSIFIER: &str = "head.classifier.";

#[derive(Parser)]
#[command(about = "Exports a network as an ONNX file")]
struct Arguments {
    /// A run, or a checkpoint of it such as `run/best`.
    #[arg(long, conflicts_with_all = ["architecture", "weights", "size"])]
    run: Option<PathBuf>,
    /// The name of a network, such as `resnet50`, `osnet-x1.0` or `mobilenet-v2`.
    #[arg(long, value_name = "NAME", default_value = "osnet-x0.25")]
    architecture: Architecture,
    /// Weights of the named network: those that `reid` saves, or published ones of OSNet and MobileNetV2.
    #[arg(long)]
    weights: Option<PathBuf>,
    /// The input size of the named network.
    #[arg(long, value_name = "HEIGHTxWIDTH", default_value_t = InputSize::PERSON)]
    size: InputSize,
    /// The file. Default: `target/model.onnx`.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Export into a temporary folder, to check that the example works.
    #[arg(long)]
    smoke: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let temporary = tempfile::tempdir()?;
    let default = || {
        if arguments.smoke {
            temporary.path().join("model.onnx")
        } else {
            PathBuf::from("target/model.onnx")
        }
    };
    let out = arguments.out.clone().unwrap_or_else(default);
    match &arguments.run {
        Some(run) => export_run(run, &out)?,
        None => export_named(&arguments, &out)?,
    }
    println!(
        "{}: {} bytes",
        out.display(),
        std::fs::metadata(&out)?.len()
    );
    Ok(())
}

fn export_named(arguments: &Arguments, out: &PathBuf) -> Result<(), Box<dyn Error>> {
    let (size, device) = (arguments.size, Device::default());
    let init = Init::new(Seed::new(1), &device);
    let mut model = arguments.architecture.init(size, 1, &init);
    if let Some(file) = &arguments.weights {
        match &mut model {
            ArchitectureModel::OsNet(model) => {
                weights::load_published(model, file)?;
            }
            ArchitectureModel::MobileNetV2(model) => {
                weights::load_published(model, file)?;
            }
            ArchitectureModel::Baseline(model) => {
                let weights = Weights::open(file)?.without(CLASSIFIER);
                weights.optional(CLASSIFIER).load_into(model)?;
            }
            _ => return Err("--weights needs a network that can be named".into()),
        }
    }
    export_onnx(&model, &ExportConfig::new(size), out)?;
    Ok(())
}
