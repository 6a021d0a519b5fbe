//! JPEG decoding: chooses a decoder that reads the file correctly.

use std::io::Cursor;

use image::{
    DynamicImage, ImageFormat, RgbImage, codecs::jpeg::JpegDecoder, metadata::Orientation,
};
use jpeg_decoder::ColorTransform;

use super::{
    jpeg::{Fault, Header, Layout, Process},
    pixels::{check_size, oriented},
    refusal::Refusal,
};

/// The maximum number of pixels in a byte of a file: each block of 8 x 8 takes at least one bit.
const PIXELS_PER_BYTE: u64 = 8 * 64;

/// Decodes the image in these bytes, and returns it with its EXIF orientation.
///
/// There are two decoders. The fast one is correct for grey images and for ordinary colour images: luma is
/// the first channel, with the resolution of chroma or twice that, and a sequential image has a single scan.
/// It decodes other images wrongly, without an error. The slow one takes three times as long. It is correct
/// except for a few rare files, which are rejected.
pub(super) fn read(bytes: &[u8]) -> Result<(DynamicImage, Orientation), Refusal> {
    let layout = Layout::read(bytes)?;
    let header = &layout.header;
    check(header)?;
    let pixels = u64::from(header.frame.width) * u64::from(header.frame.height);
    if pixels > PIXELS_PER_BYTE.saturating_mul(bytes.len() as u64) {
        return Err(Fault::Truncated.into());
    }
    let image = if is_ordinary(&layout) {
        DynamicImage::from_decoder(JpegDecoder::new(Cursor::new(&*layout.bytes))?)?
    } else {
        read_slowly(&layout)?.into()
    };
    Ok((image, orientation(header)))
}

/// Whether the fast decoder is correct for a file.
///
/// Images with the component IDs `RGB`, or with Adobe's colour transform 0, are left to the slow decoder: the
/// fast one does not follow libjpeg's rules for RGB.
fn is_ordinary(layout: &Layout<'_>) -> bool {
    let frame = &layout.header.frame;
    let at_once = match frame.process {
        Process::Sequential => layout.scans.len() == 1,
        Process::Progressive => true,
        Process::Other(_) => false,
    };
    let known = match *frame.components {
        [grey] => grey.sampling == (1, 1),
        [luma, ref chroma @ ..] if chroma.len() == 2 => {
            let fine = luma.sampling.0 <= 2 && luma.sampling.1 <= 2;
            let coarse = chroma.iter().all(|component| component.sampling == (1, 1));
            let ids: Vec<u8> = frame.components.iter().map(|one| one.id).collect();
            let converted =
                matches!(layout.header.metadata.adobe, None | Some(1 | 2)) && ids != b"RGB";
            fine && coarse && converted
        }
        _ => false,
    };
    at_once && known
}

/// The colour space of an image, by libjpeg's rules.
fn colours(header: &Header<'_>) -> ColorTransform {
    let ids: Vec<u8> = header.frame.components.iter().map(|one| one.id).collect();
    match (&*ids, header.metadata.adobe) {
        ([_], _) => ColorTransform::Grayscale,
        ([_, _, _], Some(0)) | (b"RGB", None) if !header.metadata.jfif => ColorTransform::RGB,
        ([_, _, _], _) => ColorTransform::YCbCr,
        (_, None | Some(0)) => ColorTransform::CMYK,
        _ => ColorTransform::YCCK,
    }
}

/// Decodes the image with the slow decoder.
fn read_slowly(layout: &Layout<'_>) -> Result<RgbImage, Refusal> {
    reject_rare(layout)?;
    let mut decoder = jpeg_decoder::Decoder::new(&*layout.bytes);
    decoder.set_color_transform(colours(&layout.header));
    let decoded = decoder.decode();
    let values = decoded.map_err(|error| Refusal::damaged(ImageFormat::Jpeg, error.to_string()))?;
    let frame = &layout.header.frame;
    let values = match frame.components.len() {
        1 => values.iter().flat_map(|&grey| [grey; 3]).collect(),
        4 => values.chunks_exact(4).flat_map(cmyk_to_rgb).collect(),
        _ => values,
    };
    let length = values.len();
    RgbImage::from_raw(frame.width, frame.height, values).ok_or_else(|| {
        let (width, height) = (frame.width, frame.height);
        let reason = format!("{length} values for {width} x {height} pixels");
        Refusal::damaged(ImageFormat::Jpeg, reason)
    })
}

/// Converts cyan, magenta, yellow and key (black) to red, green and blue.
fn cmyk_to_rgb(ink: &[u8]) -> [u8; 3] {
    let light = 255 - u32::from(ink[3]);
    [0, 1, 2].map(|at| {
        let product = (255 - u32::from(ink[at])) * light;
        u8::try_from((product + 127) / 255).unwrap_or(u8::MAX)
    })
}

/// Rejects files that the slow decoder decodes wrongly. These are progressive images that change their
/// quantisation tables between scans, and images with a scan of one component whose sampling factor is neither
/// 1 nor the largest of the image.
fn reject_rare(layout: &Layout<'_>) -> Result<(), Refusal> {
    let frame = &layout.header.frame;
    if frame.process == Process::Progressive && layout.late_tables {
        let found = "a progressive JPEG with quantisation tables between its scans";
        return Err(Refusal::Format(found.to_owned()));
    }
    let samplings = || frame.components.iter().map(|component| component.sampling);
    let widest = samplings().map(|(horizontal, _)| horizontal).max();
    let highest = samplings().map(|(_, vertical)| vertical).max();
    for scan in &layout.scans {
        let [single] = *scan.components else { continue };
        let (horizontal, vertical) = frame.components[single].sampling;
        let between = |factor, most| factor != 1 && Some(factor) != most;
        if between(horizontal, widest) || between(vertical, highest) {
            let found = format!(
                "a JPEG with sampling factors {horizontal} x {vertical} in a scan of one component"
            );
            return Err(Refusal::Format(found));
        }
    }
    Ok(())
}

/// Reads the width and height of the image that [`read`] returns, from the segments before the first scan.
pub(super) fn dimensions(bytes: &[u8]) -> Result<(u32, u32), Refusal> {
    let header = Header::read(bytes)?;
    check(&header)?;
    let size = (header.frame.width, header.frame.height);
    Ok(oriented(size, orientation(&header)))
}

fn orientation(header: &Header<'_>) -> Orientation {
    let exif = header.metadata.exif;
    let found = exif.and_then(Orientation::from_exif_chunk);
    found.unwrap_or(Orientation::NoTransforms)
}

/// Rejects images that neither decoder supports, and images with too many pixels.
fn check(header: &Header<'_>) -> Result<(), Refusal> {
    let frame = &header.frame;
    let found = match (frame.process, frame.precision, frame.components.len()) {
        (Process::Other(name), ..) => name.to_owned(),
        (_, 8, 1 | 3 | 4) => return check_size(frame.width, frame.height),
        (_, 8, channels) => format!("a JPEG of {channels} colour channels"),
        (_, bits, _) => format!("a JPEG of {bits} bits per channel"),
    };
    Err(Refusal::Format(found))
}
