//! TIFF tags: what the decoder passes over although pixels depend on it.

use std::io::{Read, Seek};

use image::ImageFormat;
use tiff::{decoder::Decoder, tags::Tag};

use super::refusal::Refusal;

/// The bits of a byte run from the lowest to the highest.
const LOWEST_BIT_FIRST: u16 = 2;
/// Colours are multiplied by alpha.
const ASSOCIATED_ALPHA: u16 = 1;

/// Refuses a file whose pixels the decoder would give in another order of bits, or multiplied by
/// their transparency.
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
