//! The EXIF orientation of a WebP file. It is not read by the `image` crate's decoder, which allocates all
//! the memory that a chunk declares, even if the file is shorter.

use std::io::{self, Read, Seek, SeekFrom};

use image::{ImageError, ImageFormat, metadata::Orientation};

use super::refusal::Refusal;

/// The length of the file header: `RIFF`, the size of the file, and `WEBP`.
const FILE_HEADER: u64 = 12;
/// The length of a chunk's header: its name and its size.
const CHUNK_HEADER: u64 = 8;

/// Reads the orientation from the first EXIF chunk, which only a file in the extended format (`VP8X`) has.
pub(super) fn orientation(mut reader: impl Read + Seek) -> Result<Orientation, Refusal> {
    let exif = exif(&mut reader).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            let reason = "the file ends before the image does";
            Refusal::damaged(ImageFormat::WebP, reason)
        }
        _ => ImageError::from(error).into(),
    })?;
    let found = exif.and_then(|exif| {
        let tags = exif.strip_prefix(b"Exif\0\0").unwrap_or(&exif);
        Orientation::from_exif_chunk(tags)
    });
    Ok(found.unwrap_or(Orientation::NoTransforms))
}

/// Reads the content of the first EXIF chunk.
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

/// Reads the name and length of the chunk that starts at this offset.
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

    /// EXIF with orientation 6: rotate by 90° clockwise.
    const ROTATED: &[u8] = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";

    fn read(chunks: &[(&[u8; 4], u32, &[u8])]) -> Option<Orientation> {
        let mut file = b"RIFF\0\0\0\0WEBP".to_vec();
        for (name, length, bytes) in chunks {
            file.extend([*name, &length.to_le_bytes(), *bytes].concat());
        }
        orientation(Cursor::new(file)).ok()
    }

    #[test]
    fn the_orientation_is_that_of_the_first_exif_chunk() {
        let length = u32::try_from(ROTATED.len()).unwrap();
        let extended = (b"VP8X", 1, &[0, 0][..]); // an odd length is followed by a padding byte
        let rotated = Some(Orientation::Rotate90);
        let upright = Some(Orientation::NoTransforms);
        let exif = (b"EXIF", length, ROTATED);
        assert_eq!(read(&[extended, exif]), rotated);
        let prefixed = [b"Exif\0\0", ROTATED].concat();
        assert_eq!(read(&[extended, (b"EXIF", length + 6, &prefixed)]), rotated);
        assert_eq!(read(&[extended, (b"VP8 ", 2, &[0, 0]), exif]), rotated);
        assert_eq!(read(&[(b"VP8 ", 2, &[0, 0]), exif]), upright);
        assert_eq!(read(&[extended, (b"what", u32::MAX, &[0, 0])]), upright);
    }

    #[test]
    fn an_exif_chunk_longer_than_the_file_is_rejected() {
        let extended = (b"VP8X", 2, &[0, 0][..]);
        assert_eq!(read(&[extended, (b"EXIF", u32::MAX, ROTATED)]), None);
    }
}
