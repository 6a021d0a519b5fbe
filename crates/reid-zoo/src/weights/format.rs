//! Format: recognises the format of a file of weights by its first bytes or its extension.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use crate::Error;

/// The number of bytes at the start of a file by which it is recognised.
const HEAD: usize = 64;

/// Reads the first bytes of a file.
pub(super) fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    File::open(path)?.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// A format of files of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// A checkpoint of `torch.save`.
    PyTorch,
    /// Safetensors.
    Safetensors,
    /// Burn's own format.
    Burnpack,
}

impl Format {
    /// The format of a file that is read, by its content. Extensions say little: `PyTorch` checkpoints end in
    /// `.bin`, `.ckpt`, `.th`, `.pth.tar-60` and many more. The extension decides only if the first bytes are
    /// unknown. The reader of that format then reports what is wrong.
    pub(super) fn of_content(path: &Path, head: &[u8]) -> Result<Self, Error> {
        let found = match recognise(head) {
            Content::Weights(format) => return Ok(format),
            Content::Other(found) => found.to_owned(),
            Content::Unknown => match Self::of_name(path) {
                Some(format) => return Ok(format),
                None => format!(
                    "a file that starts with the bytes {:02x?}",
                    &head[..head.len().min(8)]
                ),
            },
        };
        Err(Error::Content {
            path: path.to_owned(),
            found,
        })
    }

    /// The format in which a file is written, by its extension.
    pub(super) fn to_write(path: &Path) -> Result<Self, Error> {
        Self::of_name(path).ok_or_else(|| Error::Extension {
            path: path.to_owned(),
        })
    }

    fn of_name(path: &Path) -> Option<Self> {
        // PyTorch checkpoints named `checkpoint.pth.tar` are not archives.
        let name = path.file_name().unwrap_or(path.as_os_str());
        let name = name.to_str().unwrap_or("").to_ascii_lowercase();
        let name = Path::new(name.trim_end_matches(".tar"));
        let extension = name.extension().and_then(|extension| extension.to_str());
        match extension? {
            "pth" | "pt" => Some(Self::PyTorch),
            "safetensors" => Some(Self::Safetensors),
            "bpk" => Some(Self::Burnpack),
            _ => None,
        }
    }

    /// The name of the format, with its article.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::PyTorch => "a PyTorch checkpoint",
            Self::Safetensors => "a safetensors file",
            Self::Burnpack => "a burnpack file",
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

/// What a file is, by its first bytes.
enum Content {
    Weights(Format),
    Other(&'static str),
    Unknown,
}

/// Recognises a file by its first bytes.
fn recognise(head: &[u8]) -> Content {
    use Content::{Other, Unknown, Weights};
    let text = head
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(head)
        .trim_ascii_start();
    let is = |start: &[u8]| head.starts_with(start);
    let says = |start: &[u8]| {
        let begin = text.get(..start.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(start))
    };
    // The magic number of `torch.save` before 1.6, as a long integer of pickle's protocols 2 and up.
    let legacy = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    match head {
        [] => Other("an empty file"),
        // A length below 2³² in eight bytes, then JSON.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => Weights(Format::Safetensors),
        _ if is(b"PK\x03\x04") || is(b"PK\x05\x06") => Weights(Format::PyTorch),
        // A pickle starts with its protocol.
        [0x80, 2..=5, ..] => Weights(Format::PyTorch),
        _ if head.windows(legacy.len()).any(|bytes| bytes == legacy) => Weights(Format::PyTorch),
        // The magic number "BURN", little-endian.
        _ if is(b"NRUB") => Weights(Format::Burnpack),
        // A download that failed leaves such a file.
        _ if is(b"version https://git-lfs") => Other("a Git LFS pointer to a file"),
        _ if says(b"<!doctype") || says(b"<html") || says(b"<head") => Other("a web page"),
        _ if says(b"<?xml") || says(b"<") => Other("XML, perhaps an error message of a server"),
        _ if says(b"{") => Other("JSON, perhaps an error message of a server"),
        _ if is(b"\x1f\x8b") => Other("a gzip archive, which must be unpacked first"),
        _ if is(b"7z\xbc\xaf") || is(b"Rar!") => Other("an archive, which must be unpacked first"),
        _ if is(b"\x89HDF") => Other("an HDF5 file, perhaps of Keras"),
        _ if is(b"\x93NUMPY") => Other("a NumPy array"),
        _ if is(b"GGUF") => Other("a GGUF file"),
        _ => Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_in_any_case_select_the_format_that_is_written() {
        let cases = [
            ("a.pth", Format::PyTorch),
            ("a.b.PT", Format::PyTorch),
            ("a.PTH.TAR", Format::PyTorch),
            ("a.SafeTensors", Format::Safetensors),
            ("a.bpk", Format::Burnpack),
        ];
        for (name, expected) in cases {
            assert_eq!(Format::to_write(Path::new(name)).expect(name), expected);
        }
        for name in ["a", "pth", ".pth", "a.bin", "a.pth.zip", ""] {
            let error = Format::to_write(Path::new(name)).expect_err(name);
            assert!(matches!(error, Error::Extension { .. }), "{error}");
        }
    }

    #[test]
    fn the_content_decides_whatever_the_extension() {
        let cases: [(&[u8], Format); 5] = [
            (b"PK\x03\x04", Format::PyTorch),
            (b"\x80\x02}q\x00.", Format::PyTorch),
            (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", Format::PyTorch),
            (b"NRUB\x01\x00", Format::Burnpack),
            (b"\x80\x02\0\0\0\0\0\0{\"", Format::Safetensors),
        ];
        for (head, expected) in cases {
            for name in [
                "w.bin",
                "w.ckpt",
                "w.pth.tar-60",
                "w.pkl",
                "W.TH",
                "w.bpk",
                "w",
            ] {
                let found = Format::of_content(Path::new(name), head).expect("weights");
                assert_eq!(found, expected, "{name}");
            }
        }
        // If the first bytes are unknown, the extension decides.
        assert!(Format::of_content(Path::new("w.pth"), b"text").is_ok());
        let error = Format::of_content(Path::new("w.bin"), b"text").expect_err("unknown bytes");
        assert!(
            error
                .to_string()
                .ends_with("found a file that starts with the bytes [74, 65, 78, 74]"),
            "{error}"
        );
    }

    #[test]
    fn the_error_says_what_a_file_without_weights_is() {
        let cases: [(&[u8], &str); 8] = [
            (b"", "an empty file"),
            (b"<!DOCTYPE html>", "a web page"),
            (b"\n <HTML>", "a web page"),
            (
                b"<?xml version=\"1.0\"?>",
                "XML, perhaps an error message of a server",
            ),
            (
                b"{\"error\": 404}",
                "JSON, perhaps an error message of a server",
            ),
            (
                b"\x1f\x8b\x08",
                "a gzip archive, which must be unpacked first",
            ),
            (b"\x89HDF\r\n", "an HDF5 file, perhaps of Keras"),
            (
                b"version https://git-lfs.github.com/spec/v1",
                "a Git LFS pointer to a file",
            ),
        ];
        for (head, found) in cases {
            for name in ["w.safetensors", "w.pth", "w.bin"] {
                let error = Format::of_content(Path::new(name), head).expect_err(found);
                let expected = format!(
                    "{name}: expected a PyTorch checkpoint, a safetensors file or a burnpack file, \
                     found {found}"
                );
                assert_eq!(error.to_string(), expected);
            }
        }
    }
}
