//! JPEG pixels: which decoder reads a file right.

use std::io::Cursor;

use image::{
    DynamicImage, ImageDecoder, ImageFormat, codecs::jpeg::JpegDecoder, metadata::Orientation,
};

use super::{
    jpeg::{Header, Layout, Process},
    pixels::{check_size, turned},
    refusal::Refusal,
};

/// The image in these bytes, and the turn that the camera noted.
pub(super) fn read(bytes: &[u8]) -> Result<(DynamicImage, Orientation), Refusal> {
    let layout = Layout::read(bytes)?;
    check(&layout.header)?;
    let decoder = JpegDecoder::new(Cursor::new(&*layout.bytes))?;
    let image = DynamicImage::from_decoder(decoder)?;
    Ok((image, orientation(&layout.header)))
}

/// Width and height that [`read`] will give the image, from what stands before the first scan.
pub(super) fn dimensions(bytes: &[u8]) -> Result<(u32, u32), Refusal> {
    let header = Header::read(bytes)?;
    check(&header)?;
    let size = (header.frame.width, header.frame.height);
    Ok(turned(size, orientation(&header)))
}

fn orientation(header: &Header<'_>) -> Orientation {
    let noted = header.exif.and_then(Orientation::from_exif_chunk);
    noted.unwrap_or(Orientation::NoTransforms)
}

/// Refuses what no decoder here reads, and what is too large.
fn check(header: &Header<'_>) -> Result<(), Refusal> {
    let frame = &header.frame;
    let found = match (frame.process, frame.precision, frame.components.len()) {
        (Process::Other(name), ..) => name.to_owned(),
        (_, 8, 1 | 3 | 4) => {
            let colours = u64::try_from(frame.components.len()).unwrap_or(u64::MAX);
            let bytes = colours * u64::from(frame.width) * u64::from(frame.height);
            return if frame.width == 0 || frame.height == 0 {
                let size = format!("{} x {} pixels", frame.width, frame.height);
                Err(Refusal::damaged(ImageFormat::Jpeg, size))
            } else {
                check_size(frame.width, frame.height, bytes)
            };
        }
        (_, 8, components) => format!("a JPEG of {components} colour channels"),
        (_, bits, _) => format!("a JPEG of {bits} bits per channel"),
    };
    Err(Refusal::Format(found))
}
