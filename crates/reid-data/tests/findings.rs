//! Regression tests for inputs found by fuzzing. The comment of each test says what the input once caused.

use std::path::Path;

use reid_data::{dimensions, open_image};

/// Returns the error message for an image, which must contain the name of the file.
fn error_message(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/findings")
        .join(name);
    let message = open_image(&path).expect_err(name).to_string();
    assert!(message.contains(name), "{message}");
    // The header may be valid.
    if let Ok((width, height)) = dimensions(&path) {
        assert!(width > 0 && height > 0, "{name}: {width} x {height}");
    }
    message
}

/// 113 bytes that declare 19 x 2,147,483,665 pixels: the process was aborted.
#[test]
fn a_bmp_that_declares_more_pixels_than_fit_into_memory() {
    let message = error_message("declared-height.bmp");
    assert!(message.contains("pixels"), "{message}");
}

/// An image of height 0: it was read, and resizing it failed.
#[test]
fn a_gif_of_height_0() {
    let message = error_message("no-height.gif");
    assert!(message.contains("19 x 0 pixels"), "{message}");
}

/// 107 bytes with an EXIF chunk that declares 4 GiB: the process was aborted if it had less memory.
#[test]
fn a_webp_whose_exif_chunk_is_longer_than_the_file() {
    error_message("declared-exif.webp");
}

/// Four channels, each in a separate scan: the decoder panicked.
#[test]
fn a_jpeg_of_four_channels_in_several_scans() {
    error_message("four-channels-in-scans.jpg");
}

/// One channel, but an Adobe segment after the frame header declares three: the decoder panicked.
#[test]
fn a_grey_jpeg_whose_adobe_segment_declares_colour() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/findings/grey-with-adobe.jpg");
    if let Ok(image) = open_image(&path) {
        assert!(image.pixels().all(|pixel| pixel.0 == [pixel.0[0]; 3]));
    }
}
