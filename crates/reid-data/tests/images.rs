//! Image files: read as Pillow reads them, or refused by name; never garbage, a panic or an abort.
//!
//! `fixtures/make.py` says what each file is and made it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use image::{ImageFormat, RgbImage};
use reid_core::InputSize;
use reid_data::{Error, MAX_PIXELS, decode, dimensions, image_from_bytes, open_image};

/// The most that a value may differ from Pillow's: decoders interpolate chroma and convert colours
/// with other roundings. Chroma next to an edge of less than 4 pixels is the worst case.
const TOLERANCE: u8 = 4;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The images that are read, by name.
fn readable() -> Vec<PathBuf> {
    let entries = fs::read_dir(fixtures()).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let is_right = |path: &PathBuf| path.to_string_lossy().ends_with(".right.png");
    let mut paths: Vec<PathBuf> = paths
        .filter(is_right)
        .map(|right| right.with_extension("").with_extension(""))
        .collect();
    paths.sort();
    assert!(paths.len() > 25, "found {}", paths.len());
    paths
}

fn right(path: &Path) -> RgbImage {
    let name = format!("{}.right.png", path.display());
    image::open(name).expect("an image").into_rgb8()
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(fixtures().join(name)).expect("a file")
}

/// The message that refuses these bytes; it names the file.
fn refusal(name: &str, bytes: &[u8]) -> String {
    match image_from_bytes(bytes, name) {
        Ok(image) => panic!("{name}: read as {:?}", image.dimensions()),
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with(name), "{message}");
            message
        }
    }
}

fn furthest(found: &RgbImage, right: &RgbImage) -> u8 {
    assert_eq!(found.dimensions(), right.dimensions());
    let pairs = found.as_raw().iter().zip(right.as_raw());
    pairs.map(|(a, b)| a.abs_diff(*b)).max().expect("pixels")
}

#[test]
fn every_image_is_what_pillow_reads() {
    for path in readable() {
        let found = open_image(&path).unwrap();
        let is_jpeg = path.extension().is_some_and(|extension| extension == "jpg");
        let most = if is_jpeg { TOLERANCE } else { 0 };
        let difference = furthest(&found, &right(&path));
        assert!(difference <= most, "{}: {difference}", path.display());
    }
}

#[test]
fn what_no_decoder_gets_right_is_refused_by_name() {
    for (name, reason) in [
        ("arithmetic.jpg", "found arithmetic-coded JPEG"),
        (
            "rare-sampling.jpg",
            "sampling factors 2 x 1 in a scan of one",
        ),
        ("first-coefficients.jpg", "leave out some of component 1"),
        ("late-tables.jpg", "quantisation tables between its scans"),
        ("lowest-bit-first.tif", "a TIFF with the lowest bit first"),
        ("multiplied-by-alpha.tif", "colours multiplied by alpha"),
        ("floating-point.tif", "does not support the color type"),
    ] {
        let message = refusal(name, &fixture(&format!("refused/{name}")));
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn precisions_and_processes_that_are_not_read_are_named() {
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
        let message = refusal("a.jpg", &jpeg);
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn other_images_and_other_files_are_named() {
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
        let message = refusal("a.jpg", bytes);
        assert!(message.contains(reason), "{message}");
        assert!(message.contains("expected a JPEG, PNG"), "{message}");
    }
}

/// Where the segments of a JPEG begin, its start, scans and end included.
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
fn stray_bytes_between_segments_are_passed_over() {
    for name in ["ordinary.jpg", "progressive.jpg", "420-three-scans.jpg"] {
        let (jpeg, path) = (fixture(name), fixtures().join(name));
        for stray in [&[0][..], &[0, 0], &[1, 2, 3, 4, 5], &[0xff], &[0xff, 0]] {
            // Before the second segment and all others: a JPEG begins with two markers.
            for at in segments(&jpeg).into_iter().skip(1) {
                let mut jpeg = jpeg.clone();
                jpeg.splice(at..at, stray.iter().copied());
                let found = image_from_bytes(&jpeg, name).unwrap();
                let difference = furthest(&found, &right(&path));
                assert!(
                    difference <= TOLERANCE,
                    "{name}: {stray:?} at {at}: {difference}"
                );
            }
        }
    }
}

#[test]
fn a_jpeg_without_one_of_its_scans_is_refused_whatever_stands_at_its_end() {
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
            refusal(name, &without);
            twice.splice(scan[1]..scan[1], jpeg[scan[0]..scan[1]].iter().copied());
            refusal(name, &twice);
            // Broken off behind this scan, with an end marker of its own.
            if scan[1] + 2 < jpeg.len() {
                refusal(name, &[&jpeg[..scan[1]], &[0xff, 0xd9]].concat());
            }
        }
    }
}

/// How many bytes may be missing at the end of a whole image: what stands behind its pixels.
fn behind_pixels(name: &str, length: usize) -> usize {
    let extension = name.rsplit('.').next();
    match (name, extension) {
        // A GIF and a moving WebP are read up to the end of their first picture.
        ("moving.gif" | "moving.webp", _) => length / 2,
        // The turn of a WebP, the end of a PNG, the directory and pixels of a second page, and what
        // describes the pixels of a TIFF without being needed.
        ("two-pages.tif", _) => length / 2 + 16,
        (_, Some("webp")) => 64,
        (_, Some("png")) => 16,
        (_, Some("tif")) => 300,
        _ => 0,
    }
}

#[test]
fn an_image_that_breaks_off_anywhere_is_refused_or_whole() {
    for path in readable() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let (bytes, right) = (fs::read(&path).unwrap(), right(&path));
        for length in 0..bytes.len() {
            match image_from_bytes(&bytes[..length], &name) {
                Err(error) => assert!(error.to_string().starts_with(&name), "{error}"),
                Ok(image) => {
                    let missing = bytes.len() - length;
                    let harmless = missing <= behind_pixels(&name, bytes.len());
                    assert!(harmless, "{name}: read without its last {missing} bytes");
                    assert_eq!(furthest(&image, &right), 0, "{name}: {missing} missing");
                }
            }
        }
    }
}

#[test]
fn a_flipped_byte_is_never_a_panic() {
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

/// A PNG chunk; the checksums of the two that are needed are given.
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
fn more_pixels_than_are_read_are_refused_before_memory_is_taken() {
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
fn an_image_without_pixels_is_refused() {
    refusal("a.png", &png_declaring(0, 4));
    refusal("a.bmp", &bmp_declaring(0, 4));
    refusal("b.bmp", &bmp_declaring(4, 0));
    refusal("a.tif", &tiff_declaring(4, 0));
    let message = refusal("a.gif", &gif_declaring(0, 0));
    assert!(message.contains("found one of 0 x 0 pixels"), "{message}");
    // The decoder takes the largest width, whose 14 bits are all set, for none.
    refusal("a.webp", &webp_declaring(16_384, 4));
}

#[test]
fn a_size_that_the_file_cannot_hold_is_an_error() {
    // 13,000 x 13,000 pixels are few enough, but there are not so many in 1,000 bytes.
    refusal("a.png", &png_declaring(13_000, 13_000));
    refusal("a.bmp", &bmp_declaring(13_000, 13_000));
    refusal("a.tif", &tiff_declaring(13_000, 13_000));
    refusal("a.gif", &gif_declaring(13_000, 13_000));
    refusal("a.webp", &webp_declaring(13_000, 13_000));
    let message = refusal("a.jpg", &jpeg_declaring(13_000, 13_000));
    assert!(message.contains("ends before the image does"), "{message}");
}

#[test]
fn the_header_alone_gives_the_size() {
    let folder = tempfile::tempdir().unwrap();
    for path in readable() {
        let size = right(&path).dimensions();
        assert_eq!(dimensions(&path).unwrap(), size, "{}", path.display());
    }
    // Without its last quarter an image has its header, but not its pixels.
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
fn the_header_is_found_behind_large_segments() {
    let jpeg = fixture("ordinary.jpg");
    let mut segment = vec![0xff, 0xe2, 0xff, 0xff];
    segment.resize(2 + 0xffff, 7);
    let long = [&jpeg[..2], &segment.repeat(3), &jpeg[2..]].concat();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.jpg");
    fs::write(&path, long).unwrap();
    assert_eq!(dimensions(&path).unwrap(), (21, 13));
    let difference = furthest(
        &open_image(&path).unwrap(),
        &right(&fixtures().join("ordinary.jpg")),
    );
    assert!(difference <= TOLERANCE, "{difference}");
}

#[test]
fn a_folder_is_no_image() {
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
fn every_format_is_read_whatever_its_name() {
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
