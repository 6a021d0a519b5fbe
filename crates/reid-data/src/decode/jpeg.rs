//! JPEG structure: parses the segments of a file without decoding pixels (ISO/IEC 10918-1, Annex B).
//!
//! Bytes between segments that belong to none are skipped, as by libjpeg.

use std::{borrow::Cow, ops::Range};

const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;
const EXIF: u8 = 0xe1;
const ADOBE: u8 = 0xee;
const JFIF: u8 = 0xe0;
const QUANTISATION_TABLES: u8 = 0xdb;

/// The number of coefficients of a block.
const COEFFICIENTS: usize = 64;

/// The reason why the structure of a file cannot be parsed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The bytes end before the image does.
    Truncated,
    /// The bytes violate the format; the text names what was found.
    Damaged(String),
}

/// The coding process of a file, which the marker of its frame header gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Process {
    /// Sequential with Huffman coding (SOF0 and SOF1).
    Sequential,
    /// Progressive with Huffman coding (SOF2).
    Progressive,
    /// Any other process, with its name.
    Other(&'static str),
}

/// A colour channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Component {
    pub(super) id: u8,
    /// Horizontal and vertical sampling factors, 1 to 4.
    pub(super) sampling: (u8, u8),
}

/// The frame header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) process: Process,
    pub(super) precision: u8,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) components: Vec<Component>,
}

/// The information before the first scan.
#[derive(Debug)]
pub(super) struct Header<'bytes> {
    pub(super) frame: Frame,
    pub(super) metadata: Metadata<'bytes>,
}

/// The application segments before the first scan that affect the pixels.
#[derive(Debug, Default)]
pub(super) struct Metadata<'bytes> {
    /// The EXIF data.
    pub(super) exif: Option<&'bytes [u8]>,
    /// Whether there is a JFIF segment.
    pub(super) jfif: bool,
    /// The colour transform in Adobe's segment.
    pub(super) adobe: Option<u8>,
}

impl<'bytes> Metadata<'bytes> {
    fn add(&mut self, marker: u8, payload: &'bytes [u8]) {
        match marker {
            EXIF if self.exif.is_none() => self.exif = payload.strip_prefix(b"Exif\0\0"),
            JFIF => self.jfif |= payload.starts_with(b"JFIF\0"),
            ADOBE if payload.starts_with(b"Adobe") => {
                self.adobe = payload.get(11).copied().or(self.adobe);
            }
            _ => {}
        }
    }
}

/// The structure of a whole file.
#[derive(Debug)]
pub(super) struct Layout<'bytes> {
    pub(super) header: Header<'bytes>,
    pub(super) scans: Vec<Scan>,
    /// Whether there are quantisation tables after the first scan.
    pub(super) late_tables: bool,
    /// The file without application data, comments, and bytes that belong to no segment.
    pub(super) bytes: Cow<'bytes, [u8]>,
}

/// The content of one scan.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// The indices of its components in the frame, ascending.
    pub(super) components: Vec<usize>,
    /// The range of coefficients, within 0 to 63.
    coefficients: Range<usize>,
    /// The number of low bits missing before this scan; `None` if it is the first one of its coefficients.
    before: Option<u8>,
    /// The number of low bits still missing after this scan.
    after: u8,
}

/// One segment: its marker, the bytes after its length, and its range in the file.
struct Segment<'bytes> {
    marker: u8,
    payload: &'bytes [u8],
    range: Range<usize>,
}

impl<'bytes> Header<'bytes> {
    /// Parses the segments up to the frame header, and those up to the first scan if the bytes include them.
    pub(super) fn read(bytes: &'bytes [u8]) -> Result<Self, Fault> {
        let (mut header, pieces) = read_header(bytes)?;
        let mut at = pieces.last().map_or(0, |piece| piece.end);
        while let Ok(segment) = next_segment(bytes, at)
            && !matches!(segment.marker, START_OF_SCAN | END_OF_IMAGE)
        {
            header.metadata.add(segment.marker, segment.payload);
            at = segment.range.end;
        }
        Ok(header)
    }
}

impl<'bytes> Layout<'bytes> {
    /// Parses all segments up to the end-of-image marker.
    pub(super) fn read(bytes: &'bytes [u8]) -> Result<Self, Fault> {
        let (mut header, mut pieces) = read_header(bytes)?;
        let (mut scans, mut late_tables) = (Vec::new(), false);
        let mut at = pieces.last().map_or(0, |piece| piece.end);
        loop {
            let mut segment = next_segment(bytes, at)?;
            match segment.marker {
                END_OF_IMAGE => {
                    pieces.push(segment.range);
                    break;
                }
                START_OF_SCAN => {
                    scans.push(scan(segment.payload, &header.frame)?);
                    segment.range.end = end_of_scan(bytes, segment.range.end)?;
                }
                0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                    return Err(Fault::Damaged("a second frame header".to_owned()));
                }
                QUANTISATION_TABLES => late_tables |= !scans.is_empty(),
                marker if scans.is_empty() => header.metadata.add(marker, segment.payload),
                _ => {}
            }
            at = segment.range.end;
            if !is_metadata(segment.marker) {
                pieces.push(segment.range);
            }
        }
        check_complete(&header.frame, &scans)?;
        let bytes = without_gaps(bytes, &pieces);
        Ok(Self {
            header,
            scans,
            late_tables,
            bytes,
        })
    }
}

/// Parses the header. Also returns the ranges of its segments without metadata; the last is the frame header.
fn read_header(bytes: &[u8]) -> Result<(Header<'_>, Vec<Range<usize>>), Fault> {
    if bytes.len() < 2 {
        return Err(Fault::Truncated);
    }
    let mut pieces: Vec<Range<usize>> = std::iter::once(0..2).collect();
    let mut metadata = Metadata::default();
    let mut at = 2;
    loop {
        let Segment {
            marker,
            payload,
            range,
        } = next_segment(bytes, at)?;
        at = range.end;
        if !is_metadata(marker) {
            pieces.push(range);
        }
        match marker {
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                let frame = frame(marker, payload)?;
                return Ok((Header { frame, metadata }, pieces));
            }
            START_OF_SCAN | END_OF_IMAGE => {
                return Err(Fault::Damaged(
                    "no frame header before the first scan".to_owned(),
                ));
            }
            _ => metadata.add(marker, payload),
        }
    }
}

/// Whether a segment is application data or a comment. They are removed before decoding: from them, the
/// decoders infer colour spaces that differ from libjpeg's, or they panic.
const fn is_metadata(marker: u8) -> bool {
    matches!(marker, 0xe0..=0xef | 0xfe)
}

/// Finds the first segment at or after an offset.
fn next_segment(bytes: &[u8], mut at: usize) -> Result<Segment<'_>, Fault> {
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        match *rest {
            [0xff, 0xff, ..] => at += 1, // padding before a marker
            [0xff, 0x00 | 0x01 | 0xd0..=0xd7, ..] => at += 2, // not a segment: data or a stray restart
            [0xff, START_OF_IMAGE, ..] => {
                return Err(Fault::Damaged("a second start-of-image marker".to_owned()));
            }
            [0xff, END_OF_IMAGE, ..] => {
                return Ok(Segment {
                    marker: END_OF_IMAGE,
                    payload: &[],
                    range: at..at + 2,
                });
            }
            [0xff, marker, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([high, low]));
                let payload = rest.get(4..2 + length);
                return if length < 2 {
                    Err(Fault::Damaged(format!(
                        "a segment {marker:#04x} of length {length}"
                    )))
                } else {
                    Ok(Segment {
                        marker,
                        payload: payload.ok_or(Fault::Truncated)?,
                        range: at..at + 2 + length,
                    })
                };
            }
            [0xff, ..] | [] => return Err(Fault::Truncated),
            _ => at += 1,
        }
    }
}

/// Finds the end of a scan's compressed data: the first marker that is not a restart marker.
fn end_of_scan(bytes: &[u8], mut at: usize) -> Result<usize, Fault> {
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        at += rest
            .iter()
            .position(|&byte| byte == 0xff)
            .ok_or(Fault::Truncated)?;
        match bytes.get(at + 1) {
            None => return Err(Fault::Truncated),
            Some(0x00 | 0xd0..=0xd7) => at += 2,
            Some(0xff) => at += 1,
            Some(_) => return Ok(at),
        }
    }
}

fn frame(marker: u8, payload: &[u8]) -> Result<Frame, Fault> {
    let process = match marker {
        0xc0 | 0xc1 => Process::Sequential,
        0xc2 => Process::Progressive,
        0xc3 => Process::Other("lossless JPEG"),
        0xc9 | 0xca => Process::Other("arithmetic-coded JPEG"),
        0xcb => Process::Other("arithmetic-coded lossless JPEG"),
        _ => Process::Other("hierarchical JPEG"),
    };
    let [precision, h0, h1, w0, w1, count, ref components @ ..] = *payload else {
        return Err(Fault::Damaged(
            "a frame header that is too short".to_owned(),
        ));
    };
    if components.len() != 3 * usize::from(count) {
        let reason = format!(
            "a frame header of {} bytes for {count} components",
            payload.len()
        );
        return Err(Fault::Damaged(reason));
    }
    let component = |bytes: &[u8]| Component {
        id: bytes[0],
        sampling: (bytes[1] >> 4, bytes[1] & 15),
    };
    let components: Vec<Component> = components.chunks_exact(3).map(component).collect();
    for (at, Component { id, sampling }) in components.iter().enumerate() {
        if components[..at].iter().any(|other| other.id == *id) {
            return Err(Fault::Damaged(format!("two components {id}")));
        }
        let (horizontal, vertical) = *sampling;
        if !(1..=4).contains(&horizontal) || !(1..=4).contains(&vertical) {
            let reason = format!("sampling factors {horizontal} x {vertical} of component {id}");
            return Err(Fault::Damaged(reason));
        }
    }
    Ok(Frame {
        process,
        precision,
        width: u32::from(u16::from_be_bytes([w0, w1])),
        height: u32::from(u16::from_be_bytes([h0, h1])),
        components,
    })
}

fn scan(payload: &[u8], frame: &Frame) -> Result<Scan, Fault> {
    let damaged = |what: &str| Fault::Damaged(format!("a scan header {what}"));
    let [count, ref rest @ ..] = *payload else {
        return Err(damaged("without content"));
    };
    let (ids, parameters) = rest
        .split_at_checked(2 * usize::from(count))
        .ok_or_else(|| damaged("that is too short"))?;
    let [first, last, approximation, ..] = *parameters else {
        return Err(damaged("that is too short"));
    };
    let mut components = Vec::new();
    for pair in ids.chunks_exact(2) {
        let known = frame
            .components
            .iter()
            .position(|known| known.id == pair[0]);
        let at = known.ok_or_else(|| damaged(&format!("for component {}", pair[0])))?;
        if components.last().is_some_and(|&before| before >= at) {
            return Err(damaged("whose components are out of order"));
        }
        components.push(at);
    }
    let whole = Scan {
        components,
        coefficients: 0..COEFFICIENTS,
        before: None,
        after: 0,
    };
    if frame.process != Process::Progressive {
        return Ok(whole);
    }
    let (first, end) = (usize::from(first), usize::from(last) + 1);
    if first >= end || end > COEFFICIENTS {
        return Err(damaged(&format!("for coefficients {first} to {last}")));
    }
    let (high, low) = (approximation >> 4, approximation & 15);
    Ok(Scan {
        coefficients: first..end,
        before: (high != 0).then_some(high),
        after: low,
        ..whole
    })
}

/// Rejects an image whose scans do not contain all coefficients of a component, or do not refine them bit by
/// bit. Such a file was truncated or assembled from pieces, even if it has an end-of-image marker.
fn check_complete(frame: &Frame, scans: &[Scan]) -> Result<(), Fault> {
    for (at, Component { id, .. }) in frame.components.iter().enumerate() {
        let mut missing = [None; COEFFICIENTS];
        for scan in scans.iter().filter(|scan| scan.components.contains(&at)) {
            for bits in &mut missing[scan.coefficients.clone()] {
                let follows = scan.before.is_none_or(|before| before == scan.after + 1);
                if *bits != scan.before || !follows {
                    let reason =
                        format!("a scan of component {id} that does not continue the others");
                    return Err(Fault::Damaged(reason));
                }
                *bits = Some(scan.after);
            }
        }
        if missing.iter().any(|&bits| bits != Some(0)) {
            return Err(Fault::Damaged(format!(
                "scans without all coefficients of component {id}"
            )));
        }
    }
    Ok(())
}

/// Concatenates the pieces. The bytes are borrowed if there are no gaps between the pieces.
fn without_gaps<'bytes>(bytes: &'bytes [u8], pieces: &[Range<usize>]) -> Cow<'bytes, [u8]> {
    let end = pieces.last().map_or(0, |last| last.end);
    if pieces.windows(2).all(|pair| pair[0].end == pair[1].start) {
        return Cow::Borrowed(&bytes[..end]);
    }
    let pieces = pieces.iter().map(|piece| &bytes[piece.clone()]);
    Cow::Owned(pieces.flatten().copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read_anywhere_before_the_first_scan() {
        let frame = [0xff, 0xc0, 0, 11, 8, 0, 1, 0, 1, 1, 0, 0x11, 0];
        let adobe = b"\xff\xee\0\x0eAdobe\0\0\0\0\0\0\x01";
        let scan = [0xff, 0xda, 0, 8, 1, 0, 0, 0, 63, 0];
        let start = [0xff, 0xd8];
        let end = [0xff, 0xd9];
        for (segments, expected) in [
            ([&start[..], adobe, &frame, &scan, &end], Some(1)),
            ([&start, &frame, adobe, &scan, &end], Some(1)),
            ([&start, &frame, &scan, adobe, &end], None),
        ] {
            let bytes = segments.concat();
            assert_eq!(Header::read(&bytes).unwrap().metadata.adobe, expected);
            let layout = Layout::read(&bytes).unwrap();
            assert_eq!(layout.header.metadata.adobe, expected);
            assert_eq!(*layout.bytes, *[&start[..], &frame, &scan, &end].concat());
        }
    }
}
