//! File kinds: whether a file's extension is that of an image, and of a supported format.

use std::path::Path;

/// The kind of a file according to its extension.
///
/// The content may be of another kind. [`dimensions`](crate::dimensions) and [`decode`](crate::decode) use
/// only the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// An image in a supported format: JPEG, PNG, WebP, TIFF, GIF or BMP.
    Readable,
    /// An image in a format that is not supported, with the name of the format, such as `"HEIC"`.
    UnreadableImage(&'static str),
    /// Any other file, such as a text file or a file without an extension.
    Other,
}

/// The extensions of supported formats, in lower case.
const READABLE: [&str; 17] = [
    "jpg", "jpeg", "jpe", "jfif", "jfi", "jif", "pjpeg", "pjp", "mpo", // JPEG
    "png", "apng", "bmp", "dib", "webp", "tif", "tiff", "gif",
];

/// The extensions of other image formats, in lower case, with the names of the formats.
const UNREADABLE: [(&str, &[&str]); 20] = [
    ("HEIC", &["heic", "heif", "hif", "heics", "heifs"]),
    ("AVIF", &["avif", "avifs"]),
    ("JPEG XL", &["jxl"]),
    (
        "JPEG 2000",
        &["jp2", "j2k", "j2c", "jpc", "jpf", "jpx", "jpm"],
    ),
    ("JPEG XR", &["jxr", "wdp", "hdp"]),
    ("JPEG-LS", &["jls"]),
    ("OpenEXR", &["exr"]),
    ("Radiance HDR", &["hdr"]),
    ("TGA", &["tga"]),
    ("DDS", &["dds"]),
    ("QOI", &["qoi"]),
    ("Netpbm", &["pbm", "pgm", "ppm", "pnm", "pam", "pfm"]),
    ("PCX", &["pcx"]),
    ("Sun raster", &["ras"]),
    ("icon", &["ico", "cur", "icns"]),
    ("X bitmap", &["xbm", "xpm"]),
    ("SVG", &["svg", "svgz"]),
    ("EPS", &["eps"]),
    ("Photoshop", &["psd", "psb", "xcf"]),
    (
        "camera raw",
        &[
            "dng", "cr2", "cr3", "nef", "nrw", "arw", "srf", "sr2", "orf", "rw2", "raf", "pef",
            "srw", "raw",
        ],
    ),
];

/// Returns the kind of a file according to its extension, ignoring case. The file is not opened.
///
/// ```
/// use std::path::Path;
///
/// use reid_data::{FileKind, file_kind};
///
/// assert_eq!(file_kind(Path::new("anna/1.JFIF")), FileKind::Readable);
/// assert_eq!(file_kind(Path::new("anna/2.heic")), FileKind::UnreadableImage("HEIC"));
/// assert_eq!(file_kind(Path::new("anna/notes.txt")), FileKind::Other);
/// ```
#[must_use]
pub fn file_kind(path: &Path) -> FileKind {
    let Some(extension) = path.extension() else {
        return FileKind::Other;
    };
    let is = |known: &str| extension.eq_ignore_ascii_case(known);
    if READABLE.iter().any(|known| is(known)) {
        return FileKind::Readable;
    }
    let unreadable = UNREADABLE
        .iter()
        .find(|(_, extensions)| extensions.iter().any(|known| is(known)));
    unreadable.map_or(FileKind::Other, |&(name, _)| {
        FileKind::UnreadableImage(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str) -> FileKind {
        file_kind(Path::new(name))
    }

    #[test]
    fn extensions_of_supported_formats_are_readable_in_any_case() {
        for extension in [
            "jpg", "jpeg", "jpe", "jfif", "png", "bmp", "webp", "tif", "tiff", "gif",
        ] {
            assert_eq!(kind(&format!("a/b.{extension}")), FileKind::Readable);
            let upper = extension.to_uppercase();
            assert_eq!(kind(&format!("a/b.c.{upper}")), FileKind::Readable);
        }
        assert_eq!(kind("a.JpEg"), FileKind::Readable);
    }

    #[test]
    fn unsupported_images_have_a_format_name_and_other_files_are_other() {
        assert_eq!(kind("a.HEIC"), FileKind::UnreadableImage("HEIC"));
        assert_eq!(kind("a.avif"), FileKind::UnreadableImage("AVIF"));
        assert_eq!(kind("a.jp2"), FileKind::UnreadableImage("JPEG 2000"));
        for other in ["a.txt", "a", "jpg", ".jpg", "a.jpg.part", "a.jpg~", "a."] {
            assert_eq!(kind(other), FileKind::Other, "{other}");
        }
    }

    #[test]
    fn no_extension_is_listed_twice() {
        let others = UNREADABLE.iter().flat_map(|(_, extensions)| *extensions);
        let mut extensions: Vec<&str> = READABLE.iter().chain(others).copied().collect();
        let listed = extensions.len();
        extensions.sort_unstable();
        extensions.dedup();
        assert_eq!(extensions.len(), listed);
    }
}
