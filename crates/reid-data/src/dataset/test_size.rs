//! Test size: which of the published test sets.

use serde::{Deserialize, Serialize};

/// Which of the published test sets of [`vehicle_id`](super::vehicle_id) and
/// [`veri_wild`](super::veri_wild): figures are given for each.
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
