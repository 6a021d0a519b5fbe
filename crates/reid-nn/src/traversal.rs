//! Visits and maps the parameters of a module, with less code than [`Module::visit`] and [`Module::map`].
//!
//! Burn compiles the traversal of a whole network once for every type of visitor, and a program that trains has
//! about twenty of them. These functions wrap every visitor in one type, so the traversal of a network is
//! compiled twice: for visitors and for mappers. The calls per parameter are dynamic, which costs nanoseconds.

use std::any::Any;

use burn::{
    module::{Flag, Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Bool, Float, Int, Tensor},
};

/// Visits every parameter of a module, as [`Module::visit`] does.
///
/// ```
/// use burn::{
///     module::{ModuleVisitor, Param},
///     nn::LinearConfig,
///     tensor::{Device, Tensor},
/// };
/// use reid_nn::traversal;
///
/// #[derive(Default)]
/// struct Shapes(Vec<Vec<usize>>);
///
/// impl ModuleVisitor for Shapes {
///     fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
///         self.0.push(param.dims().to_vec());
///     }
/// }
///
/// let layer = LinearConfig::new(3, 2).init(&Device::default());
/// let mut shapes = Shapes::default();
/// traversal::visit(&layer, &mut shapes);
/// assert_eq!(shapes.0, [vec![3, 2], vec![2]]);
/// ```
///
/// # Panics
/// If a parameter has more than six dimensions.
pub fn visit<M: Module>(module: &M, visitor: &mut impl ModuleVisitor) {
    module.visit(&mut AnyVisitor(visitor));
}

/// Maps every parameter of a module, as [`Module::map`] does.
///
/// # Panics
/// If a parameter has more than six dimensions.
#[must_use]
pub fn map<M: Module>(module: M, mapper: &mut impl ModuleMapper) -> M {
    module.map(&mut AnyMapper(mapper))
}

/// A visitor behind a trait object. A parameter is passed as [`Any`], because a trait object has no methods that
/// are generic over the number of dimensions.
struct AnyVisitor<'a>(&'a mut dyn Visit);

struct AnyMapper<'a>(&'a mut dyn Map);

trait Visit {
    fn enter(&mut self, name: &str, container: &str);
    fn exit(&mut self, name: &str, container: &str);
    fn flag(&mut self, flag: &Param<Flag>);
    fn float(&mut self, param: &dyn Any);
    fn int(&mut self, param: &dyn Any);
    fn bool(&mut self, param: &dyn Any);
}

trait Map {
    fn enter(&mut self, name: &str, container: &str);
    fn exit(&mut self, name: &str, container: &str);
    fn flag(&mut self, flag: Param<Flag>) -> Param<Flag>;
    fn float(&mut self, param: Box<dyn Any>) -> Box<dyn Any>;
    fn int(&mut self, param: Box<dyn Any>) -> Box<dyn Any>;
    fn bool(&mut self, param: Box<dyn Any>) -> Box<dyn Any>;
}

/// Calls a method of a visitor with a parameter of the rank that it has.
macro_rules! visit_by_rank {
    ($visitor:ident.$method:ident($param:ident: $kind:ty), $($rank:literal)+) => {
        $(if let Some(param) = $param.downcast_ref::<Param<Tensor<$rank, $kind>>>() {
            return $visitor.$method(param);
        })+
        panic!("{RANKS}");
    };
}

/// Calls a method of a mapper with a parameter of the rank that it has.
macro_rules! map_by_rank {
    ($mapper:ident.$method:ident($param:ident: $kind:ty), $($rank:literal)+) => {
        $(let $param = match $param.downcast::<Param<Tensor<$rank, $kind>>>() {
            Ok(param) => return Box::new($mapper.$method(*param)),
            Err(other) => other,
        };)+
        drop($param);
        panic!("{RANKS}");
    };
}

const RANKS: &str = "expected a parameter with 1 to 6 dimensions";

impl<V: ModuleVisitor> Visit for V {
    fn enter(&mut self, name: &str, container: &str) {
        self.enter_module(name, container);
    }

    fn exit(&mut self, name: &str, container: &str) {
        self.exit_module(name, container);
    }

    fn flag(&mut self, flag: &Param<Flag>) {
        self.visit_flag(flag);
    }

    fn float(&mut self, param: &dyn Any) {
        visit_by_rank!(self.visit_float(param: Float), 1 2 3 4 5 6);
    }

    fn int(&mut self, param: &dyn Any) {
        visit_by_rank!(self.visit_int(param: Int), 1 2 3 4 5 6);
    }

    fn bool(&mut self, param: &dyn Any) {
        visit_by_rank!(self.visit_bool(param: Bool), 1 2 3 4 5 6);
    }
}

impl<P: ModuleMapper> Map for P {
    fn enter(&mut self, name: &str, container: &str) {
        self.enter_module(name, container);
    }

    fn exit(&mut self, name: &str, container: &str) {
        self.exit_module(name, container);
    }

    fn flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        self.map_flag(flag)
    }

    fn float(&mut self, param: Box<dyn Any>) -> Box<dyn Any> {
        map_by_rank!(self.map_float(param: Float), 1 2 3 4 5 6);
    }

    fn int(&mut self, param: Box<dyn Any>) -> Box<dyn Any> {
        map_by_rank!(self.map_int(param: Int), 1 2 3 4 5 6);
    }

    fn bool(&mut self, param: Box<dyn Any>) -> Box<dyn Any> {
        map_by_rank!(self.map_bool(param: Bool), 1 2 3 4 5 6);
    }
}

impl ModuleVisitor for AnyVisitor<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.0.enter(name, container);
    }

    fn exit_module(&mut self, name: &str, container: &str) {
        self.0.exit(name, container);
    }

    fn visit_flag(&mut self, flag: &Param<Flag>) {
        self.0.flag(flag);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.float(param);
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.0.int(param);
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.0.bool(param);
    }
}

impl ModuleMapper for AnyMapper<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.0.enter(name, container);
    }

    fn exit_module(&mut self, name: &str, container: &str) {
        self.0.exit(name, container);
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        self.0.flag(flag)
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        mapped(self.0.float(Box::new(param)))
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        mapped(self.0.int(Box::new(param)))
    }

    fn map_bool<const D: usize>(
        &mut self,
        param: Param<Tensor<D, Bool>>,
    ) -> Param<Tensor<D, Bool>> {
        mapped(self.0.bool(Box::new(param)))
    }
}

fn mapped<P: 'static>(param: Box<dyn Any>) -> P {
    let param = param.downcast();
    *param.expect("a mapper returns a parameter of the same kind and rank")
}
