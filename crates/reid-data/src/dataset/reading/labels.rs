//! Reads the labels of images from an XML file.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use quick_xml::{
    Reader, XmlVersion,
    events::{BytesStart, Event},
};
use reid_core::{Camera, Identity};

use super::{
    digits,
    identities::Spellings,
    lines::{self, Location},
};
use crate::Error;

/// Reads each `<Item imageName="000001.jpg" …/>` of a file with `label`, and returns the results by image
/// name.
///
/// `images` are the names of the image files that may be labelled. The encoding that the header declares,
/// GB 2312, is ignored because the labels are ASCII. A byte order mark is respected: it identifies UTF-16.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read. [`Error::Line`] for malformed XML, a name that is not in
/// `images`, a second label of one image, and errors of `label`.
pub(crate) fn read<T>(
    list: &Path,
    images: &HashSet<String>,
    mut label: impl FnMut(&Item<'_>) -> Result<T, Error>,
) -> Result<HashMap<String, T>, Error> {
    let text = lines::text(list)?;
    let mut labels = HashMap::new();
    each_item(list, &text, |item| {
        let image = item.attribute("imageName")?;
        if !images.contains(&image) {
            return Err(item.location.wrong("an image that exists", image));
        }
        if labels.insert(image.clone(), label(item)?).is_some() {
            return Err(item.location.wrong("one label for each image", image));
        }
        Ok(())
    })?;
    Ok(labels)
}

/// One element that labels an image.
pub(crate) struct Item<'a> {
    location: Location<'a>,
    element: BytesStart<'a>,
}

impl Item<'_> {
    /// The vehicle, an integer from 1; 0 is rejected because it would be a distractor.
    pub(crate) fn vehicle(&self, spellings: &mut Spellings) -> Result<Identity, Error> {
        let text = self.attribute("vehicleID")?;
        spellings.check_line(self.location, &text)?;
        let label = digits::number(&text).filter(|label| *label > 0);
        let wrong = || {
            self.location
                .wrong("a vehicle number from 1", text.as_str())
        };
        label.map(Identity::new).ok_or_else(wrong)
    }

    /// The camera.
    pub(crate) fn camera(&self) -> Result<Camera, Error> {
        let text = self.attribute("cameraID")?;
        let wrong = || self.location.wrong("a camera such as c001", text.as_str());
        digits::camera(&text).ok_or_else(wrong)
    }

    fn attribute(&self, name: &str) -> Result<String, Error> {
        let missing = || format!("an attribute `{name}`");
        let attribute = self.element.try_get_attribute(name);
        let attribute =
            attribute.map_err(|error| self.location.wrong(missing(), error.to_string()))?;
        let attribute = attribute.ok_or_else(|| self.location.wrong(missing(), &*self.element))?;
        let value = attribute.normalized_value(XmlVersion::Implicit1_0);
        let value = value.map_err(|error| self.location.wrong(missing(), error.to_string()))?;
        Ok(value.into_owned())
    }
}

/// Calls `visit` for each `Item` element of a document, in which every element must be closed.
fn each_item<'a>(
    list: &'a Path,
    text: &'a str,
    mut visit: impl FnMut(&Item<'a>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut reader = Reader::from_str(text);
    let mut lines = Lines {
        text,
        byte: 0,
        line: 1,
    };
    let mut open = 0_usize;
    loop {
        let line = lines.at(reader.buffer_position());
        let event = reader.read_event().map_err(|error| {
            let line = lines.at(reader.error_position());
            Location { list, line }.wrong("well-formed XML", error.to_string())
        })?;
        let location = Location { list, line };
        let element = match event {
            Event::Start(element) => {
                open += 1;
                element
            }
            Event::Empty(element) => element,
            Event::End(_) => {
                open -= 1;
                continue;
            }
            Event::Eof if open > 0 => {
                return Err(location.wrong("well-formed XML", "an element without an end tag"));
            }
            Event::Eof => return Ok(()),
            _ => continue,
        };
        if element.name().as_ref() == "Item" {
            visit(&Item { location, element })?;
        }
    }
}

/// Computes line numbers from byte offsets, which must be ascending.
struct Lines<'a> {
    text: &'a str,
    byte: usize,
    line: u64,
}

impl Lines<'_> {
    fn at(&mut self, byte: u64) -> u64 {
        let byte = usize::try_from(byte).unwrap_or(usize::MAX);
        let byte = byte.clamp(self.byte, self.text.len());
        let passed = self.text.as_bytes()[self.byte..byte].iter();
        self.line += passed.map(|&byte| u64::from(byte == b'\n')).sum::<u64>();
        self.byte = byte;
        self.line
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const HEAD: &str =
        "<?xml version=\"1.0\" encoding=\"gb2312\"?>\n<TrainingImages>\n<Items number=\"2\">\n";
    const TAIL: &str = "\n</Items>\n</TrainingImages>\n";
    const A: &str = "<Item imageName=\"a.jpg\" vehicleID=\"0007\" cameraID=\"c012\" typeID='1'/>";

    fn labels(text: &[u8]) -> Result<Vec<(String, i64, u32)>, String> {
        let root = tempfile::tempdir().unwrap();
        let list = root.path().join("labels.xml");
        fs::write(&list, text).unwrap();
        let images = ["a.jpg", "b.jpg"].map(str::to_owned).into();
        let mut spellings = Spellings::default();
        let label = |item: &Item<'_>| {
            let vehicle = item.vehicle(&mut spellings)?;
            Ok((vehicle.label(), item.camera()?.number()))
        };
        let labels = read(&list, &images, label).map_err(|error| error.to_string())?;
        let mut labels: Vec<_> = labels
            .into_iter()
            .map(|(name, (vehicle, camera))| (name, vehicle, camera))
            .collect();
        labels.sort();
        Ok(labels)
    }

    #[test]
    fn items_are_read_between_comments_and_other_elements() {
        let b =
            "<Item cameraID='c1' imageName='b.jpg' vehicleID='8'></Item><!-- <Item/> --><Other/>";
        let expected = Ok(vec![("a.jpg".into(), 7, 12), ("b.jpg".into(), 8, 1)]);
        assert_eq!(labels(format!("{HEAD}{A}{b}{TAIL}").as_bytes()), expected);

        // The word for "car" in GB 2312, in a comment.
        let chinese = [
            HEAD.as_bytes(),
            b"<!-- \xb3\xb5 -->",
            A.as_bytes(),
            TAIL.as_bytes(),
        ]
        .concat();
        assert_eq!(labels(&chinese), Ok(vec![("a.jpg".into(), 7, 12)]));
        assert_eq!(labels(b""), Ok(vec![]));
    }

    #[test]
    fn a_byte_order_mark_is_not_part_of_the_labels() {
        let text = format!("\u{feff}{HEAD}{A}{TAIL}");
        let expected = Ok(vec![("a.jpg".into(), 7, 12)]);
        assert_eq!(labels(text.as_bytes()), expected);
        let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(labels(&utf16), expected);
    }

    #[test]
    fn a_truncated_document_is_rejected_with_its_line() {
        let whole = format!("{HEAD}{A}{TAIL}");
        let message = |end: usize| labels(&whole.as_bytes()[..end]).expect_err("truncated");
        let item = HEAD.len() + 20;
        assert!(message(item).contains("labels.xml: line 4: expected well-formed XML, found `"));
        let items = HEAD.len() + A.len() + 1;
        assert!(message(items).contains(": line 5: expected well-formed XML"));
        // Every truncation is rejected without a panic.
        for end in HEAD.len() - 1..whole.trim_end().len() {
            let message = message(end);
            assert!(
                message.contains("expected well-formed XML"),
                "{end}: {message}"
            );
        }
    }

    #[test]
    fn bad_items_are_reported_with_their_line() {
        for (item, expected) in [
            (
                "<Item vehicleID='8' cameraID='c1'/>",
                "expected an attribute `imageName`, found `Item vehicleID='8' cameraID='c1'`",
            ),
            (
                "<Item imageName='b.jpg' cameraID='c1'/>",
                "expected an attribute `vehicleID`, found `Item imageName='b.jpg' cameraID='c1'`",
            ),
            (
                "<Item imageName='b.jpg' vehicleID='8'/>",
                "expected an attribute `cameraID`, found `Item imageName='b.jpg' vehicleID='8'`",
            ),
            (
                "<Item imageName='z.jpg' vehicleID='8' cameraID='c1'/>",
                "expected an image that exists, found `z.jpg`",
            ),
            (A, "expected one label for each image, found `a.jpg`"),
            (
                "<Item imageName='b.jpg' vehicleID='0' cameraID='c1'/>",
                "expected a vehicle number from 1, found `0`",
            ),
            (
                "<Item imageName='b.jpg' vehicleID='-8' cameraID='c1'/>",
                "expected a vehicle number from 1, found `-8`",
            ),
            (
                "<Item imageName='b.jpg' vehicleID='7' cameraID='c1'/>",
                "expected the spelling `0007` of this identity, as in line 4 of labels.xml, \
                 found `7`",
            ),
            (
                "<Item imageName='b.jpg' vehicleID='8' cameraID='1'/>",
                "expected a camera such as c001, found `1`",
            ),
        ] {
            let message = labels(format!("{HEAD}{A}\n{item}{TAIL}").as_bytes()).expect_err(item);
            assert!(message.contains(": line 5: "), "{message}");
            assert!(message.ends_with(expected), "{message}");
        }
        let unquoted = format!("{HEAD}{A}\n<Item imageName=b.jpg/>{TAIL}");
        let message = labels(unquoted.as_bytes()).expect_err("unquoted");
        assert!(
            message.contains(": line 5: expected an attribute `imageName`"),
            "{message}"
        );
        let ended = format!("{HEAD}</Item>{TAIL}");
        let message = labels(ended.as_bytes()).expect_err("an end without a start");
        assert!(
            message.contains(": line 4: expected well-formed XML"),
            "{message}"
        );
    }
}
