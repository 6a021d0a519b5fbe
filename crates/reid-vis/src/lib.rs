//! Pictures for re-identification: ranked lists, heat-map overlays, curves.
