//! Compares the recipe of a run with that of its checkpoint.

use serde_json::Value;

/// Describes the first setting in which two recipes differ: `schedule.base was 0.1 and is 0.2`. The name, the
/// number of epochs, the evaluation interval and the window of segmentation may differ.
pub(crate) fn difference(saved: &Value, now: &Value) -> Option<String> {
    const MAY_DIFFER: [&str; 4] = ["name", "epochs", "evaluate_every", "window"];
    match (saved, now) {
        (Value::Object(saved), Value::Object(now)) => {
            let keys = saved
                .keys()
                .chain(now.keys().filter(|key| !saved.contains_key(*key)));
            keys.filter(|key| !MAY_DIFFER.contains(&key.as_str()))
                .find_map(|key| {
                    let value = |side: &serde_json::Map<String, Value>| {
                        side.get(key).cloned().unwrap_or(Value::Null)
                    };
                    let inner = nested_difference(&value(saved), &value(now))?;
                    Some(format!("{key}{inner}"))
                })
        }
        _ => nested_difference(saved, now),
    }
}

fn nested_difference(saved: &Value, now: &Value) -> Option<String> {
    match (saved, now) {
        (Value::Object(left), Value::Object(right)) if left.len() == right.len() => {
            left.iter().find_map(|(key, value)| {
                let other = right.get(key).unwrap_or(&Value::Null);
                nested_difference(value, other).map(|inner| format!(".{key}{inner}"))
            })
        }
        _ if saved == now => None,
        _ => Some(format!(" was {saved} and is {now}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn name_and_epochs_may_differ_and_the_schedule_may_not() {
        let saved =
            json!({ "name": "a", "epochs": 3, "schedule": { "base": 0.1, "warm_up": null } });
        let mut now = saved.clone();
        (now["name"], now["epochs"]) = (json!("b"), json!(9));
        assert_eq!(difference(&saved, &now), None);
        now["schedule"]["base"] = json!(0.2);
        assert_eq!(
            difference(&saved, &now).as_deref(),
            Some("schedule.base was 0.1 and is 0.2")
        );
    }
}
