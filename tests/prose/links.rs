//! Reports links that lead nowhere: to a file that does not exist, or a heading that is not in it.

use std::{collections::HashMap, fs, path::Path};

use crate::{Finding, TextFile, markdown};

/// The address of the files of this repository. Pages of the guide have it in links to documents that are not in the
/// guide, which a browser shows without them.
const REPOSITORY: &str = "https://github.com/reid-rs/reid/blob/main/";

/// Finds the broken links of a document to files and headings below `root`, also those with the address of this
/// repository. Links to other sites are not followed.
pub(crate) fn findings(root: &Path, file: &TextFile) -> Vec<Finding> {
    let folder = root.join(&file.name);
    let folder = folder.parent().expect("a folder");
    let mut found = Vec::new();
    for (line, text) in markdown::split(&file.text).0 {
        for target in targets(&markdown::without_code(text)) {
            let (start, relative) = match target.strip_prefix(REPOSITORY) {
                Some(path) => (root, path),
                None => (folder, target.as_str()),
            };
            if relative.contains("://") || relative.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = relative.split_once('#').unwrap_or((relative, ""));
            let there = start.join(path);
            if !there.exists() {
                found.push((line, format!("{target}: no such file")));
                continue;
            }
            let markdown = path.is_empty() || there.extension() == Some("md".as_ref());
            if anchor.is_empty() || !markdown {
                continue;
            }
            let text = if path.is_empty() {
                file.text.clone()
            } else {
                fs::read_to_string(&there).expect("text")
            };
            if !anchors(&text).iter().any(|known| known == anchor) {
                found.push((line, format!("{target}: no such heading")));
            }
        }
    }
    found
}

/// The targets of the links, images and link definitions of a line without code spans.
fn targets(line: &str) -> Vec<String> {
    let inline = markdown::links(line).into_iter().map(|(_, target)| target);
    let definition = line
        .trim_start()
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("]:"));
    let html = ["href=\"", "src=\""].into_iter().flat_map(|start| {
        let rests = line.split(start).skip(1);
        rests.filter_map(|rest| rest.split('"').next())
    });
    inline
        .chain(definition.map(|(_, target)| target))
        .chain(html)
        .filter_map(|target| target.split_whitespace().next())
        .map(|target| target.trim_matches(['<', '>']).to_owned())
        .collect()
}

/// The anchors of a document: those that GitHub gives its headings, and those in HTML.
fn anchors(text: &str) -> Vec<String> {
    let mut counts = HashMap::new();
    let mut anchors = Vec::new();
    for (_, line) in markdown::split(text).0 {
        for start in ["id=\"", "name=\""] {
            let rests = line.split(start).skip(1);
            anchors.extend(rests.filter_map(|rest| rest.split('"').next().map(str::to_owned)));
        }
        let Some(heading) = markdown::heading(line) else {
            continue;
        };
        let slug = slug(heading);
        let count = counts.entry(slug.clone()).or_insert(0);
        anchors.push(match *count {
            0 => slug,
            count => format!("{slug}-{count}"),
        });
        *count += 1;
    }
    anchors
}

/// The anchor that GitHub gives a heading: lower case, hyphens for spaces, no punctuation.
fn slug(heading: &str) -> String {
    let mut text = heading.to_owned();
    for (at, target) in markdown::links(heading).into_iter().rev() {
        text.replace_range(at..at + target.len() + 3, "");
    }
    let kept = text.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        _ => c.is_alphanumeric().then_some(c),
    });
    kept.collect::<String>().to_lowercase()
}

#[test]
fn headings_have_the_anchors_of_github() {
    let text =
        "# A b: `c_d`, E–F\n## A\n## A\n```sh\n# no\n```\n### [x y](z) & 1.2\n<a id=\"q\"></a>\n";
    assert_eq!(anchors(text), ["a-b-c_d-ef", "a", "a-1", "x-y--12", "q"]);
}

#[test]
fn links_that_lead_nowhere_are_reported() {
    let root = std::env::temp_dir().join(format!("reid-links-{}", std::process::id()));
    fs::create_dir_all(root.join("docs")).expect("a folder");
    fs::write(root.join("docs/other.md"), "# There is\n").expect("written");
    let found = |text: &str| {
        let (name, text) = ("docs/a.md".to_owned(), text.to_owned());
        findings(&root, &TextFile { name, text })
    };
    for text in [
        "# One\n[a](#one) [b](other.md#there-is) [c](https://x.org/d) [d](../docs)",
        "`[a](no.md)`\n```text\n[b](no.md)\n```",
        "[a]: other.md\n<img src=\"other.md\">",
        "[a](https://github.com/reid-rs/reid/blob/main/docs/other.md#there-is)",
    ] {
        assert_eq!(found(text), [], "{text}");
    }
    for (text, message) in [
        ("[a](no.md)", "no.md: no such file"),
        ("![a](no.png \"title\")", "no.png: no such file"),
        ("[a](#none)", "#none: no such heading"),
        ("[a](other.md#one)", "other.md#one: no such heading"),
        (
            "[a](https://github.com/reid-rs/reid/blob/main/other.md)",
            "https://github.com/reid-rs/reid/blob/main/other.md: no such file",
        ),
        ("[a]: no.md", "no.md: no such file"),
        ("<a href=\"no.md\">", "no.md: no such file"),
    ] {
        assert_eq!(found(text), [(1, message.to_owned())], "{text}");
    }
    fs::remove_dir_all(root).expect("removed");
}
