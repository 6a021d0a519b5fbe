//! Format detection from the first bytes of a file, independent of its name.

use image::ImageFormat;

/// The supported formats, as named in error messages.
pub(crate) const READ: &str = "a JPEG, PNG, WebP, TIFF, GIF or BMP image";

/// The number of bytes that the detection needs.
pub(super) const LENGTH: usize = 32;

/// Detects the format from the first bytes of a file. For other content, the error names what it is.
pub(super) fn format(start: &[u8]) -> Result<ImageFormat, &'static str> {
    let read = [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Tiff,
        ImageFormat::Gif,
        ImageFormat::Bmp,
    ];
    match image::guess_format(start) {
        Err(_) if start.starts_with(b"II+\0") || start.starts_with(b"MM\0+") => {
            Ok(ImageFormat::Tiff) // with 64-bit offsets
        }
        Ok(format) if read.contains(&format) => Ok(format),
        _ => Err(name(start)),
    }
}

/// Names content that is in no supported format.
fn name(start: &[u8]) -> &'static str {
    let brand = start.get(8..12).unwrap_or_default();
    match start {
        [] => "an empty file",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => match brand {
            b"avif" | b"avis" => "AVIF",
            b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1" => "HEIC",
            b"crx " => "a camera raw image",
            _ => "a video or another ISO media file",
        },
        [0xff, 0x0a, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => "JPEG XL",
        [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] | [0xff, 0x4f, 0xff, 0x51, ..] => "JPEG 2000",
        [b'8', b'B', b'P', b'S', ..] => "a Photoshop image",
        [b'D', b'D', b'S', b' ', ..] => "DDS",
        [0x76, 0x2f, 0x31, 0x01, ..] => "OpenEXR",
        [b'q', b'o', b'i', b'f', ..] => "QOI",
        [b'P', b'1'..=b'7', b' ' | b'\n' | b'\r' | b'\t', ..] => "a Netpbm image",
        [0, 0, 1 | 2, 0, 1..=255, 0, ..] => "an icon",
        [b'%', b'P', b'D', b'F', ..] => "PDF",
        [b'P', b'K', 3, 4, ..] => "a zip archive",
        [b'<', ..] => "HTML or other markup",
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' ', b'h', ..] => "a Git LFS pointer",
        _ => "an unknown format",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supported_formats_are_detected() {
        assert_eq!(format(&[0xff, 0xd8, 0xff, 0xe0]), Ok(ImageFormat::Jpeg));
        assert_eq!(format(b"\x89PNG\r\n\x1a\n"), Ok(ImageFormat::Png));
        assert_eq!(format(b"RIFF\x04\0\0\0WEBPVP8 "), Ok(ImageFormat::WebP));
        assert_eq!(format(b"II*\0\x08\0\0\0"), Ok(ImageFormat::Tiff));
        assert_eq!(format(b"MM\0*\0\0\0\x08"), Ok(ImageFormat::Tiff));
        assert_eq!(format(b"II+\0\x08\0\0\0"), Ok(ImageFormat::Tiff));
        assert_eq!(format(b"GIF89a"), Ok(ImageFormat::Gif));
        assert_eq!(format(b"BM\0\0\0\0"), Ok(ImageFormat::Bmp));
    }

    #[test]
    fn other_content_is_named() {
        assert_eq!(format(b""), Err("an empty file"));
        assert_eq!(format(b"\0\0\0\x18ftypheic"), Err("HEIC"));
        assert_eq!(format(b"\0\0\0\x18ftypavif"), Err("AVIF"));
        assert_eq!(format(b"qoif"), Err("QOI"));
        assert_eq!(format(b"version https://git-lfs"), Err("a Git LFS pointer"));
        assert_eq!(format(b"not an image"), Err("an unknown format"));
    }
}
