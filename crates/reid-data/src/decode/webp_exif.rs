//! WebP metadata: the turn that a camera noted. The decoder's own reading of it takes all the memory that a
//! chunk declares, whatever the length of the file.

use std::io::{self, Read, Seek, SeekFrom};

use image::{ImageError, ImageFormat, metadata::Orientation};

use super::refusal::Refusal;

/// Bytes of `RIFF`, a length and `WEBP`, and of the name and the length of a chunk.
const FILE_HEADER: u64 = 12;
const CHUNK_HEADER: u64 = 8;

/// The turn in the first chunk of EXIF, which a file with extended features may have.
pub(super) fn orientation(mut reader: impl Read + Seek) -> Result<Orientation, Refusal> {
    let exif = exif(&mut reader).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            let reason = "the file ends before the image does";
            Refusal::damaged(ImageFormat::WebP, reason)
        }
        _ => ImageError::from(error).into(),
    })?;
    let noted = exif.and_then(|exif| {
        let tags = exif.strip_prefix(b"Exif\0\0").unwrap_or(&exif);
        Orientation::from_exif_chunk(tags)
    });
    Ok(noted.unwrap_or(Orientation::NoTransforms))
}

/// The content of the first chunk of EXIF.
fn exif(reader: &mut (impl Read + Seek)) -> io::Result<Option<Vec<u8>>> {
    let length = reader.seek(SeekFrom::End(0))?;
    let mut start = FILE_HEADER;
    while start + CHUNK_HEADER <= length {
        let (name, size) = chunk(reader, start)?;
        if start == FILE_HEADER && &name != b"VP8X" {
            return Ok(None);
        }
        let end = start + CHUNK_HEADER + u64::from(size);
        if &name == b"EXIF" {
            if end > length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut exif = Vec::new();
            reader.take(size.into()).read_to_end(&mut exif)?;
            return Ok(Some(exif));
        }
        start = end.next_multiple_of(2);
    }
    Ok(None)
}

/// Name and length of the chunk that starts here.
fn chunk(reader: &mut (impl Read + Seek), start: u64) -> io::Result<([u8; 4], u32)> {
    let (mut name, mut length) = ([0; 4], [0; 4]);
    reader.seek(SeekFrom::Start(start))?;
    reader.read_exact(&mut name)?;
    reader.read_exact(&mut length)?;
    Ok((name, u32::from_le_bytes(length)))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// Orientation 6 in TIFF's bytes.
    const TURN: &[u8] = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";

    fn noted(chunks: &[(&[u8; 4], u32, &[u8])]) -> Option<Orientation> {
        let mut file = b"RIFF\0\0\0\0WEBP".to_vec();
        for (name, length, bytes) in chunks {
            file.extend([*name, &length.to_le_bytes(), *bytes].concat());
        }
        orientation(Cursor::new(file)).ok()
    }

    #[test]
    fn the_turn_is_that_of_the_first_exif_chunk() {
        let length = u32::try_from(TURN.len()).unwrap();
        let extended = (b"VP8X", 1, &[0, 0][..]); // an odd length is followed by a byte more
        let transposed = Some(Orientation::Rotate90);
        let upright = Some(Orientation::NoTransforms);
        let exif = (b"EXIF", length, TURN);
        assert_eq!(noted(&[extended, exif]), transposed);
        let prefixed = [b"Exif\0\0", TURN].concat();
        assert_eq!(
            noted(&[extended, (b"EXIF", length + 6, &prefixed)]),
            transposed
        );
        assert_eq!(noted(&[extended, (b"VP8 ", 2, &[0, 0]), exif]), transposed);
        assert_eq!(noted(&[(b"VP8 ", 2, &[0, 0]), exif]), upright);
        assert_eq!(noted(&[extended, (b"what", u32::MAX, &[0, 0])]), upright);
    }

    #[test]
    fn exif_that_is_longer_than_the_file_is_refused() {
        let extended = (b"VP8X", 2, &[0, 0][..]);
        assert_eq!(noted(&[extended, (b"EXIF", u32::MAX, TURN)]), None);
    }
}
