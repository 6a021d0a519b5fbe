//! The operators of ONNX that pool features, combine positions or channels, and change shapes, as methods of
//! a [`Scope`].

use crate::{
    graph::{Scope, Value},
    proto::Attribute,
};

impl Scope<'_> {
    /// Adds max pooling over windows of `kernel` x `kernel` positions: `[channels, height, width]` to
    /// `[channels, height out, width out]`. `after` is the padding after the last row and column, `before` that before
    /// the first; padded positions are never the maximum.
    pub fn max_pool(
        &mut self,
        features: &Value<3>,
        kernel: usize,
        stride: usize,
        [before, after]: [[usize; 2]; 2],
    ) -> Value<3> {
        self.pool("MaxPool", features, [kernel, stride], [before, after])
    }

    /// Adds average pooling over windows of `kernel` x `kernel` positions, without padding:
    /// `[channels, height, width]` to `[channels, height out, width out]`.
    pub fn avg_pool(&mut self, features: &Value<3>, kernel: usize, stride: usize) -> Value<3> {
        self.pool("AveragePool", features, [kernel, stride], [[0; 2]; 2])
    }

    fn pool(
        &mut self,
        operator: &str,
        features: &Value<3>,
        [kernel, stride]: [usize; 2],
        [before, after]: [[usize; 2]; 2],
    ) -> Value<3> {
        let [channels, height, width] = features.dims;
        let side =
            |size: usize, axis: usize| (size + before[axis] + after[axis] - kernel) / stride + 1;
        let dims = [channels, side(height, 0), side(width, 1)];
        let attributes = vec![
            Attribute::ints("kernel_shape", &[kernel; 2]),
            Attribute::ints("strides", &[stride; 2]),
            Attribute::ints("pads", &[before, after].concat()),
        ];
        self.node(operator, vec![features.name.clone()], attributes, dims)
    }

    /// Adds the mean over all positions, `[channels, 1, 1]`.
    pub fn global_avg_pool(&mut self, features: &Value<3>) -> Value<3> {
        let dims = [features.dims[0], 1, 1];
        let inputs = vec![features.name.clone()];
        self.node("GlobalAveragePool", inputs, Vec::new(), dims)
    }

    /// Adds the maximum over all positions, `[channels, 1, 1]`.
    pub fn global_max_pool(&mut self, features: &Value<3>) -> Value<3> {
        let dims = [features.dims[0], 1, 1];
        let inputs = vec![features.name.clone()];
        self.node("GlobalMaxPool", inputs, Vec::new(), dims)
    }

    /// Adds the mean over the channels, `[1, height, width]`.
    pub fn mean_channels(&mut self, features: &Value<3>) -> Value<3> {
        self.reduce_channels("ReduceMean", features)
    }

    /// Adds the maximum over the channels, `[1, height, width]`.
    pub fn max_channels(&mut self, features: &Value<3>) -> Value<3> {
        self.reduce_channels("ReduceMax", features)
    }

    fn reduce_channels(&mut self, operator: &str, features: &Value<3>) -> Value<3> {
        let [_, height, width] = features.dims;
        let attributes = vec![Attribute::ints("axes", &[1]), Attribute::int("keepdims", 1)];
        let inputs = vec![features.name.clone()];
        self.node(operator, inputs, attributes, [1, height, width])
    }

    /// Adds a reshape of each image's values to `dims`, which does not include the batch.
    ///
    /// # Panics
    /// If the numbers of values differ.
    pub fn reshape<const D: usize, const E: usize>(
        &mut self,
        values: &Value<D>,
        dims: [usize; E],
    ) -> Value<E> {
        assert_eq!(
            values.dims.iter().product::<usize>(),
            dims.iter().product::<usize>(),
            "a value of the size {:?} cannot be reshaped to {dims:?}",
            values.dims
        );
        // The size 0 stands for that of the input: the batch.
        let sizes = self.sizes(&[&[0], dims.as_slice()].concat());
        self.node(
            "Reshape",
            vec![values.name.clone(), sizes],
            Vec::new(),
            dims,
        )
    }

    /// Adds the transpose of each image's matrix: `[rows, columns]` to `[columns, rows]`.
    pub fn transpose(&mut self, matrices: &Value<2>) -> Value<2> {
        let [rows, columns] = matrices.dims;
        let order = vec![Attribute::ints("perm", &[0, 2, 1])];
        let inputs = vec![matrices.name.clone()];
        self.node("Transpose", inputs, order, [columns, rows])
    }

    /// Adds the product of each image's two matrices: `[rows, inner]` and `[inner, columns]` to `[rows, columns]`.
    ///
    /// # Panics
    /// If the columns of the first are not the rows of the second.
    pub fn matmul(&mut self, left: &Value<2>, right: &Value<2>) -> Value<2> {
        let ([rows, inner], [same, columns]) = (left.dims, right.dims);
        assert_eq!(
            inner, same,
            "the matrices of a product have the sizes {:?} and {:?}",
            left.dims, right.dims
        );
        let inputs = vec![left.name.clone(), right.name.clone()];
        self.node("MatMul", inputs, Vec::new(), [rows, columns])
    }

    /// Adds the concatenation along the first dimension, such as the channels.
    ///
    /// # Panics
    /// If there are no values, or their other dimensions differ.
    pub fn concat<const D: usize>(&mut self, values: &[Value<D>]) -> Value<D> {
        if let [value] = values {
            return value.clone();
        }
        let mut dims = values.first().expect("at least 1 value").dims;
        for value in values {
            assert_eq!(
                value.dims[1..],
                dims[1..],
                "values that are concatenated differ in size"
            );
        }
        dims[0] = values.iter().map(|value| value.dims[0]).sum();
        let names = values.iter().map(|value| value.name.clone());
        self.node(
            "Concat",
            names.collect(),
            vec![Attribute::int("axis", 1)],
            dims,
        )
    }

    /// Adds the part of a value from `start` to `end` of a dimension, which counts from 0 after the batch.
    ///
    /// # Panics
    /// If the range is outside of the dimension.
    pub fn slice<const D: usize>(
        &mut self,
        values: &Value<D>,
        axis: usize,
        [start, end]: [usize; 2],
    ) -> Value<D> {
        let mut dims = values.dims;
        assert!(
            start < end && end <= dims[axis],
            "the range {start}..{end} of a dimension of {} values",
            dims[axis]
        );
        dims[axis] = end - start;
        let range = [start, end, axis + 1].map(|value| self.sizes(&[value]));
        let inputs = std::iter::once(values.name.clone()).chain(range);
        self.node("Slice", inputs.collect(), Vec::new(), dims)
    }

    /// Adds the mirror image of `[3, height, width]`: the columns in reverse order.
    pub fn mirror(&mut self, images: &Value<3>) -> Value<3> {
        let [_, _, width] = images.dims;
        let columns: Vec<usize> = (0..width).rev().collect();
        let columns = self.integers("mirrored_columns".to_owned(), &columns);
        let inputs = vec![images.name.clone(), columns];
        self.node(
            "Gather",
            inputs,
            vec![Attribute::int("axis", 3)],
            images.dims,
        )
    }

    /// Adds the values of one position per channel, `[channels, 1, 1]`, at every position of a feature map of
    /// this size.
    ///
    /// # Panics
    /// If it has more positions.
    pub fn expand(&mut self, pooled: &Value<3>, [height, width]: [usize; 2]) -> Value<3> {
        let [channels, rows, columns] = pooled.dims;
        assert_eq!(
            [rows, columns],
            [1, 1],
            "only a pooled feature map is expanded, found {:?}",
            pooled.dims
        );
        let sizes = self.sizes(&[1, 1, height, width]);
        let inputs = vec![pooled.name.clone(), sizes];
        self.node("Expand", inputs, Vec::new(), [channels, height, width])
    }

    /// Adds a value of one position per channel, `[channels, 1, 1]`, as a vector.
    ///
    /// # Panics
    /// If it has more positions.
    pub fn flatten(&mut self, pooled: &Value<3>) -> Value<1> {
        let [channels, rows, columns] = pooled.dims;
        assert_eq!(
            [rows, columns],
            [1, 1],
            "only a pooled feature map is a vector, found {:?}",
            pooled.dims
        );
        let attributes = vec![Attribute::int("axis", 1)];
        let inputs = vec![pooled.name.clone()];
        self.node("Flatten", inputs, attributes, [channels])
    }
}
