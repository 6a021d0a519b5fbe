//! Reads track files: each line is a track, with the names of its images separated by spaces.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use reid_core::Track;

use super::lines;
use crate::Error;

/// Reads a track file and returns the track of each image that it names: the line number, from 1.
///
/// `images` are the names of the existing images, and `image` parses a field to such a name. If `image`
/// rejects the first field of a line, this field is taken as the name of the track and ignored.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read. [`Error::Line`] for a line without images, an image that does
/// not exist, and an image in two tracks.
pub(crate) fn read(
    list: &Path,
    images: &HashSet<String>,
    image: impl Fn(&str) -> Option<String>,
) -> Result<HashMap<String, Track>, Error> {
    let text = lines::text(list)?;
    let mut tracks = HashMap::new();
    for (location, line) in lines::non_empty(list, &text) {
        let track = Track::new(location.line);
        let mut fields = line.split_whitespace().peekable();
        fields.next_if(|field| image(field).is_none());
        if fields.peek().is_none() {
            return Err(location.wrong("the names of a track's images", line));
        }
        for field in fields {
            let name = image(field).filter(|name| images.contains(name));
            let name = name.ok_or_else(|| location.wrong("an image that exists", field))?;
            // A line may name an image twice, because a track may be named after its first image.
            if let Some(other) = tracks.insert(name, track).filter(|other| *other != track) {
                let expected = format!(
                    "an image that is not already in the track of line {}",
                    other.number()
                );
                return Err(location.wrong(expected, field));
            }
        }
    }
    Ok(tracks)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tracks(text: &str) -> Result<Vec<(String, u64)>, String> {
        let root = tempfile::tempdir().unwrap();
        let list = root.path().join("tracks.txt");
        fs::write(&list, text).unwrap();
        let images = ["a.jpg", "b.jpg", "c.jpg"].map(str::to_owned).into();
        let image = |field: &str| field.contains('.').then(|| field.to_owned());
        let tracks = read(&list, &images, image).map_err(|error| error.to_string())?;
        let mut tracks: Vec<_> = tracks
            .into_iter()
            .map(|(name, track)| (name, track.number()))
            .collect();
        tracks.sort();
        Ok(tracks)
    }

    #[test]
    fn a_track_is_its_line_number() {
        let expected = [("a.jpg", 1), ("b.jpg", 1), ("c.jpg", 3)];
        let expected = Ok(expected
            .map(|(name, track)| (name.to_owned(), track))
            .into());
        assert_eq!(tracks("a.jpg b.jpg \r\n\r\nc.jpg\r\n"), expected);
        assert_eq!(tracks("first a.jpg b.jpg a.jpg\n\nthird c.jpg"), expected);
    }

    #[test]
    fn bad_fields_are_reported_with_their_line() {
        for (text, expected) in [
            (
                "a.jpg\nd.jpg",
                ": line 2: expected an image that exists, found `d.jpg`",
            ),
            (
                "a.jpg x",
                ": line 1: expected an image that exists, found `x`",
            ),
            (
                "a.jpg\nb.jpg a.jpg",
                ": line 2: expected an image that is not already in the track of line 1, found `a.jpg`",
            ),
            (
                "a.jpg\nx",
                ": line 2: expected the names of a track's images, found `x`",
            ),
        ] {
            let message = tracks(text).expect_err(text);
            assert!(message.ends_with(expected), "{message}");
        }
    }
}
