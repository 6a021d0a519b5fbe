//! Inputs that fuzzing has found, each by what it did: none of them may do it again.

use std::path::Path;

use reid_data::{dimensions, open_image};

/// What is said of a picture, which is refused by its name.
fn refusal(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/findings")
        .join(name);
    let message = open_image(&path).expect_err(name).to_string();
    assert!(message.contains(name), "{message}");
    // The header alone may be in order.
    if let Ok((width, height)) = dimensions(&path) {
        assert!(width > 0 && height > 0, "{name}: {width} x {height}");
    }
    message
}

/// The process was aborted: 113 bytes that declare 19 x 2,147,483,665 pixels.
#[test]
fn a_bmp_that_declares_more_pixels_than_there_is_memory_for() {
    let message = refusal("declared-height.bmp");
    assert!(message.contains("pixels"), "{message}");
}

/// A picture of no pixels was passed on, to be resized.
#[test]
fn a_gif_without_height() {
    let message = refusal("no-height.gif");
    assert!(message.contains("19 x 0 pixels"), "{message}");
}

/// The process was aborted where memory is short: 107 bytes with an EXIF chunk in a frame that declares
/// 4 GiB.
#[test]
fn a_webp_whose_exif_chunk_is_longer_than_the_file() {
    refusal("declared-exif.webp");
}

/// The decoder panicked: four channels, each in a scan of its own.
#[test]
fn a_jpeg_of_four_channels_in_several_scans() {
    refusal("four-channels-in-scans.jpg");
}

/// The decoder panicked: one channel, and a note of Adobe's behind the frame header that there are three.
#[test]
fn a_grey_jpeg_that_says_it_is_in_colour() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/findings/grey-with-adobe.jpg");
    if let Ok(image) = open_image(&path) {
        assert!(image.pixels().all(|pixel| pixel.0 == [pixel.0[0]; 3]));
    }
}
