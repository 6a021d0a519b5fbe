//! Image files are read as Pillow reads them, or rejected with the path of the file. They never cause wrong
//! pixels, a panic or an abort.
//!
//! `fixtures/make.py` created the files and shows what each of them contains.

use std::{
    fs,
    path::{Path, PathBuf},
};

use image::{ImageFormat, RgbImage};
use reid_core::InputSize;
use reid_data::{Error, MAX_PIXELS, decode, dimensions, image_from_bytes, open_image};

/// The largest allowed difference to Pillow's values. Decoders round differently when they interpolate chroma
/// and convert colours. The largest differences occur in chroma next to an edge of less than 4 pixels.
const TOLERANCE: u8 = 4;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The paths of the images that can be read, sorted.
fn readable() -> Vec<PathBuf> {
    let entries = fs::read_dir(fixtures()).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let is_expected = |path: &PathBuf| path.to_string_lossy().ends_with(".expected.png");
    let mut paths: Vec<PathBuf> = paths
        .filter(is_expected)
        .map(|expected| expected.with_extension("").with_extension(""))
        .collect();
    paths.sort();
    assert!(paths.len() > 25, "found {}", paths.len());
    paths
}

/// The image that Pillow reads from this file.
fn expected(path: &Path) -> RgbImage {
    let name = format!("{}.expected.png", path.display());
    image::open(name).expect("an image").into_rgb8()
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(fixtures().join(name)).expect("a file")
}

/// Returns the error message for these bytes, which must start with the name of the file.
fn error_message(name: &str, bytes: &[u8]) -> String {
    match image_from_bytes(bytes, name) {
        Ok(image) => panic!("{name}: read as {:?}", image.dimensions()),
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with(name), "{message}");
            message
        }
    }
}

fn largest_difference(found: &RgbImage, expected: &RgbImage) -> u8 {
    assert_eq!(found.dimensions(), expected.dimensions());
    let pairs = found.as_raw().iter().zip(expected.as_raw());
    pairs.map(|(a, b)| a.abs_diff(*b)).max().expect("pixels")
}

#[test]
fn every_image_is_read_as_by_pillow() {
    for path in readable() {
        let found = open_image(&path).unwrap();
        let is_jpeg = path.extension().is_some_and(|extension| extension == "jpg");
        let tolerance = if is_jpeg { TOLERANCE } else { 0 };
        let difference = largest_difference(&found, &expected(&path));
        assert!(difference <= tolerance, "{}: {difference}", path.display());
    }
}

#[test]
fn variants_that_no_decoder_reads_correctly_are_rejected() {
    for (name, reason) in [
        ("arithmetic.jpg", "found arithmetic-coded JPEG"),
        (
            "rare-sampling.jpg",
            "sampling factors 2 x 1 in a scan of one",
        ),
        (
            "first-coefficients.jpg",
            "scans without all coefficients of component 1",
        ),
        ("late-tables.jpg", "quantisation tables between its scans"),
        ("lowest-bit-first.tif", "a TIFF with the lowest bit first"),
        ("multiplied-by-alpha.tif", "colours multiplied by alpha"),
        ("floating-point.tif", "does not support the color type"),
    ] {
        let message = error_message(name, &fixture(&format!("refused/{name}")));
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn unsupported_jpeg_variants_and_invalid_headers_are_named_in_the_error() {
    let jpeg = fixture("ordinary.jpg");
    let frame = jpeg
        .windows(2)
        .position(|pair| pair == [0xff, 0xc0])
        .expect("a frame header");
    for (at, value, reason) in [
        (frame + 1, 0xc3, "lossless JPEG"),
        (frame + 1, 0xc5, "hierarchical JPEG"),
        (frame + 1, 0xca, "arithmetic-coded JPEG"),
        (frame + 4, 12, "12 bits per channel"),
        (frame + 6, 0, "21 x 0 pixels"),
        (frame + 8, 0, "0 x 13 pixels"),
        (frame + 11, 0x52, "sampling factors 5 x 2"),
    ] {
        let mut jpeg = jpeg.clone();
        jpeg[at] = value;
        let message = error_message("a.jpg", &jpeg);
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn unsupported_formats_and_other_files_are_named_in_the_error() {
    for (bytes, reason) in [
        (&b"\0\0\0\x18ftypheic\0\0\0\0mif1"[..], "found HEIC"),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1", "found AVIF"),
        (
            b"version https://git-lfs.github.com",
            "found a Git LFS pointer",
        ),
        (b"<!DOCTYPE html>", "markup"),
        (b"", "found an empty file"),
    ] {
        let message = error_message("a.jpg", bytes);
        assert!(message.contains(reason), "{message}");
        assert!(message.contains("expected a JPEG, PNG"), "{message}");
    }
}

/// The offsets at which the segments of a JPEG start, including its scans and its end-of-image marker.
fn segments(jpeg: &[u8]) -> Vec<usize> {
    let mut starts = vec![2];
    let mut at = 2;
    while jpeg[at + 1] != 0xd9 {
        let scan = jpeg[at + 1] == 0xda;
        at += 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        while scan && (jpeg[at] != 0xff || matches!(jpeg[at + 1], 0 | 0xd0..=0xd7)) {
            at += 1;
        }
        starts.push(at);
    }
    starts
}

#[test]
fn stray_bytes_between_segments_are_skipped() {
    for name in ["ordinary.jpg", "progressive.jpg", "420-three-scans.jpg"] {
        let (jpeg, path) = (fixture(name), fixtures().join(name));
        for stray in [&[0][..], &[0, 0], &[1, 2, 3, 4, 5], &[0xff], &[0xff, 0]] {
            // Not before the first segment: a JPEG must start with two markers.
            for at in segments(&jpeg).into_iter().skip(1) {
                let mut jpeg = jpeg.clone();
                jpeg.splice(at..at, stray.iter().copied());
                let found = image_from_bytes(&jpeg, name).unwrap();
                let difference = largest_difference(&found, &expected(&path));
                assert!(
                    difference <= TOLERANCE,
                    "{name}: {stray:?} at {at}: {difference}"
                );
            }
        }
    }
}

#[test]
fn a_jpeg_without_one_of_its_scans_is_rejected_even_with_an_end_marker() {
    for name in [
        "420-three-scans.jpg",
        "422-chroma-first.jpg",
        "progressive.jpg",
    ] {
        let jpeg = fixture(name);
        let starts = segments(&jpeg);
        let scans = starts.windows(2).filter(|pair| jpeg[pair[0] + 1] == 0xda);
        for scan in scans {
            let (mut without, mut twice) = (jpeg.clone(), jpeg.clone());
            without.drain(scan[0]..scan[1]);
            error_message(name, &without);
            twice.splice(scan[1]..scan[1], jpeg[scan[0]..scan[1]].iter().copied());
            error_message(name, &twice);
            // Truncated after this scan, with an end-of-image marker appended.
            if scan[1] + 2 < jpeg.len() {
                error_message(name, &[&jpeg[..scan[1]], &[0xff, 0xd9]].concat());
            }
        }
    }
}

/// The number of bytes after the pixels: a file that lacks them may still be read completely.
fn bytes_after_pixels(name: &str, length: usize) -> usize {
    let extension = name.rsplit('.').next();
    match (name, extension) {
        // Animated GIF and WebP files are read up to the end of their first image.
        ("animated.gif" | "animated.webp", _) => length / 2,
        // The directory and pixels of a second TIFF page, the EXIF chunk of a WebP, the end chunk of a PNG,
        // and TIFF tags that are not needed.
        ("two-pages.tif", _) => length / 2 + 16,
        (_, Some("webp")) => 64,
        (_, Some("png")) => 16,
        (_, Some("tif")) => 300,
        _ => 0,
    }
}

#[test]
fn an_image_that_breaks_off_anywhere_is_rejected_or_complete() {
    for path in readable() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let (bytes, expected) = (fs::read(&path).unwrap(), expected(&path));
        for length in 0..bytes.len() {
            match image_from_bytes(&bytes[..length], &name) {
                Err(error) => assert!(error.to_string().starts_with(&name), "{error}"),
                Ok(image) => {
                    let missing = bytes.len() - length;
                    let allowed = bytes_after_pixels(&name, bytes.len());
                    assert!(
                        missing <= allowed,
                        "{name}: read without its last {missing} bytes"
                    );
                    let difference = largest_difference(&image, &expected);
                    assert_eq!(difference, 0, "{name}: {missing} bytes missing");
                }
            }
        }
    }
}

#[test]
fn a_changed_byte_never_causes_a_panic() {
    let refused = fs::read_dir(fixtures().join("refused")).unwrap();
    let refused = refused.map(|entry| entry.expect("an entry").path());
    for path in readable().into_iter().chain(refused) {
        let mut bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let flip = [0x01, 0x80, 0xff][at % 3];
            bytes[at] ^= flip;
            drop(image_from_bytes(&bytes, &path));
            bytes[at] ^= flip;
        }
    }
}

/// A PNG header that declares this size, with a valid checksum, followed by an empty `IDAT` chunk.
fn png_declaring(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend([width.to_be_bytes(), height.to_be_bytes()].concat());
    header.extend([8, 2, 0, 0, 0]);
    let checksum = header.iter().fold(u32::MAX, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    });
    let start = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    let ends = [&(!checksum).to_be_bytes()[..], b"\0\0\0\0IDAT"].concat();
    [start, header, ends].concat()
}

fn bmp_declaring(width: i32, height: i32) -> Vec<u8> {
    let mut bmp = b"BM".to_vec();
    bmp.extend(
        [54_u32, 0, 54, 40]
            .iter()
            .flat_map(|word| word.to_le_bytes()),
    );
    bmp.extend([width.to_le_bytes(), height.to_le_bytes()].concat());
    bmp.extend([1, 0, 24, 0]);
    bmp.resize(54, 0);
    bmp
}

fn tiff_declaring(width: u32, height: u32) -> Vec<u8> {
    let mut tiff = b"II*\0\x08\0\0\0\x08\0".to_vec();
    for (tag, value) in [
        (256_u16, width),
        (257, height),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (279, 8),
    ] {
        tiff.extend(tag.to_le_bytes());
        tiff.extend([4, 0, 1, 0, 0, 0]);
        tiff.extend(value.to_le_bytes());
    }
    tiff.extend([0; 4]);
    tiff
}

fn gif_declaring(width: u16, height: u16) -> Vec<u8> {
    let size = [width.to_le_bytes(), height.to_le_bytes()].concat();
    [
        b"GIF89a",
        &size[..],
        &[0, 0, 0, b',', 0, 0, 0, 0],
        &size,
        b"\0\x02\x01\x44\0;",
    ]
    .concat()
}

fn webp_declaring(width: u32, height: u32) -> Vec<u8> {
    let size = ((width - 1) | ((height - 1) << 14)).to_le_bytes();
    let chunk = [&b"VP8L\x05\0\0\0\x2f"[..], &size, &[0]].concat();
    let length = u32::try_from(4 + chunk.len()).expect("short").to_le_bytes();
    [&b"RIFF"[..], &length, b"WEBP", &chunk].concat()
}

fn jpeg_declaring(width: u16, height: u16) -> Vec<u8> {
    let mut jpeg = fixture("ordinary.jpg");
    let frame = jpeg
        .windows(2)
        .position(|pair| pair == [0xff, 0xc0])
        .expect("a frame header");
    jpeg[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    jpeg[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    jpeg
}

#[test]
fn too_many_pixels_are_rejected_before_memory_is_allocated() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes, size) in [
        ("a.png", png_declaring(100_000, 100_000), "100000 x 100000"),
        (
            "b.png",
            png_declaring(1_000_000, 1_000_000),
            "1000000 x 1000000",
        ),
        ("a.bmp", bmp_declaring(60_000, 60_000), "60000 x 60000"),
        ("b.bmp", bmp_declaring(60_000, -60_000), "60000 x 60000"),
        ("a.tif", tiff_declaring(100_000, 100_000), "100000 x 100000"),
        ("a.gif", gif_declaring(65_535, 65_535), "65535 x 65535"),
        ("a.webp", webp_declaring(16_383, 16_382), "16383 x 16382"),
        ("a.jpg", jpeg_declaring(65_535, 65_500), "65535 x 65500"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, &bytes).unwrap();
        let refusals = [
            dimensions(&path).map(drop),
            open_image(&path).map(drop),
            decode(&path, InputSize::PERSON).map(drop),
        ];
        for refused in refusals {
            let error = refused.expect_err(name);
            assert!(matches!(error, Error::ImageSize { .. }), "{error}");
            let message = error.to_string();
            let limit = MAX_PIXELS.to_string();
            assert!(
                message.starts_with(&path.display().to_string()),
                "{message}"
            );
            assert!(
                message.contains(size) && message.contains(&limit),
                "{message}"
            );
        }
    }
}

#[test]
fn an_image_without_pixels_is_rejected() {
    error_message("a.png", &png_declaring(0, 4));
    error_message("a.bmp", &bmp_declaring(0, 4));
    error_message("b.bmp", &bmp_declaring(4, 0));
    error_message("a.tif", &tiff_declaring(4, 0));
    let message = error_message("a.gif", &gif_declaring(0, 0));
    assert!(
        message.contains("found an image of 0 x 0 pixels"),
        "{message}"
    );
    // The decoder reads the largest width, whose 14 bits are all set, as 0.
    error_message("a.webp", &webp_declaring(16_384, 4));
}

#[test]
fn more_pixels_than_the_file_can_contain_are_an_error() {
    // 13,000 x 13,000 pixels are within the limit, but 1,000 bytes cannot contain them.
    error_message("a.png", &png_declaring(13_000, 13_000));
    error_message("a.bmp", &bmp_declaring(13_000, 13_000));
    error_message("a.tif", &tiff_declaring(13_000, 13_000));
    error_message("a.gif", &gif_declaring(13_000, 13_000));
    error_message("a.webp", &webp_declaring(13_000, 13_000));
    let message = error_message("a.jpg", &jpeg_declaring(13_000, 13_000));
    assert!(message.contains("ends before the image does"), "{message}");
}

#[test]
fn the_dimensions_are_read_from_the_header_alone() {
    let folder = tempfile::tempdir().unwrap();
    for path in readable() {
        let size = expected(&path).dimensions();
        assert_eq!(dimensions(&path).unwrap(), size, "{}", path.display());
    }
    // Without its last quarter, a file contains the header, but not all pixels.
    for name in [
        "ordinary.jpg",
        "420-three-scans.jpg",
        "palette.bmp",
        "lossy.webp",
    ] {
        let (path, bytes) = (folder.path().join(name), fixture(name));
        fs::write(&path, &bytes[..bytes.len() * 3 / 4]).unwrap();
        assert_eq!(dimensions(&path).unwrap(), (21, 13));
        assert!(open_image(&path).is_err(), "{name}");
    }
}

#[test]
fn the_header_is_found_after_large_segments() {
    let jpeg = fixture("ordinary.jpg");
    let mut segment = vec![0xff, 0xe2, 0xff, 0xff];
    segment.resize(2 + 0xffff, 7);
    let long = [&jpeg[..2], &segment.repeat(3), &jpeg[2..]].concat();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.jpg");
    fs::write(&path, long).unwrap();
    assert_eq!(dimensions(&path).unwrap(), (21, 13));
    let difference = largest_difference(
        &open_image(&path).unwrap(),
        &expected(&fixtures().join("ordinary.jpg")),
    );
    assert!(difference <= TOLERANCE, "{difference}");
}

#[test]
fn a_folder_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    for error in [
        dimensions(folder.path()).map(drop).expect_err("a folder"),
        open_image(folder.path()).map(drop).expect_err("a folder"),
    ] {
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert!(
            error.to_string().contains("found a folder or a device"),
            "{error}"
        );
    }
}

#[test]
fn every_format_is_read_under_a_misleading_name() {
    let picture = RgbImage::from_fn(9, 7, |x, y| {
        image::Rgb([x * 25, y * 30, x * y].map(|value| u8::try_from(value).unwrap()))
    });
    let folder = tempfile::tempdir().unwrap();
    for format in [
        ImageFormat::Png,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
        ImageFormat::WebP,
    ] {
        let path = folder.path().join("misnamed.jpg");
        picture.save_with_format(&path, format).unwrap();
        assert_eq!(open_image(&path).unwrap(), picture, "{format:?}");
    }
}
