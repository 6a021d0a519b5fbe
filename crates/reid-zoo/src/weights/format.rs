//! Format: what a file of weights is, by its name and by its first bytes.

use std::path::Path;

use crate::Error;

/// Bytes of a file that are enough to recognise it.
pub(super) const HEAD: usize = 64;

/// A format of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// A checkpoint of `torch.save`.
    PyTorch,
    /// Safetensors.
    Safetensors,
    /// Burn's own.
    Burnpack,
}

impl Format {
    /// The format that a name tells.
    pub(super) fn of(path: &Path) -> Result<Self, Error> {
        // What `torch.save` wrote as `checkpoint.pth.tar` is no archive.
        let name = path.file_name().unwrap_or(path.as_os_str());
        let name = Path::new(name.to_str().unwrap_or("").trim_end_matches(".tar"));
        let extension = name.extension().and_then(|extension| extension.to_str());
        match extension.unwrap_or("").to_ascii_lowercase().as_str() {
            "pth" | "pt" => Ok(Self::PyTorch),
            "safetensors" => Ok(Self::Safetensors),
            "bpk" => Ok(Self::Burnpack),
            _ => Err(Error::Extension {
                path: path.to_owned(),
            }),
        }
    }

    /// The format in words, with its article.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::PyTorch => "a PyTorch checkpoint",
            Self::Safetensors => "a safetensors file",
            Self::Burnpack => "a burnpack file",
        }
    }

    /// Refuses a file whose first bytes are those of something else. What begins like nothing known
    /// passes: the reader of the format says what is wrong with it.
    pub(super) fn check(self, path: &Path, head: &[u8]) -> Result<(), Error> {
        match recognise(head) {
            Some(found) if found != self.name() => Err(Error::Content {
                path: path.to_owned(),
                expected: self.name(),
                found,
            }),
            _ => Ok(()),
        }
    }

    /// The error for a file that cannot be read as this format.
    pub(super) fn damaged(self, path: &Path, reason: String) -> Error {
        Error::Damaged {
            path: path.to_owned(),
            expected: self.name(),
            reason,
        }
    }
}

/// What begins with these bytes.
fn recognise(head: &[u8]) -> Option<&'static str> {
    let after_length = head.get(8).copied();
    let is = |start: &[u8]| head.starts_with(start);
    match head {
        [] => Some("an empty file"),
        _ if is(b"PK\x03\x04") => Some(Format::PyTorch.name()),
        // The magic number "BURN", little-endian.
        _ if is(b"NRUB") => Some(Format::Burnpack.name()),
        // What a download leaves behind when the file itself was not given.
        _ if is(b"version https://git-lfs") => Some("a Git LFS pointer to a file"),
        _ if is(b"<!") || is(b"<html") => Some("a web page"),
        // A length below 2³² in eight bytes, then JSON.
        [_, _, _, _, 0, 0, 0, 0, ..] if after_length == Some(b'{') => {
            Some(Format::Safetensors.name())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_formats_in_any_case() {
        let cases = [
            ("a.pth", Format::PyTorch),
            ("a.b.PT", Format::PyTorch),
            ("a.SafeTensors", Format::Safetensors),
            ("a.bpk", Format::Burnpack),
        ];
        for (name, expected) in cases {
            assert_eq!(Format::of(Path::new(name)).expect(name), expected);
        }
        for name in ["a", "pth", ".pth", "a.bin", "a.pth.zip", ""] {
            let error = Format::of(Path::new(name)).expect_err(name);
            assert!(matches!(error, Error::Extension { .. }), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_something_else_is_named() {
        let cases: [(&[u8], &str); 5] = [
            (b"", "an empty file"),
            (b"PK\x03\x04", "a PyTorch checkpoint"),
            (b"NRUB\x01\x00", "a burnpack file"),
            (b"<!DOCTYPE html>", "a web page"),
            (
                b"version https://git-lfs.github.com/spec/v1",
                "a Git LFS pointer to a file",
            ),
        ];
        for (head, found) in cases {
            let error = Format::Safetensors
                .check(Path::new("w.safetensors"), head)
                .expect_err(found);
            let expected = format!("w.safetensors: expected a safetensors file, found {found}");
            assert_eq!(error.to_string(), expected);
        }
    }
}
