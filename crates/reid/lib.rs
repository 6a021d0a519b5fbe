//! facade
pub use reid_core as core;
pub use reid_data as data;
pub use reid_eval as eval;
pub use reid_nn as nn;
pub use reid_train as train;
pub use reid_vis as vis;
pub use reid_zoo as zoo;
