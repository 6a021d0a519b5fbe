//! The protobuf messages of an ONNX file that an export needs, with the field numbers of `onnx.proto`. Repeated
//! integers are not packed, because some readers reject packed ones.

use prost::Message;

/// The number of the element type `float` in a tensor.
pub(crate) const FLOAT: i32 = 1;
/// The number of the element type `int64` in a tensor.
pub(crate) const INT64: i32 = 7;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Model {
    #[prost(int64, tag = "1")]
    pub(crate) ir_version: i64,
    #[prost(string, tag = "2")]
    pub(crate) producer_name: String,
    #[prost(string, tag = "3")]
    pub(crate) producer_version: String,
    #[prost(message, optional, tag = "7")]
    pub(crate) graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub(crate) opset_import: Vec<OperatorSet>,
    #[prost(message, repeated, tag = "14")]
    pub(crate) metadata: Vec<Property>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OperatorSet {
    #[prost(string, tag = "1")]
    pub(crate) domain: String,
    #[prost(int64, tag = "2")]
    pub(crate) version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Property {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub(crate) nodes: Vec<Node>,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "5")]
    pub(crate) initializers: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) inputs: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    pub(crate) outputs: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub(crate) inputs: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) outputs: Vec<String>,
    #[prost(string, tag = "3")]
    pub(crate) name: String,
    #[prost(string, tag = "4")]
    pub(crate) operator: String,
    #[prost(message, repeated, tag = "5")]
    pub(crate) attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Attribute {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(float, tag = "2")]
    pub(crate) float: f32,
    #[prost(int64, tag = "3")]
    pub(crate) int: i64,
    /// A text in UTF-8.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) string: Vec<u8>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub(crate) ints: Vec<i64>,
    /// Which of the fields is used: 1, 2, 3 or 7.
    #[prost(int32, tag = "20")]
    pub(crate) kind: i32,
}

impl Attribute {
    pub(crate) fn float(name: &str, float: f32) -> Self {
        Self {
            name: name.to_owned(),
            float,
            kind: 1,
            ..Self::default()
        }
    }

    pub(crate) fn int(name: &str, int: i64) -> Self {
        Self {
            name: name.to_owned(),
            int,
            kind: 2,
            ..Self::default()
        }
    }

    pub(crate) fn string(name: &str, text: &str) -> Self {
        Self {
            name: name.to_owned(),
            string: text.as_bytes().to_vec(),
            kind: 3,
            ..Self::default()
        }
    }

    pub(crate) fn ints(name: &str, ints: &[usize]) -> Self {
        Self {
            name: name.to_owned(),
            ints: ints.iter().map(|&size| int(size)).collect(),
            kind: 7,
            ..Self::default()
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Tensor {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub(crate) dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(crate) element: i32,
    #[prost(string, tag = "8")]
    pub(crate) name: String,
    /// The values, little-endian, in row-major order.
    #[prost(bytes = "vec", tag = "9")]
    pub(crate) raw: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ValueInfo {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) kind: Option<Type>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Type {
    #[prost(message, optional, tag = "1")]
    pub(crate) tensor: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorType {
    #[prost(int32, tag = "1")]
    pub(crate) element: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Shape {
    #[prost(message, repeated, tag = "1")]
    pub(crate) dims: Vec<Dimension>,
}

/// A fixed size, or a name for a size that is known when the network runs.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Dimension {
    #[prost(int64, optional, tag = "1")]
    pub(crate) size: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub(crate) name: Option<String>,
}

impl ValueInfo {
    /// A batch of single-precision tensors, `[batch, ...dims]`.
    pub(crate) fn batch(name: &str, dims: &[usize]) -> Self {
        let batch = Dimension {
            size: None,
            name: Some("batch".to_owned()),
        };
        let fixed = dims.iter().map(|&size| Dimension {
            size: Some(int(size)),
            name: None,
        });
        let shape = Shape {
            dims: std::iter::once(batch).chain(fixed).collect(),
        };
        let tensor = TensorType {
            element: FLOAT,
            shape: Some(shape),
        };
        Self {
            name: name.to_owned(),
            kind: Some(Type {
                tensor: Some(tensor),
            }),
        }
    }
}

/// Converts a size to the integer type of ONNX.
///
/// # Panics
/// If it is above 2⁶³ - 1, which no tensor in memory has.
pub(crate) fn int(size: usize) -> i64 {
    i64::try_from(size).expect("sizes of tensors fit `i64`")
}
