//! The graph of an ONNX file while it is built: values, parameters and nodes.

use std::{collections::HashMap, fmt::Display};

use burn::tensor::Tensor;

use crate::{
    error::Error,
    proto::{self, Attribute, int},
};

/// A value in the graph: a batch of tensors of rank `D`. A feature map is a `Value<3>`, an embedding a
/// `Value<1>`.
#[derive(Clone, Debug)]
pub struct Value<const D: usize> {
    pub(crate) name: String,
    pub(crate) dims: [usize; D],
}

impl<const D: usize> Value<D> {
    /// The size of each dimension, without that of the batch.
    #[must_use]
    pub fn dims(&self) -> [usize; D] {
        self.dims
    }
}

/// The nodes and the parameters so far.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<proto::Node>,
    pub(crate) initializers: Vec<proto::Tensor>,
    /// The index of each initializer, by its name.
    indices: HashMap<String, usize>,
    /// The number of nodes with each name.
    counts: HashMap<String, usize>,
}

/// The graph, with the path of the part of the network whose operators are added to it.
///
/// The methods that add operators, such as [`relu`](Self::relu), return the result. Parameters and nodes are
/// named after the path, so that a viewer shows where they come from. [`LowerBlock`](crate::LowerBlock) has an
/// example.
#[derive(Debug)]
pub struct Scope<'a> {
    graph: &'a mut Graph,
    path: String,
}

impl<'a> Scope<'a> {
    /// The scope of a whole network.
    pub(crate) fn new(graph: &'a mut Graph) -> Self {
        Self {
            graph,
            path: String::new(),
        }
    }

    /// The scope of a part with this name or index.
    #[must_use]
    pub fn at(&mut self, name: impl Display) -> Scope<'_> {
        let path = match self.path.as_str() {
            "" => name.to_string(),
            path => format!("{path}.{name}"),
        };
        Scope {
            graph: self.graph,
            path,
        }
    }

    /// The error for a part that cannot be exported.
    #[must_use]
    pub fn unsupported(&self, expected: impl Display, found: impl Display) -> Error {
        let part = if self.path.is_empty() {
            "the network".to_owned()
        } else {
            self.path.clone()
        };
        Error::Unsupported {
            part,
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    /// Adds a parameter and returns its name. A part that is used several times has its parameters once.
    ///
    /// # Panics
    /// If another parameter of this scope has the same name.
    pub(crate) fn parameter<const D: usize>(&mut self, name: &str, values: Tensor<D>) -> String {
        let dims = values.dims();
        let data = values.into_data().convert::<f32>();
        let raw = data.iter::<f32>().flat_map(f32::to_le_bytes).collect();
        let name = self.at(name).path;
        self.initializer(name, proto::FLOAT, &dims, raw)
    }

    /// Adds a constant of single precision, and returns its name.
    pub(crate) fn constant(&mut self, value: f32) -> String {
        let raw = value.to_le_bytes().to_vec();
        self.initializer(format!("constant_{value}"), proto::FLOAT, &[], raw)
    }

    /// Adds a matrix of single precision in row-major order, and returns its name.
    pub(crate) fn matrix(&mut self, name: &str, dims: [usize; 2], values: &[f32]) -> String {
        let raw = values.iter().copied().flat_map(f32::to_le_bytes).collect();
        let name = self.at(name).path;
        self.initializer(name, proto::FLOAT, &dims, raw)
    }

    /// Adds the scales of the rows and columns of a batch of feature maps, and returns their name.
    pub(crate) fn scales(&mut self, [rows, columns]: [f32; 2]) -> String {
        let raw = [1.0, 1.0, rows, columns].into_iter();
        let raw = raw.flat_map(f32::to_le_bytes).collect();
        let name = format!("scales_{rows}_{columns}");
        self.initializer(name, proto::FLOAT, &[4], raw)
    }

    /// Adds a list of sizes or indices, and returns its name.
    pub(crate) fn sizes(&mut self, values: &[usize]) -> String {
        let texts: Vec<String> = values.iter().map(usize::to_string).collect();
        self.integers(format!("sizes_{}", texts.join("_")), values)
    }

    /// Adds a list of integers that has this name in the whole graph.
    pub(crate) fn integers(&mut self, name: String, values: &[usize]) -> String {
        let raw = values.iter().map(|&value| int(value));
        let raw = raw.flat_map(i64::to_le_bytes).collect();
        self.initializer(name, proto::INT64, &[values.len()], raw)
    }

    fn initializer(&mut self, name: String, element: i32, dims: &[usize], raw: Vec<u8>) -> String {
        let tensor = proto::Tensor {
            dims: dims.iter().map(|&size| int(size)).collect(),
            element,
            name: name.clone(),
            raw,
        };
        let graph = &mut *self.graph;
        if let Some(&index) = graph.indices.get(&name) {
            assert!(
                graph.initializers[index] == tensor,
                "the graph has a parameter {name} with other values: give each part its own scope"
            );
            return name;
        }
        graph.indices.insert(name.clone(), graph.initializers.len());
        graph.initializers.push(tensor);
        name
    }

    /// Adds a node with one output whose size is `dims` without the batch.
    pub(crate) fn node<const D: usize>(
        &mut self,
        operator: &str,
        inputs: Vec<String>,
        attributes: Vec<Attribute>,
        dims: [usize; D],
    ) -> Value<D> {
        let mut name = match self.path.as_str() {
            "" => operator.to_owned(),
            path => format!("{path}/{operator}"),
        };
        let count = self.graph.counts.entry(name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            name = format!("{name}_{count}");
        }
        self.graph.nodes.push(proto::Node {
            inputs,
            outputs: vec![name.clone()],
            name: name.clone(),
            operator: operator.to_owned(),
            attributes,
        });
        Value { name, dims }
    }
}

impl Graph {
    /// Finishes the graph of a network from `images` to an output, which gets this name.
    pub(crate) fn finish<const D: usize>(
        mut self,
        images: &Value<3>,
        output_name: &str,
        output: &Value<D>,
    ) -> proto::Graph {
        let nodes = self.nodes.iter_mut();
        for name in nodes.flat_map(|node| node.inputs.iter_mut().chain(&mut node.outputs)) {
            if *name == output.name {
                output_name.clone_into(name);
            }
        }
        proto::Graph {
            nodes: self.nodes,
            name: "reid".to_owned(),
            initializers: self.initializers,
            inputs: vec![proto::ValueInfo::batch(&images.name, &images.dims)],
            outputs: vec![proto::ValueInfo::batch(output_name, &output.dims)],
        }
    }
}
