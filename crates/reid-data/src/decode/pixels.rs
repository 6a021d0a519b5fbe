//! Pixel decoding: reads the bytes of an image in any supported format as RGB.

use std::io::{BufRead, Cursor, Seek};

use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage,
    metadata::Orientation,
};

use super::{
    BYTES_PER_PIXEL, MAX_BYTES, MAX_PIXELS, content, jpeg_pixels, refusal::Refusal, tiff_tags,
    webp_exif,
};

/// Decodes the image in these bytes, and applies its EXIF orientation.
pub(super) fn read(bytes: &[u8]) -> Result<RgbImage, Refusal> {
    let start = &bytes[..bytes.len().min(content::LENGTH)];
    let format = content::format(start).map_err(|found| Refusal::Format(found.to_owned()))?;
    let (mut image, orientation) = match format {
        ImageFormat::Jpeg => jpeg_pixels::read(bytes)?,
        other => {
            let (decoder, orientation) = decoder(Cursor::new(bytes), other)?;
            (DynamicImage::from_decoder(decoder)?, orientation)
        }
    };
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

/// Reads the width and height of the image that [`read`] returns, without decoding the pixels.
pub(super) fn dimensions<R: BufRead + Seek>(
    reader: R,
    format: ImageFormat,
) -> Result<(u32, u32), Refusal> {
    let (decoder, orientation) = decoder(reader, format)?;
    Ok(oriented(decoder.dimensions(), orientation))
}

/// The width and height after the orientation is applied.
pub(super) fn oriented((width, height): (u32, u32), orientation: Orientation) -> (u32, u32) {
    match orientation {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => (height, width),
        Orientation::NoTransforms
        | Orientation::Rotate180
        | Orientation::FlipHorizontal
        | Orientation::FlipVertical => (width, height),
    }
}

/// Creates a decoder, checks the number of pixels in the header, and reads the EXIF orientation.
pub(super) fn decoder<'reader, R: BufRead + Seek + 'reader>(
    mut reader: R,
    format: ImageFormat,
) -> Result<(impl ImageDecoder + 'reader, Orientation), Refusal> {
    let mut webp = None;
    match format {
        ImageFormat::Tiff => tiff_tags::check(&mut reader)?,
        ImageFormat::WebP => webp = Some(webp_exif::orientation(&mut reader)?),
        _ => {}
    }
    reader.rewind().map_err(ImageError::from)?;
    let mut reader = ImageReader::with_format(reader, format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    let orientation = match webp {
        Some(orientation) => orientation,
        None => decoder.orientation()?,
    };
    Ok((decoder, orientation))
}

/// Rejects an image without pixels, with more than [`MAX_PIXELS`], or with more than fit into memory. The
/// memory that decoding needs is reserved and freed again.
pub(super) fn check_size(width: u32, height: u32) -> Result<(), Refusal> {
    if width == 0 || height == 0 {
        let found = format!("an image of {width} x {height} pixels");
        return Err(Refusal::Format(found));
    }
    let pixels = u64::from(width) * u64::from(height);
    let bytes = BYTES_PER_PIXEL.saturating_mul(pixels);
    let room = usize::try_from(bytes).is_ok_and(|bytes| {
        let mut memory = Vec::<u8>::new();
        memory.try_reserve_exact(bytes).is_ok()
    });
    if pixels > MAX_PIXELS || !room {
        let (width, height) = (width.into(), height.into());
        return Err(Refusal::Size { width, height });
    }
    Ok(())
}
