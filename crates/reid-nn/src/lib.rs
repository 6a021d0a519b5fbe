//! Re-identification networks as composable Burn modules: blocks, heads, losses.
