//! Evaluation for re-identification on plain f32: protocols, CMC, mAP, mINP, reports.
