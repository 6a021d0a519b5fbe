//! Named re-identification networks and their weights, on Burn.
