//! Prefixes: finds the prefixes of keys that other toolkits add, and diagnoses keys that do not fit.

use std::collections::BTreeSet;

use super::report::WeightReport;

/// The number of prefixes that a diagnosis lists at most.
const NAMED: usize = 3;

/// Whether a key is the counter of `PyTorch`'s batch normalisation, which no module of this library has.
pub(super) fn is_counter(key: &str) -> bool {
    key.rsplit('.').next() == Some("num_batches_tracked")
}

/// Finds the prefix that all keys of a file have before a key of the module, such as `module.`, `_orig_mod.` or
/// `model.backbone.`. Empty if a key fits without removing a prefix, or if no prefix makes one fit.
pub(super) fn common<'a>(file: &[&'a str], module: &BTreeSet<&str>) -> &'a str {
    let Some(first) = file.first() else {
        return "";
    };
    let mut length = 0;
    loop {
        let fits = |key: &&str| module.contains(&key[length..]);
        if file.iter().any(fits) {
            return &first[..length];
        }
        let Some(dot) = first[length..].find('.') else {
            return "";
        };
        length += dot + 1;
        if !file.iter().all(|key| key.starts_with(&first[..length])) {
            return "";
        }
    }
}

/// The prefixes with which a file has `key`, including the empty prefix if it has the key itself.
pub(super) fn before<'a>(key: &str, file: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let prefixes = file.filter_map(|found| found.strip_suffix(key));
    prefixes
        .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
        .collect()
}

/// Says why a file probably does not fit a module, and what to do.
pub(super) fn diagnosis(
    file: &BTreeSet<&str>,
    module: &BTreeSet<&str>,
    report: &WeightReport,
) -> String {
    let keys = module.len();
    let (missing, unexpected) = (report.missing.len(), report.unexpected.len());
    match (missing, unexpected, report.misshapen.len()) {
        (0, 0, shapes) => format!(
            "all names fit, but {shapes} of {keys} shapes do not: another width or number of classes?"
        ),
        (0, more, 0) => format!(
            "the file has {more} keys that the module does not have: remove them with `Weights::without`"
        ),
        (less, 0, 0) => format!("the file lacks {less} of the {keys} keys of the module"),
        _ => under(file, module)
            .or_else(|| within(file, module))
            .unwrap_or_else(|| names(file, module, keys.saturating_sub(missing))),
    }
}

/// Whether all `keys` are among `others` with a prefix that is not empty.
fn are_under(prefix: &str, keys: &BTreeSet<&str>, others: &BTreeSet<&str>) -> bool {
    let is_there = |key: &&str| others.contains(format!("{prefix}{key}").as_str());
    !prefix.is_empty() && keys.iter().all(is_there)
}

/// Diagnoses a module that is a part of the file.
fn under(file: &BTreeSet<&str>, module: &BTreeSet<&str>) -> Option<String> {
    let prefixes = before(module.first()?, file.iter().copied()).into_iter();
    let fitting: Vec<&str> = prefixes
        .filter(|prefix| are_under(prefix, module, file))
        .collect();
    let first = fitting.first()?;
    let shown = fitting
        .iter()
        .take(NAMED)
        .map(|prefix| format!("`{prefix}`"));
    let shown = shown.collect::<Vec<_>>().join(" and under ");
    let more = match fitting.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} others"),
    };
    Some(format!(
        "all {} keys of the module are in the file under the prefix {shown}{more}: call \
         `.renamed(\"{first}\", \"\")`, and `.without` for the rest",
        module.len()
    ))
}

/// Diagnoses a file that is a part of the module.
fn within(file: &BTreeSet<&str>, module: &BTreeSet<&str>) -> Option<String> {
    let mut prefixes = before(file.first()?, module.iter().copied()).into_iter();
    let prefix = prefixes.find(|prefix| are_under(prefix, file, module))?;
    Some(format!(
        "the file has only the keys of the module under `{prefix}`: load it into that part of the module, or \
         call `.renamed(\"\", \"{prefix}\")` and `load_partially_into`"
    ))
}

/// Diagnoses names that no prefix makes fit.
fn names(file: &BTreeSet<&str>, module: &BTreeSet<&str>, found: usize) -> String {
    let first = |keys: &BTreeSet<&str>| {
        keys.first()
            .map_or("nothing".to_owned(), |key| format!("`{key}`"))
    };
    match found {
        0 => format!(
            "no key of the module is in the file: the architecture or its names differ, such as {} in the file \
             and {} in the module",
            first(file),
            first(module)
        ),
        found => format!(
            "only {found} of the {} keys of the module are in the file",
            module.len()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<'a>(keys: &[&'a str]) -> BTreeSet<&'a str> {
        keys.iter().copied().collect()
    }

    #[test]
    fn a_common_prefix_is_found() {
        let module = set(&["conv.weight", "fc.bias", "fc.weight"]);
        let cases: [(&[&str], &str); 6] = [
            (&["conv.weight", "fc.bias"], ""),
            (&["module.conv.weight", "module.fc.bias"], "module."),
            (
                &["_orig_mod.module.conv.weight", "_orig_mod.module.fc.bias"],
                "_orig_mod.module.",
            ),
            (&["backbone.conv.weight", "classifier.weight"], ""),
            (&["a.b.c.weight"], ""),
            (&[], ""),
        ];
        for (file, prefix) in cases {
            assert_eq!(common(file, &module), prefix, "{file:?}");
        }
        // One key fits without removing a prefix.
        assert_eq!(
            common(&["fc.weight", "fc.fc.weight"], &set(&["fc.weight"])),
            ""
        );
    }

    #[test]
    fn a_diagnosis_names_the_prefix() {
        let module = set(&["conv.weight", "fc.weight"]);
        let say = |file: &[&str]| {
            let file = set(file);
            let report = WeightReport {
                missing: vec!["conv.weight".into(), "fc.weight".into()],
                unexpected: vec!["any".into()],
                ..WeightReport::default()
            };
            diagnosis(&file, &module, &report)
        };
        let text = say(&[
            "ema.conv.weight",
            "ema.fc.weight",
            "net.conv.weight",
            "net.fc.weight",
        ]);
        assert!(
            text.contains(
                "under the prefix `ema.` and under `net.`: call `.renamed(\"ema.\", \"\")`"
            ),
            "{text}"
        );
        let many: Vec<String> = (0..9)
            .flat_map(|net| [format!("{net}.conv.weight"), format!("{net}.fc.weight")])
            .collect();
        let text = say(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(text.contains("under `2.` and 6 others: call"), "{text}");
        let text = say(&["weight"]);
        assert!(
            text.contains("the keys of the module under `conv.`"),
            "{text}"
        );
        let text = say(&["stem.0.weight"]);
        assert!(
            text.contains("`stem.0.weight` in the file and `conv.weight` in the module"),
            "{text}"
        );
    }
}
