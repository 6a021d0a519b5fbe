//! Converts recipes of version 0.1, in which some settings had other names.

use serde_json::{Map, Value, json};

/// The names of settings in version 0.1, and their names now.
const RENAMED: [(&str, &str); 11] = [
    ("cells", "patches"),
    ("descriptor", "embedding"),
    ("donor_gradient", "partner_gradient"),
    ("donors", "partner"),
    ("fusion", "combine"),
    ("guide", "cam_source"),
    ("half_set", "half_k1"),
    ("interference", "augment"),
    ("merge", "combine"),
    ("tail", "late_stages"),
    ("when_silent", "on_empty_cam"),
];

/// Converts a recipe of version 0.1: renames settings, and makes the centres of center loss a parameter
/// group.
pub(crate) fn renamed(recipe: Value) -> Value {
    let mut recipe = renamed_value(recipe);
    let losses = recipe.get_mut("losses").and_then(Value::as_object_mut);
    let Some(rate) = losses.and_then(|losses| losses.remove("center_learning_rate")) else {
        return recipe;
    };
    if recipe["losses"]["center"].is_object() {
        let sgd = json!({ "momentum": 0.0, "nesterov": false, "weight_decay": 0.0 });
        recipe["groups"] = json!([{
            "parameters": ["criterion.2"],
            "rate": { "fixed": rate },
            "optimizer": { "sgd": sgd },
        }]);
    }
    recipe
}

fn renamed_value(recipe: Value) -> Value {
    match recipe {
        Value::Array(values) => values.into_iter().map(renamed_value).collect(),
        Value::Object(fields) => Value::Object(renamed_fields(fields)),
        other => other,
    }
}

fn renamed_fields(mut fields: Map<String, Value>) -> Map<String, Value> {
    let (splits_a_network, squeezes) = (
        fields.contains_key("network"),
        fields.contains_key("squeeze"),
    );
    if let Some(stages) = fields.remove("after_stages") {
        // In version 0.1 one block followed every stage of a list.
        let block = fields.remove("after").unwrap_or(Value::Null);
        let after = |stage: &Value| json!({ "stage": stage, "block": block });
        let stages = stages.as_array().into_iter().flatten();
        fields.insert("after".into(), stages.map(after).collect());
    }
    let field = |(name, value): (String, Value)| {
        let name = match name.as_str() {
            // Other settings have these two names too, and keep them.
            "cut" if splits_a_network => "split",
            "normalised" if squeezes => "gate",
            name => {
                let renamed = RENAMED.iter().find(|(old, _)| *old == name);
                renamed.map_or(name, |(_, new)| new)
            }
        };
        let value = match (name, value) {
            ("augment" | "instance", Value::String(old)) if old == "nothing" => "none".into(),
            (_, value) => renamed_value(value),
        };
        (name.to_owned(), value)
    };
    fields.into_iter().map(field).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_after_stages_becomes_a_list() {
        let old = json!({ "backbone": { "after": { "s1": 8 }, "after_stages": [2, 4] } });
        let after = |stage| json!({ "stage": stage, "block": { "s1": 8 } });
        let new = json!({ "backbone": { "after": [after(2), after(4)] } });
        assert_eq!(renamed(old), new);
        assert_eq!(renamed(new.clone()), new);
        let none = json!({ "after": null, "after_stages": [] });
        assert_eq!(renamed(none), json!({ "after": [] }));
    }

    #[test]
    fn settings_of_0_1_are_renamed() {
        let old = json!({
            "network": {
                "head": { "pool": "average", "descriptor": "after" },
                "tail": { "network": {}, "cut": { "stage": 3, "block": 1 } },
                "branches": [{
                    "dimensions": 8,
                    "interference": { "cut-mix": {
                        "mix": { "cells": {}, "cut": 3, "donors": "any", "when_silent": "cut" },
                        "guide": "autodiff",
                    } },
                }, { "dimensions": 8, "interference": "nothing" }],
                "channel": { "squeeze": {}, "normalised": "vector", "merge": "add" },
                "spatial": { "kernel": 7, "normalised": true },
            },
        });
        let new = json!({
            "network": {
                "head": { "pool": "average", "embedding": "after" },
                "late_stages": { "network": {}, "split": { "stage": 3, "block": 1 } },
                "branches": [{
                    "dimensions": 8,
                    "augment": { "cut-mix": {
                        "mix": { "patches": {}, "cut": 3, "partner": "any", "on_empty_cam": "cut" },
                        "cam_source": "autodiff",
                    } },
                }, { "dimensions": 8, "augment": "none" }],
                "channel": { "squeeze": {}, "gate": "vector", "combine": "add" },
                "spatial": { "kernel": 7, "normalised": true },
            },
        });
        assert_eq!(renamed(old), new);
        assert_eq!(renamed(new.clone()), new);
    }
}
