//! TIFF tags that the decoder ignores although the pixels depend on them.

use std::io::{Read, Seek};

use image::ImageFormat;
use tiff::{decoder::Decoder, tags::Tag};

use super::refusal::Refusal;

/// The value of `FillOrder` if the first pixel of a byte is in its lowest bits.
const LOWEST_BIT_FIRST: u16 = 2;
/// The value of `ExtraSamples` if colours are multiplied by alpha.
const ASSOCIATED_ALPHA: u16 = 1;

/// Rejects a file whose pixels the decoder would return in the wrong order within a byte, or multiplied by
/// alpha.
pub(super) fn check(reader: impl Read + Seek) -> Result<(), Refusal> {
    let damaged = |error: tiff::TiffError| Refusal::damaged(ImageFormat::Tiff, error.to_string());
    let mut decoder = Decoder::new(reader).map_err(damaged)?;
    let fill = decoder.find_tag_unsigned::<u16>(Tag::FillOrder);
    let extra = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples);
    let found = if fill.map_err(damaged)? == Some(LOWEST_BIT_FIRST) {
        "a TIFF with the lowest bit first"
    } else if extra
        .map_err(damaged)?
        .unwrap_or_default()
        .contains(&ASSOCIATED_ALPHA)
    {
        "a TIFF with colours multiplied by alpha"
    } else {
        return Ok(());
    };
    Err(Refusal::Format(found.to_owned()))
}
