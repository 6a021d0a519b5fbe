//! Networks in recipes of version 0.1, which do not name their architecture.

use serde_json::Value;

/// The architecture of a network of version 0.1, recognised by its fields; `None` for other networks.
pub(super) fn legacy_name(network: &Value) -> Option<&'static str> {
    let field = |name: &str| network.get(name);
    let (backbone, head, branches) = (field("backbone"), field("head"), field("branches"));
    match (backbone, head, branches) {
        (Some(_), Some(head), None) if head.get("branches").is_some() => Some("branched"),
        (Some(backbone), Some(_), None) if has_a_tuple(backbone) => Some("rga"),
        (Some(_), Some(_), None) => Some("baseline"),
        (None, None, Some(Value::Array(_))) => Some("mgn"),
        (None, None, Some(_)) => Some("fnc"),
        _ => None,
    }
}

/// Whether the attention after the first listed stage is a tuple of blocks, as in recipes with RGA-SC.
fn has_a_tuple(backbone: &Value) -> bool {
    let after = backbone.get("after").and_then(Value::as_array);
    let block = after.and_then(|after| after.first()?.get("block"));
    block.is_some_and(Value::is_array)
}
