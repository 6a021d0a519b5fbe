//! Tracks: files with a track per line, the names of its images separated by spaces.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use reid_core::Track;

use super::lines;
use crate::Error;

/// The track of each image that a track file names: the number of its line, counted from 1.
///
/// `images` are the names of the files that tracks are about, `image` makes such a name from a field.
/// A first field that is no such name is the track's own, and passed over.
pub(crate) fn read(
    list: &Path,
    images: &HashSet<String>,
    image: impl Fn(&str) -> Option<String>,
) -> Result<HashMap<String, Track>, Error> {
    let text = lines::text(list)?;
    let mut tracks = HashMap::new();
    for (place, line) in lines::of(list, &text) {
        let track = Track::new(place.line);
        let mut fields = line.split_whitespace().peekable();
        fields.next_if(|field| image(field).is_none());
        if fields.peek().is_none() {
            return Err(place.wrong("the names of a track's images", line));
        }
        for field in fields {
            let name = image(field).filter(|name| images.contains(name));
            let name = name.ok_or_else(|| place.wrong("an image that is there", field))?;
            // The same line may name an image twice: a track may be called by its first image.
            if let Some(other) = tracks.insert(name, track).filter(|other| *other != track) {
                let expected = format!(
                    "an image of one track only, not of line {} too",
                    other.number()
                );
                return Err(place.wrong(expected, field));
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
    fn a_track_is_the_number_of_its_line() {
        let expected = [("a.jpg", 1), ("b.jpg", 1), ("c.jpg", 3)];
        let expected = Ok(expected
            .map(|(name, track)| (name.to_owned(), track))
            .into());
        assert_eq!(tracks("a.jpg b.jpg \r\n\r\nc.jpg\r\n"), expected);
        assert_eq!(tracks("first a.jpg b.jpg a.jpg\n\nthird c.jpg"), expected);
    }

    #[test]
    fn bad_fields_are_named_with_their_line() {
        for (text, expected) in [
            (
                "a.jpg\nd.jpg",
                ": line 2: expected an image that is there, found `d.jpg`",
            ),
            (
                "a.jpg x",
                ": line 1: expected an image that is there, found `x`",
            ),
            (
                "a.jpg\nb.jpg a.jpg",
                ": line 2: expected an image of one track only, not of line 1 too, found `a.jpg`",
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
