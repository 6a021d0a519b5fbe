//! Report: which weights were applied and which did not fit.

use std::fmt;

use super::layout::Layout;

/// The number of keys of one group that are printed at most. Further keys are counted.
const PRINTED: usize = 10;

/// Which weights were applied and which did not fit, by their keys as in the file.
///
/// ```
/// use burn::tensor::DType;
/// use reid_zoo::weights::{Layout, Misshapen, WeightReport};
///
/// let layout = |inputs| Layout { shape: vec![64, inputs, 3, 3], dtype: DType::F32 };
/// let report = WeightReport {
///     applied: vec!["conv1.weight".into()],
///     missing: vec![],
///     unexpected: vec!["fc.bias".into(), "fc.weight".into()],
///     misshapen: vec![Misshapen {
///         key: "conv2.weight".into(),
///         expected: layout(64),
///         found: layout(32),
///     }],
/// };
/// assert!(!report.fits());
/// assert_eq!(
///     report.to_string(),
///     "1 key applied
/// 2 unexpected keys, in the file but not in the module:
///   fc.bias
///   fc.weight
/// 1 misshapen key:
///   conv2.weight: expected [64, 64, 3, 3], found [64, 32, 3, 3]"
/// );
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WeightReport {
    /// Keys whose values were put into the module, in the module's order.
    pub applied: Vec<String>,
    /// Keys of the module that the file does not have, in the module's order.
    pub missing: Vec<String>,
    /// Keys of the file that the module does not have, in alphabetical order.
    pub unexpected: Vec<String>,
    /// Keys of both whose tensors differ in shape or in the kind of dtype, in the module's order.
    pub misshapen: Vec<Misshapen>,
}

/// A tensor of the file whose shape or dtype does not fit the tensor of the module with the same key.
///
/// Both layouts are as in the file, such as `[out, in]` for the linear layers of `PyTorch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misshapen {
    /// The key.
    pub key: String,
    /// The layout in the module.
    pub expected: Layout,
    /// The layout in the file.
    pub found: Layout,
}

impl WeightReport {
    /// Whether no keys are missing, unexpected or misshapen.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshapen.is_empty()
    }
}

impl fmt::Display for Misshapen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            expected,
            found,
        } = self;
        // The dtypes matter only if values cannot be cast.
        if expected.is_of_kind(found) {
            let (expected, found) = (&expected.shape, &found.shape);
            write!(f, "{key}: expected {expected:?}, found {found:?}")
        } else {
            write!(f, "{key}: expected {expected}, found {found}")
        }
    }
}

impl fmt::Display for WeightReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count| if count == 1 { "" } else { "s" };
        let applied = self.applied.len();
        write!(f, "{applied} key{} applied", plural(applied))?;
        let mut group = |what: &str, explanation: &str, lines: &[String]| {
            if lines.is_empty() {
                return Ok(());
            }
            write!(
                f,
                "\n{} {what} key{}{explanation}:",
                lines.len(),
                plural(lines.len())
            )?;
            for line in lines.iter().take(PRINTED) {
                write!(f, "\n  {line}")?;
            }
            match lines.len().saturating_sub(PRINTED) {
                0 => Ok(()),
                more => write!(f, "\n  and {more} more"),
            }
        };
        let misshapen: Vec<_> = self.misshapen.iter().map(Misshapen::to_string).collect();
        group(
            "missing",
            ", in the module but not in the file",
            &self.missing,
        )?;
        group(
            "unexpected",
            ", in the file but not in the module",
            &self.unexpected,
        )?;
        group("misshapen", "", &misshapen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_groups_are_shortened() {
        let report = WeightReport {
            missing: (0..23).map(|index| format!("layer.{index}")).collect(),
            ..WeightReport::default()
        };
        let text = report.to_string();
        let head =
            "0 keys applied\n23 missing keys, in the module but not in the file:\n  layer.0\n";
        assert!(text.starts_with(head), "{text}");
        // 10 of 23 are printed.
        assert!(text.ends_with("\n  layer.9\n  and 13 more"), "{text}");
    }
}
