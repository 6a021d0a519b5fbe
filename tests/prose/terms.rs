//! The terms of the field: words that it does not use, and what to say instead.

/// Words and phrases that comments, strings and documents may not contain.
pub(crate) struct Rule {
    /// As whole words in any case. A space stands for whitespace, a line break in a comment, or a hyphen.
    pub(crate) words: &'static [&'static str],
    pub(crate) instead: &'static str,
    /// Phrases that may contain the words.
    pub(crate) allowed: &'static [&'static str],
}

const fn rule(words: &'static [&'static str], instead: &'static str) -> Rule {
    Rule {
        words,
        instead,
        allowed: &[],
    }
}

const fn rule_except(
    words: &'static [&'static str],
    instead: &'static str,
    allowed: &'static [&'static str],
) -> Rule {
    Rule {
        words,
        instead,
        allowed,
    }
}

/// What to say instead of words that the field does not use, or uses for something else.
pub(crate) const RULES: &[Rule] = &[
    rule_except(
        &["place", "places"],
        "position (of a feature map), input shape (where a part is built), index, location",
        &[
            "in place",
            "decimal place",
            "take place",
            "takes place",
            "taking place",
            "took place",
            "take the place of",
            "takes the place of",
            "took the place of",
            "in its place",
            "in their place",
            "in one place",
            // The name of a random stream, which cannot change.
            "named(\"place\")",
        ],
    ),
    rule_except(
        &["descriptor", "descriptors"],
        "embedding",
        &[
            "file descriptor",
            // A key of a golden file, and of recipes of 0.1.
            "eval.descriptor",
            "insert(\"descriptor\"",
        ],
    ),
    rule(
        &["verdict", "verdicts"],
        "relevance: match, non-match or ignored",
    ),
    rule(
        &[
            "judge",
            "judges",
            "judged",
            "judging",
            "judgement",
            "judgements",
        ],
        "criterion or loss; losses compare or are computed from; the output of a training step",
    ),
    rule(&["trainee", "trainees"], "learner"),
    rule_except(
        &["rectified", "rectifier", "rectifiers"],
        "ReLU, after a ReLU",
        // RAdam is rectified Adam.
        &["rectified if", "steps are rectified", "rectified adam"],
    ),
    rule(
        &[
            "pull back",
            "pulls back",
            "pulled back",
            "pulling back",
            "pullback",
        ],
        "backward pass, gradient with respect to",
    ),
    rule_except(
        &["granule", "granules"],
        "stripes, `StripeHead`",
        // The name of a golden file and of its keys.
        &[
            "granules.",
            "`granules`",
            "(\"granules\", stripe_head)",
            "filled(\"granules\"",
            "stored(\"granules\"",
        ],
    ),
    rule(
        &["gain and shift", "gains and shifts"],
        "weight and bias (γ, β)",
    ),
    rule(
        &[
            "interference",
            "disturb",
            "disturbs",
            "disturbed",
            "disturbance",
            "disturbances",
        ],
        "of features: augment, augmentation; of a run: interrupt, interruption, failure",
    ),
    rule(
        &["undrawn"],
        "built by `build`, with weights that are not drawn",
    ),
    rule(&["one's own"], "custom, your own, a user's"),
    rule(&["at hand"], "say which: available, loaded, in memory"),
    rule(
        &["without a word"],
        "silently, without an error or a message",
    ),
    rule(&["same bits"], "bit-identical results"),
    rule(
        &["some queries at a time"],
        "streamed, in chunks of queries",
    ),
    rule(&["by turns"], "in chunks of queries"),
    rule(&["right answer", "right answers"], "match"),
    rule(&["wrong answer", "wrong answers"], "non-match"),
    rule(&["silent map", "silent maps"], "empty CAM"),
    rule_except(
        &["remark", "remarks"],
        "diagnostic",
        // A key of the history of 0.1.
        &["alias = \"remarks\""],
    ),
    rule_except(
        &["trunk", "trunks"],
        "backbone, early stages",
        &["trunk.safetensors"],
    ),
    rule_except(
        &["camera less", "cameraless"],
        "without cameras, `NoCameras`",
        // The protocol's name in reports of 0.1.
        &["\"camera-less\""],
    ),
    rule(&["type of numbers", "type of number"], "dtype, precision"),
    rule(
        &["moving statistics", "moving mean", "moving variance"],
        "running statistics, running mean, running variance",
    ),
    rule(&["how badly"], "say which: criterion, loss"),
    rule(
        &["nobody is told", "who is told"],
        "say what is called or reported, and by what",
    ),
];

/// Parts of the names of types, functions and variables, and what to name them instead. Prose may say donor.
pub(crate) const NAMES: &[(&str, &str)] = &[
    ("descriptor", "embedding"),
    ("descriptors", "embeddings"),
    ("donor", "partner"),
    ("donors", "partners"),
    ("granule", "stripe"),
    ("granules", "stripes"),
    ("interference", "augment"),
    ("judge", "criterion"),
    ("judgement", "output"),
    ("trainee", "learner"),
    ("trunk", "backbone"),
    ("undrawn", "build"),
    ("verdict", "relevance"),
];

/// A name of another crate.
pub(crate) const FOREIGN: &str = "ColumnDescriptor";

/// The files that translate old names.
pub(crate) const TRANSLATE: [&str; 2] = [
    "docs/MIGRATION.md",
    "crates/reid-train/src/recipe/legacy.rs",
];

/// Names of old versions may stand here, in backticks.
pub(crate) const HISTORY: &str = "docs/CHANGELOG.md";
