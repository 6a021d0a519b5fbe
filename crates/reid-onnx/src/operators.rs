//! The operators of ONNX (operator set 13) that networks are made of, as methods of a [`Scope`].

use burn::nn::{Linear, PaddingConfig2d, conv::Conv2d};
use reid_nn::norm::{BatchNorm, InstanceNorm};

use crate::{
    error::Error,
    graph::{Scope, Value},
    proto::{Attribute, int},
};

impl Scope<'_> {
    /// Adds a convolution, with its parameters: `[channels, height, width]` to `[channels out, height out, width out]`.
    ///
    /// # Errors
    /// If the padding is [`Same`](PaddingConfig2d::Same).
    ///
    /// # Panics
    /// If the convolution was built for another number of channels.
    pub fn conv2d(&mut self, conv: &Conv2d, features: &Value<3>) -> Result<Value<3>, Error> {
        let pads = match conv.padding {
            PaddingConfig2d::Valid => [0; 4],
            PaddingConfig2d::Explicit(top, left, bottom, right) => [top, left, bottom, right],
            PaddingConfig2d::Same => {
                return Err(self.unsupported("a convolution with explicit padding", "`Same`"));
            }
        };
        let [outputs, inputs, rows, columns] = conv.weight.shape().dims();
        let [channels, height, width] = features.dims;
        assert_eq!(
            channels,
            inputs * conv.groups,
            "a convolution was built for {} channels and got {:?}",
            inputs * conv.groups,
            features.dims
        );
        let kernel = [rows, columns];
        let side = |size: usize, axis: usize| {
            let extent = conv.dilation[axis] * (kernel[axis] - 1) + 1;
            (size + pads[axis] + pads[axis + 2] - extent) / conv.stride[axis] + 1
        };
        let dims = [outputs, side(height, 0), side(width, 1)];
        let weight = self.parameter("weight", conv.weight.val());
        let bias = conv
            .bias
            .as_ref()
            .map(|bias| self.parameter("bias", bias.val()));
        let inputs = [features.name.clone(), weight].into_iter().chain(bias);
        let attributes = vec![
            Attribute::ints("kernel_shape", &kernel),
            Attribute::ints("strides", &conv.stride),
            Attribute::ints("pads", &pads),
            Attribute::ints("dilations", &conv.dilation),
            Attribute::int("group", int(conv.groups)),
        ];
        Ok(self.node("Conv", inputs.collect(), attributes, dims))
    }

    /// Adds a linear layer, with its parameters: `[inputs]` to `[outputs]`.
    ///
    /// # Panics
    /// If the layer was built for another number of inputs.
    pub fn linear(&mut self, layer: &Linear, vectors: &Value<1>) -> Value<1> {
        let [inputs, outputs] = layer.weight.shape().dims();
        assert_eq!(
            vectors.dims,
            [inputs],
            "a linear layer was built for {inputs} inputs and got {:?}",
            vectors.dims
        );
        let weight = self.parameter("weight", layer.weight.val());
        let bias = layer.bias.as_ref();
        let bias = bias.map(|bias| self.parameter("bias", bias.val()));
        let inputs = [vectors.name.clone(), weight].into_iter().chain(bias);
        self.node("Gemm", inputs.collect(), Vec::new(), [outputs])
    }

    /// Adds a batch normalisation of `[channels, ...]` by running statistics, as `scale·x + shift`.
    ///
    /// # Panics
    /// If the layer was built for another number of channels.
    pub fn batch_norm<const D: usize>(&mut self, norm: &BatchNorm, values: &Value<D>) -> Value<D> {
        let (scale, shift) = norm.affine();
        let [channels] = scale.dims();
        assert_eq!(
            values.dims[0], channels,
            "batch normalisation was built for {channels} channels and got {:?}",
            values.dims
        );
        let mut shape = [1; D];
        shape[0] = channels;
        let scale = self.parameter("scale", scale.reshape(shape));
        let shift = self.parameter("shift", shift.reshape(shape));
        let scaled = self.node(
            "Mul",
            vec![values.name.clone(), scale],
            Vec::new(),
            values.dims,
        );
        self.node("Add", vec![scaled.name, shift], Vec::new(), values.dims)
    }

    /// Adds an instance normalisation of `[channels, height, width]`.
    ///
    /// # Panics
    /// If the layer was built for another number of channels.
    pub fn instance_norm(&mut self, norm: &InstanceNorm, features: &Value<3>) -> Value<3> {
        let [channels] = norm.weight.shape().dims();
        assert_eq!(
            features.dims[0], channels,
            "instance normalisation was built for {channels} channels and got {:?}",
            features.dims
        );
        let weight = self.parameter("weight", norm.weight.val());
        let bias = self.parameter("bias", norm.bias.val());
        #[expect(
            clippy::cast_possible_truncation,
            reason = "ONNX stores it in single precision"
        )]
        let epsilon = Attribute::float("epsilon", norm.epsilon as f32);
        let inputs = vec![features.name.clone(), weight, bias];
        self.node(
            "InstanceNormalization",
            inputs,
            vec![epsilon],
            features.dims,
        )
    }

    /// Adds `max(0, x)`.
    pub fn relu<const D: usize>(&mut self, values: &Value<D>) -> Value<D> {
        self.unary("Relu", values)
    }

    /// Adds `x` where it is positive, and otherwise `slope·x`.
    pub fn leaky_relu<const D: usize>(&mut self, values: &Value<D>, slope: f32) -> Value<D> {
        let slope = vec![Attribute::float("alpha", slope)];
        self.node("LeakyRelu", vec![values.name.clone()], slope, values.dims)
    }

    /// Adds `1/(1 + exp(-x))`.
    pub fn sigmoid<const D: usize>(&mut self, values: &Value<D>) -> Value<D> {
        self.unary("Sigmoid", values)
    }

    /// Adds `min(max(low, x), high)`, or `max(low, x)` if `high` is `None`.
    pub fn clamp<const D: usize>(
        &mut self,
        values: &Value<D>,
        low: f32,
        high: Option<f32>,
    ) -> Value<D> {
        let low = self.constant(low);
        let high = high.map(|high| self.constant(high));
        let inputs = [values.name.clone(), low].into_iter().chain(high);
        self.node("Clip", inputs.collect(), Vec::new(), values.dims)
    }

    /// Adds the softmax over the last dimension.
    pub fn softmax<const D: usize>(&mut self, values: &Value<D>) -> Value<D> {
        let axis = vec![Attribute::int("axis", -1)];
        self.node("Softmax", vec![values.name.clone()], axis, values.dims)
    }

    /// Adds `x/‖x‖` of a vector, `[dimensions]`.
    pub fn unit_length(&mut self, vectors: &Value<1>) -> Value<1> {
        let attributes = vec![Attribute::int("axis", 1), Attribute::int("p", 2)];
        let inputs = vec![vectors.name.clone()];
        self.node("LpNormalization", inputs, attributes, vectors.dims)
    }

    /// Adds an elementwise sum. A dimension of size 1 is broadcast.
    ///
    /// # Panics
    /// If the sizes differ and neither is 1.
    pub fn add<const D: usize>(&mut self, one: &Value<D>, other: &Value<D>) -> Value<D> {
        self.binary("Add", one, other)
    }

    /// Adds an elementwise product. A dimension of size 1 is broadcast.
    ///
    /// # Panics
    /// If the sizes differ and neither is 1.
    pub fn mul<const D: usize>(&mut self, one: &Value<D>, other: &Value<D>) -> Value<D> {
        self.binary("Mul", one, other)
    }

    /// Adds an elementwise quotient. A dimension of size 1 is broadcast.
    ///
    /// # Panics
    /// If the sizes differ and neither is 1.
    pub fn div<const D: usize>(&mut self, one: &Value<D>, other: &Value<D>) -> Value<D> {
        self.binary("Div", one, other)
    }

    /// Adds the product with a constant.
    pub fn scale<const D: usize>(&mut self, values: &Value<D>, factor: f32) -> Value<D> {
        let factor = self.constant(factor);
        let inputs = vec![values.name.clone(), factor];
        self.node("Mul", inputs, Vec::new(), values.dims)
    }

    /// Adds `xᵉ` for a constant exponent e.
    pub fn pow<const D: usize>(&mut self, values: &Value<D>, exponent: f32) -> Value<D> {
        let exponent = self.constant(exponent);
        let inputs = vec![values.name.clone(), exponent];
        self.node("Pow", inputs, Vec::new(), values.dims)
    }

    fn unary<const D: usize>(&mut self, operator: &str, values: &Value<D>) -> Value<D> {
        self.node(operator, vec![values.name.clone()], Vec::new(), values.dims)
    }

    fn binary<const D: usize>(
        &mut self,
        operator: &str,
        one: &Value<D>,
        other: &Value<D>,
    ) -> Value<D> {
        let mut dims = one.dims;
        for (size, &other_size) in dims.iter_mut().zip(&other.dims) {
            assert!(
                *size == other_size || *size == 1 || other_size == 1,
                "{operator} of values of the sizes {:?} and {:?}",
                one.dims,
                other.dims
            );
            *size = (*size).max(other_size);
        }
        let inputs = vec![one.name.clone(), other.name.clone()];
        self.node(operator, inputs, Vec::new(), dims)
    }
}
