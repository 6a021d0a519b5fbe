//! The sizes of the published vehicle test sets.

use serde::{Deserialize, Serialize};

/// The size of a published test set of [`vehicle_id`](super::vehicle_id) or
/// [`veri_wild`](super::veri_wild). Papers report results for each size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TestSize {
    /// 800 vehicles in `VehicleID`, 3,000 in `VERI-Wild`; the default.
    #[default]
    Small,
    /// 1,600 vehicles in `VehicleID`, 5,000 in `VERI-Wild`.
    Medium,
    /// 2,400 vehicles in `VehicleID`, 10,000 in `VERI-Wild`.
    Large,
}
