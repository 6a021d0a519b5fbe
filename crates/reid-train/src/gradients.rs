//! Computes the norm of all gradients of a module, scales and clips them, and finds values that are not
//! finite.

mod over_ranks;

use std::{any::Any, collections::HashMap};

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    optim::GradientsParams,
    tensor::{DType, Device, Tensor},
};
use reid_nn::traversal;

pub(crate) use over_ranks::mean_over_ranks;

/// Computes the factor that clips the joint norm of all gradients to `limit`; `None` without gradients.
///
/// ```text
/// g ← g · min(1, limit / √Σ‖g‖²)
/// ```
///
/// Burn's clipping clips each tensor separately, which changes the direction of the step.
pub(crate) fn clipping(squares: &Squares, limit: f64) -> Option<Tensor<1>> {
    let squares = squares.values()?;
    // As in PyTorch, 1e-6 is added to the norm, so that a norm of 0 is no division by 0.
    Some(((squares.sum().sqrt() + 1e-6).recip() * limit).clamp_max(1.0))
}

/// ‖g‖² of the gradient of each parameter, still on the device. It is not finite if a value of the gradient
/// is not finite or its square overflows single precision.
#[derive(Debug, Default)]
pub(crate) struct Squares {
    names: Vec<String>,
    values: Vec<Tensor<1>>,
}

impl Squares {
    /// Computes ‖g‖² for each parameter of a module, named by its path.
    pub(crate) fn of_module<M: Module>(module: &M, gradients: &GradientsParams) -> Self {
        let mut visitor = SquaresVisitor {
            gradients,
            path: Vec::new(),
            squares: Self::default(),
        };
        traversal::visit(module, &mut visitor);
        visitor.squares
    }

    /// Appends the values of the criterion, with the prefix `criterion.` before their names.
    pub(crate) fn with_criterion(mut self, criterion: Self) -> Self {
        let names = criterion.names.into_iter();
        self.names
            .extend(names.map(|name| format!("criterion.{name}")));
        self.values.extend(criterion.values);
        self
    }

    /// One value for each parameter with a gradient, `[parameters]`; `None` if there are none.
    pub(crate) fn values(&self) -> Option<Tensor<1>> {
        (!self.values.is_empty()).then(|| Tensor::cat(self.values.clone(), 0))
    }

    /// The first parameter whose value is not finite. `values` was read from [`values`](Self::values).
    pub(crate) fn not_finite(&self, values: &[f64]) -> Option<&str> {
        let mut pairs = self.names.iter().zip(values);
        let (name, _) = pairs.find(|(_, value)| !value.is_finite())?;
        Some(name)
    }
}

/// The path of the first parameter or running statistic of a module with a value that is not finite.
pub(crate) fn not_finite<M: Module>(module: &M) -> Option<String> {
    let mut visitor = ValuesVisitor::default();
    traversal::visit(module, &mut visitor);
    let sums = visitor.sums;
    let values = sums.values()?.into_data().iter::<f64>().collect::<Vec<_>>();
    sums.not_finite(&values).map(str::to_owned)
}

/// Multiplies all gradients of a module by one factor. Also returns the gradients of other parameters,
/// unchanged.
pub(crate) fn scaled<M: Module>(
    module: &M,
    gradients: GradientsParams,
    factor: &dyn Fn(&Device) -> Tensor<1>,
) -> (GradientsParams, GradientsParams) {
    let mut scaled = Scale {
        gradients,
        factor,
        result: GradientsParams::new(),
    };
    traversal::visit(module, &mut scaled);
    (scaled.result, scaled.gradients)
}

/// Splits the gradients of a module by the groups of its parameters.
///
/// # Panics
/// If a parameter with a gradient has no group.
pub(crate) fn split<M: Module>(
    module: &M,
    gradients: GradientsParams,
    groups: &HashMap<ParamId, usize>,
) -> Vec<GradientsParams> {
    let count = groups.values().max().map_or(1, |last| last + 1);
    let mut split = Split {
        path: Vec::new(),
        gradients,
        groups,
        parts: (0..count).map(|_| GradientsParams::new()).collect(),
    };
    traversal::visit(module, &mut split);
    split.parts
}

struct SquaresVisitor<'a> {
    gradients: &'a GradientsParams,
    path: Vec<String>,
    squares: Squares,
}

impl ModuleVisitor for SquaresVisitor<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let square = gradient.square().sum().cast(DType::F32);
            self.squares.names.push(self.path.join("."));
            self.squares.values.push(square);
        }
    }
}

/// Computes the sum of 0 · value for each parameter, which is 0 if all values are finite and NaN otherwise.
#[derive(Default)]
struct ValuesVisitor {
    path: Vec<String>,
    sums: Squares,
}

impl ModuleVisitor for ValuesVisitor {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val().without_autodiff();
        self.sums.names.push(self.path.join("."));
        self.sums.values.push((value * 0.0).sum().cast(DType::F32));
    }
}

/// The values of a module that are not trained: running statistics and frozen weights.
pub(crate) struct Untrained {
    values: HashMap<ParamId, Box<dyn Any>>,
}

impl Untrained {
    /// Copies the untrained values of a module.
    pub(crate) fn of_module<M: Module>(module: &M) -> Self {
        let mut untrained = Self {
            values: HashMap::new(),
        };
        traversal::visit(module, &mut untrained);
        untrained
    }

    /// Restores these values in the module.
    pub(crate) fn restore<M: Module>(mut self, module: M) -> M {
        traversal::map(module, &mut self)
    }
}

impl ModuleVisitor for Untrained {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            self.values.insert(param.id, Box::new(param.val()));
        }
    }
}

impl ModuleMapper for Untrained {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let saved = self.values.remove(&param.id);
        match saved.and_then(|saved| saved.downcast::<Tensor<D>>().ok()) {
            Some(saved) => {
                let (id, _, mapper) = param.consume();
                Param::from_mapped_value(id, *saved, mapper)
            }
            None => param,
        }
    }
}

struct Split<'a> {
    path: Vec<String>,
    gradients: GradientsParams,
    groups: &'a HashMap<ParamId, usize>,
    parts: Vec<GradientsParams>,
}

impl ModuleVisitor for Split<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            let group = self.groups.get(&param.id).copied();
            let group = group.unwrap_or_else(|| {
                let path = self.path.join(".");
                panic!("the parameter `{path}` was not there when the run started")
            });
            self.parts[group].register(param.id, gradient);
        }
    }
}

struct Scale<'a> {
    gradients: GradientsParams,
    factor: &'a dyn Fn(&Device) -> Tensor<1>,
    result: GradientsParams,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            let scale = (self.factor)(&gradient.device()).reshape([1; D]);
            self.result.register(param.id, gradient * scale);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        nn::LinearConfig,
        tensor::{TensorData, Tolerance},
    };

    use super::*;

    #[test]
    fn clipping_scales_long_gradients_together_and_keeps_short_ones() {
        let device = Device::default().autodiff();
        let linear = LinearConfig::new(1, 1).init(&device);
        let input = Tensor::<2>::from_data([[3.0]], &device);
        // The loss 2·w·3 + 8·b has the gradients 6 and 8, with the norm 10.
        let bias = linear.bias.as_ref().expect("a bias");
        for (limit, expected) in [(5.0, [3.0_f32, 4.0]), (20.0, [6.0, 8.0])] {
            let weighted = input.clone().matmul(linear.weight.val()) * 2.0;
            let loss = weighted.sum() + bias.val() * 8.0;
            let gradients = GradientsParams::from_grads(loss.backward(), &linear);
            let squares = Squares::of_module(&linear, &gradients);
            let scale = clipping(&squares, limit).expect("gradients");
            let (found, _) = scaled(&linear, gradients, &|_| scale.clone());
            let weight = found.get::<2>(linear.weight.id).expect("a gradient");
            let bias = found.get::<1>(bias.id).expect("a gradient");
            let both = Tensor::cat(vec![weight.reshape([1]), bias], 0).into_data();
            both.assert_approx_eq::<f32>(&TensorData::from(expected), Tolerance::default());
        }
    }

    #[test]
    #[should_panic(expected = "the parameter `bias` was not there when the run started")]
    fn a_parameter_without_a_group_is_not_trained_in_another_group() {
        let device = Device::default().autodiff();
        let linear = LinearConfig::new(1, 1).init(&device);
        let loss = linear.forward(Tensor::<2>::ones([1, 1], &device)).sum();
        let gradients = GradientsParams::from_grads(loss.backward(), &linear);
        let _ = split(&linear, gradients, &HashMap::from([(linear.weight.id, 0)]));
    }

    #[test]
    fn the_parameter_whose_gradient_or_value_is_not_finite_is_named() {
        let device = Device::default().autodiff();
        let linear = LinearConfig::new(2, 2).init(&device);
        let bias = linear.bias.as_ref().expect("a bias");
        // The loss is finite, and one gradient is not: d√x/dx at 0.
        let loss = linear.weight.val().sum() + (bias.val() * 0.0).sqrt().sum();
        assert!(loss.clone().into_scalar::<f32>().is_finite());
        let gradients = GradientsParams::from_grads(loss.backward(), &linear);
        let squares = Squares::of_module(&linear, &gradients);
        let values = squares.values().expect("gradients").into_data();
        let values: Vec<f64> = values.iter::<f64>().collect();
        assert_eq!(squares.not_finite(&values), Some("bias"));
        assert_eq!(not_finite(&linear), None);
        let mut linear = linear;
        linear.weight = linear.weight.map(|value| value / 0.0);
        assert_eq!(not_finite(&linear).as_deref(), Some("weight"));
    }
}
