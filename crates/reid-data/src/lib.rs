//! Data sets, samplers, transforms and loading for re-identification.
