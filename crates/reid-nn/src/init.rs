//! Initialisation: the device and the seed that a network is built with.

use std::{cell::Cell, iter};

use burn::{
    module::{Param, ParamId},
    nn::{
        Initializer, Linear, LinearConfig,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{Device, Tensor, TensorData},
};
use rand::RngExt;
use reid_core::{Seed, Stream};

/// The device of a network, and the seed of its initial weights.
///
/// Weights are drawn on the host, each from its own random stream. The same seed therefore gives
/// bit-identical weights on every backend, whatever other threads do. A weight is drawn when it is first
/// read, so a network whose weights are loaded right after it is built draws none.
///
/// The k-th weight that is requested draws from the k-th stream, so two layers of one part never get the same
/// weights. [`named`](Self::named) and [`at`](Self::at) give a part separate streams, which do not depend on
/// the rest of the network.
///
/// ```
/// use burn::{nn::LinearConfig, tensor::Device};
/// use reid_core::Seed;
/// use reid_nn::Init;
///
/// let device = Device::default();
/// let draw = |seed| Init::new(Seed::new(seed), &device).linear(&LinearConfig::new(2, 3));
/// assert_eq!(draw(1).weight.to_data(), draw(1).weight.to_data());
/// assert_ne!(draw(1).weight.to_data(), draw(2).weight.to_data());
/// ```
///
/// Other layers of Burn are built as usual, with `XConfig::init(init.device())`. Their weights come from
/// Burn's generator, which is shared by the whole process and seeded by `Device::seed`.
#[derive(Clone, Debug)]
pub struct Init<'a> {
    device: &'a Device,
    /// The seed; `None` for weights of zeros.
    seed: Option<Seed>,
    /// The number of weights requested so far.
    requested: Cell<u64>,
}

impl<'a> Init<'a> {
    /// Draws weights from a seed.
    #[must_use]
    pub const fn new(seed: Seed, device: &'a Device) -> Self {
        let seed = Some(seed);
        Self::from_parts(seed, device)
    }

    /// Sets all weights to 0, for a network whose weights are loaded after it is built.
    #[must_use]
    pub const fn empty(device: &'a Device) -> Self {
        Self::from_parts(None, device)
    }

    const fn from_parts(seed: Option<Seed>, device: &'a Device) -> Self {
        let requested = Cell::new(0);
        Self {
            device,
            seed,
            requested,
        }
    }

    /// The device of the tensors.
    #[must_use]
    pub const fn device(&self) -> &'a Device {
        self.device
    }

    /// Returns an `Init` with separate random streams for the part with this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        Self::from_parts(self.seed.map(|seed| seed.named(name)), self.device)
    }

    /// Returns an `Init` with separate random streams for the part with this index.
    #[must_use]
    pub fn at(&self, index: usize) -> Self {
        Self::from_parts(self.seed.map(|seed| seed.at(index as u64)), self.device)
    }

    /// Builds a convolution whose weight and bias have the distribution of its configuration.
    ///
    /// # Panics
    /// If the number of groups does not divide the input and output channels.
    #[must_use]
    pub fn conv2d(&self, config: &Conv2dConfig) -> Conv2d {
        let ([inputs, outputs], groups) = (config.channels, config.groups);
        assert!(
            inputs.is_multiple_of(groups) && outputs.is_multiple_of(groups),
            "a convolution needs groups that divide its {inputs} input and {outputs} output channels, \
             found {groups}"
        );
        let [height, width] = config.kernel_size;
        let area = height * width;
        let fan = [inputs / groups * area, outputs / groups * area];
        let initializer = &config.initializer;
        let weight = self.tensor([outputs, inputs / groups, height, width], initializer, fan);
        let bias = config
            .bias
            .then(|| self.tensor([outputs], initializer, fan));
        Conv2d {
            weight,
            bias,
            stride: config.stride,
            kernel_size: config.kernel_size,
            dilation: config.dilation,
            groups,
            padding: config.padding.clone(),
        }
    }

    /// Builds a linear layer whose weight and bias have the distribution of its configuration. The weight is
    /// stored as `[inputs, outputs]`, whatever the layout in the configuration.
    #[must_use]
    pub fn linear(&self, config: &LinearConfig) -> Linear {
        let fan @ [inputs, outputs] = [config.d_input, config.d_output];
        let initializer = &config.initializer;
        Linear {
            weight: self.tensor([inputs, outputs], initializer, fan),
            bias: config
                .bias
                .then(|| self.tensor([outputs], initializer, fan)),
        }
    }

    /// Builds a parameter with the given shape and distribution. `fan` is `[fan in, fan out]`, by which
    /// Kaiming and Xavier distributions are scaled.
    ///
    /// # Panics
    /// When the parameter is first read, if it is orthogonal and has fewer than 2 dimensions.
    #[must_use]
    pub fn tensor<const D: usize>(
        &self,
        shape: [usize; D],
        initializer: &Initializer,
        fan: [usize; 2],
    ) -> Param<Tensor<D>> {
        let index = self.requested.replace(self.requested.get() + 1);
        let seed = self.seed.map(|seed| seed.at(index));
        let initializer = initializer.clone();
        let draw = move |device: &Device, require_grad| {
            let tensor = match seed {
                Some(seed) => drawn(shape, &initializer, fan, seed.stream(), device),
                None => Tensor::zeros(shape, device),
            };
            tensor.set_require_grad(require_grad)
        };
        let device = self.device.clone();
        Param::uninitialized(ParamId::new(), draw, device, true, shape.into())
    }
}

fn drawn<const D: usize>(
    shape: [usize; D],
    initializer: &Initializer,
    fan: [usize; 2],
    mut stream: Stream,
    device: &Device,
) -> Tensor<D> {
    let count = shape.iter().product();
    // Values are rounded to single precision one by one: a second buffer would be twice as large as the weight.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "weights are stored in single precision"
    )]
    let round = |value: f64| value as f32;
    let values: Vec<f32> = match Distribution::new(initializer, fan) {
        Distribution::Constant(value) => return Tensor::full(shape, value, device),
        Distribution::Uniform { low, high } => (0..count)
            .map(|_| round(low + (high - low) * stream.random::<f64>()))
            .collect(),
        Distribution::Normal { mean, deviation } => {
            let drawn = normal(&mut stream).map(|value| round(mean + deviation * value));
            let mut values = Vec::with_capacity(count);
            values.extend(drawn.take(count));
            values
        }
        Distribution::Orthogonal { gain } => {
            assert!(
                D > 1,
                "an orthogonal weight needs at least 2 dimensions, found {D}"
            );
            let values = orthogonal(shape[0], count / shape[0].max(1), gain, &mut stream);
            values.into_iter().map(round).collect()
        }
    };
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The distribution of an [`Initializer`] for a given fan.
enum Distribution {
    Constant(f64),
    Uniform { low: f64, high: f64 },
    Normal { mean: f64, deviation: f64 },
    Orthogonal { gain: f64 },
}

impl Distribution {
    fn new(initializer: &Initializer, [fan_in, fan_out]: [usize; 2]) -> Self {
        let kaiming = |gain: f64, fan_out_only: bool| {
            let fan = if fan_out_only { fan_out } else { fan_in };
            gain / (fan as f64).sqrt()
        };
        let xavier = |gain: f64| gain * (2.0 / (fan_in + fan_out) as f64).sqrt();
        match *initializer {
            Initializer::Constant { value } => Self::Constant(value),
            Initializer::Ones => Self::Constant(1.0),
            Initializer::Zeros => Self::Constant(0.0),
            Initializer::Uniform { min, max } => Self::Uniform {
                low: min,
                high: max,
            },
            Initializer::Normal { mean, std } => Self::Normal {
                mean,
                deviation: std,
            },
            Initializer::KaimingUniform { gain, fan_out_only } => {
                Self::centred_uniform(kaiming(gain, fan_out_only))
            }
            Initializer::KaimingNormal { gain, fan_out_only } => Self::Normal {
                mean: 0.0,
                deviation: kaiming(gain, fan_out_only),
            },
            Initializer::XavierUniform { gain } => Self::centred_uniform(xavier(gain)),
            Initializer::XavierNormal { gain } => Self::Normal {
                mean: 0.0,
                deviation: xavier(gain),
            },
            Initializer::Orthogonal { gain } => Self::Orthogonal { gain },
        }
    }

    /// The uniform distribution with mean 0 and this standard deviation.
    fn centred_uniform(deviation: f64) -> Self {
        let high = 3.0_f64.sqrt() * deviation;
        Self::Uniform { low: -high, high }
    }
}

/// Draws values from the standard normal distribution with the polar method (Marsaglia and Bray, 1964), which
/// gives two values at a time.
fn normal(stream: &mut Stream) -> impl Iterator<Item = f64> {
    let pairs = iter::from_fn(move || {
        loop {
            let [x, y] = [(); 2].map(|()| 2.0 * stream.random::<f64>() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                let factor = (-2.0 * square.ln() / square).sqrt();
                return Some([x * factor, y * factor]);
            }
        }
    });
    pairs.flatten()
}

/// Draws a matrix in row-major order whose rows or columns, whichever are fewer, are orthogonal and have
/// length `gain`. Normal vectors are orthogonalised with the Gram-Schmidt process (Saxe et al., ICLR 2014,
/// arXiv:1312.6120).
fn orthogonal(rows: usize, columns: usize, gain: f64, stream: &mut Stream) -> Vec<f64> {
    let (few, length) = (rows.min(columns), rows.max(columns));
    let mut vectors: Vec<Vec<f64>> = Vec::with_capacity(few);
    let dot = |one: &[f64], other: &[f64]| one.iter().zip(other).map(|(a, b)| a * b).sum::<f64>();
    for _ in 0..few {
        let mut vector: Vec<f64> = normal(stream).take(length).collect();
        for earlier in &vectors {
            let along = dot(&vector, earlier);
            let parts = vector.iter_mut().zip(earlier);
            parts.for_each(|(value, part)| *value -= along * part);
        }
        let norm = dot(&vector, &vector).sqrt();
        for value in &mut *vector {
            *value /= norm;
        }
        vectors.push(vector);
    }
    let value = |row: usize, column: usize| {
        if rows < columns {
            vectors[row][column]
        } else {
            vectors[column][row]
        }
    };
    let positions = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    positions
        .map(|(row, column)| gain * value(row, column))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn read<const D: usize>(param: &Param<Tensor<D>>) -> Vec<f32> {
        param.val().into_data().try_to_vec().expect("f32 weights")
    }

    fn draw(initializer: &Initializer) -> Vec<f32> {
        let device = Device::default();
        let init = Init::new(Seed::new(3), &device);
        read(&init.tensor([100, 50], initializer, [100, 400]))
    }

    #[test]
    fn moments_match_the_distributions() {
        let gain = 2.0;
        let (min, max) = (-1.0, 3.0);
        let fan_out_only = true;
        // Mean and standard deviation, which is (max - min)/√12 for a uniform distribution.
        let cases = [
            (
                Initializer::Uniform { min, max },
                1.0,
                4.0 / 12.0_f64.sqrt(),
            ),
            (
                Initializer::Normal {
                    mean: 5.0,
                    std: 0.5,
                },
                5.0,
                0.5,
            ),
            // 2/√400 with fan out, 2/√100 with fan in, 2·√(2/500) for Xavier.
            (Initializer::KaimingNormal { gain, fan_out_only }, 0.0, 0.1),
            (
                Initializer::KaimingUniform {
                    gain,
                    fan_out_only: false,
                },
                0.0,
                0.2,
            ),
            (Initializer::XavierNormal { gain }, 0.0, 0.126_491),
            (Initializer::XavierUniform { gain }, 0.0, 0.126_491),
            (Initializer::Constant { value: 0.5 }, 0.5, 0.0),
            (Initializer::Ones, 1.0, 0.0),
            (Initializer::Zeros, 0.0, 0.0),
        ];
        for (initializer, mean, deviation) in cases {
            let values = draw(&initializer);
            let count = values.len() as f64;
            let found = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
            let squares = values
                .iter()
                .map(|&value| (f64::from(value) - found).powi(2));
            let spread = (squares.sum::<f64>() / count).sqrt();
            // Within 5 standard errors of 5000 values.
            let (error, share) = (deviation * 5.0 / count.sqrt(), 5.0 / count.sqrt());
            assert!(
                (found - mean).abs() <= error,
                "{initializer:?}: mean {found}"
            );
            assert!(
                (spread - deviation).abs() <= deviation * share,
                "{initializer:?}: deviation {spread}"
            );
        }
    }

    #[test]
    fn orthogonal_weights_are_orthogonal() {
        for (rows, columns) in [(3, 5), (5, 3), (4, 4)] {
            let device = Device::default();
            let init = Init::new(Seed::new(3), &device);
            let gain = 2.0;
            let weight: Param<Tensor<2>> =
                init.tensor([rows, columns], &Initializer::Orthogonal { gain }, [1, 1]);
            let weight = weight.val();
            let product = if rows < columns {
                weight.clone().matmul(weight.transpose())
            } else {
                weight.clone().transpose().matmul(weight)
            };
            let expected = Tensor::<2>::eye(rows.min(columns), &device) * 4.0;
            let difference = (product - expected).abs().max().into_scalar::<f32>();
            assert!(difference < 1e-5, "{rows}x{columns}: {difference}");
        }
    }

    #[test]
    fn layers_of_one_part_differ_and_names_have_separate_streams() {
        let device = Device::default();
        let config = LinearConfig::new(4, 4);
        let init = Init::new(Seed::new(1), &device);
        let [one, two] = [(); 2].map(|()| init.linear(&config));
        assert_ne!(read(&one.weight), read(&two.weight));
        let named = |name| read(&init.named(name).linear(&config).weight);
        assert_eq!(named("a"), named("a"));
        assert_ne!(named("a"), named("b"));
        assert_ne!(read(&init.at(0).linear(&config).weight), read(&one.weight));
    }

    #[test]
    fn weights_do_not_depend_on_other_threads_or_reading_order() {
        let draw = |seed: u64| {
            let device = Device::default();
            let init = Init::new(Seed::new(seed), &device);
            let [first, second] = [(); 2].map(|()| init.linear(&LinearConfig::new(16, 16)));
            let second = read(&second.weight);
            [read(&first.weight), second]
        };
        let expected = [draw(0), draw(1)];
        assert_ne!(expected[0], expected[1]);
        let threads: Vec<_> = (0..8)
            .map(|number| thread::spawn(move || (0..20).map(|_| draw(number % 2)).collect()))
            .collect();
        for (number, thread) in threads.into_iter().enumerate() {
            let drawn: Vec<_> = thread.join().expect("no panic");
            for weights in drawn {
                assert_eq!(weights, expected[number % 2], "thread {number}");
            }
        }
    }

    #[cfg(feature = "ndarray")]
    #[test]
    fn weights_are_bit_identical_on_all_backends() {
        let weights = |device: &Device| {
            let init = Init::new(Seed::new(5), device);
            read(&init.conv2d(&Conv2dConfig::new([8, 16], [3, 3])).weight)
        };
        #[expect(deprecated, reason = "a second backend for tests")]
        let ndarray = Device::ndarray();
        assert_eq!(weights(&ndarray), weights(&Device::flex()));
    }

    #[test]
    fn empty_weights_are_zeros_and_weights_are_drawn_when_first_read() {
        let device = Device::default();
        let linear = Init::empty(&device).linear(&LinearConfig::new(4, 4));
        assert!(!linear.weight.is_initialized());
        assert_eq!(read(&linear.weight), [0.0; 16]);
        let drawn = Init::new(Seed::new(1), &device).linear(&LinearConfig::new(4, 4));
        assert!(!drawn.weight.is_initialized());
    }

    #[test]
    fn weights_stay_the_same_from_release_to_release() {
        let device = Device::default();
        let linear = Init::new(Seed::new(1), &device).linear(&LinearConfig::new(1, 3));
        let expected = [0.065_528_09, 0.713_517_2, -0.405_748_9];
        assert_eq!(read(&linear.weight), expected);
    }

    #[test]
    #[should_panic(expected = "groups that divide its 4 input and 8 output channels, found 3")]
    fn groups_that_do_not_divide_the_channels_panic() {
        let device = Device::default();
        let config = Conv2dConfig::new([4, 8], [1, 1]).with_groups(3);
        let _ = Init::empty(&device).conv2d(&config);
    }
}
