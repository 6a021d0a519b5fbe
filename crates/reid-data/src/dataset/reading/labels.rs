//! Labels: what an XML file says of each image.

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
    lines::{self, Place},
};
use crate::Error;

/// What is read from each `<Item imageName="000001.jpg" …/>` of a file, by the name of the image.
///
/// `images` are the names of the files that labels are about. The header declares GB 2312; it does
/// not matter, because labels are ASCII. A byte order mark does: it tells UTF-16.
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
            return Err(item.place.wrong("an image that is there", image));
        }
        if labels.insert(image.clone(), label(item)?).is_some() {
            return Err(item.place.wrong("one label for each image", image));
        }
        Ok(())
    })?;
    Ok(labels)
}

/// One element that labels an image.
pub(crate) struct Item<'a> {
    place: Place<'a>,
    element: BytesStart<'a>,
}

impl Item<'_> {
    /// The vehicle, a number from 1: 0 would be a distractor.
    pub(crate) fn vehicle(&self, spellings: &mut Spellings) -> Result<Identity, Error> {
        let text = self.attribute("vehicleID")?;
        spellings.check_line(self.place, &text)?;
        let label = digits::number(&text).filter(|label| *label > 0);
        let wrong = || {
            self.place
                .wrong("a vehicle as a number from 1", text.as_str())
        };
        label.map(Identity::new).ok_or_else(wrong)
    }

    /// The camera.
    pub(crate) fn camera(&self) -> Result<Camera, Error> {
        let text = self.attribute("cameraID")?;
        let wrong = || self.place.wrong("a camera such as c001", text.as_str());
        digits::camera(&text).ok_or_else(wrong)
    }

    fn attribute(&self, name: &str) -> Result<String, Error> {
        let missing = || format!("an attribute `{name}`");
        let attribute = self.element.try_get_attribute(name);
        let attribute =
            attribute.map_err(|error| self.place.wrong(missing(), error.to_string()))?;
        let attribute = attribute.ok_or_else(|| self.place.wrong(missing(), &*self.element))?;
        let value = attribute.normalized_value(XmlVersion::Implicit1_0);
        let value = value.map_err(|error| self.place.wrong(missing(), error.to_string()))?;
        Ok(value.into_owned())
    }
}

/// Visits the elements `Item` of a document, which must not end before its elements do.
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
            Place { list, line }.wrong("XML that is whole", error.to_string())
        })?;
        let place = Place { list, line };
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
                return Err(place.wrong("XML that is whole", "an element without an end"));
            }
            Event::Eof => return Ok(()),
            _ => continue,
        };
        if element.name().as_ref() == "Item" {
            visit(&Item { place, element })?;
        }
    }
}

/// The lines of bytes, asked for in ascending order.
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
            .map(|(name, of)| (name, of.0, of.1))
            .collect();
        labels.sort();
        Ok(labels)
    }

    #[test]
    fn items_are_read_whatever_stands_around_them() {
        let b =
            "<Item cameraID='c1' imageName='b.jpg' vehicleID='8'></Item><!-- <Item/> --><Other/>";
        let expected = Ok(vec![("a.jpg".into(), 7, 12), ("b.jpg".into(), 8, 1)]);
        assert_eq!(labels(format!("{HEAD}{A}{b}{TAIL}").as_bytes()), expected);

        // GB 2312 for "car", in a comment.
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
    fn a_byte_order_mark_is_no_part_of_the_labels() {
        let text = format!("\u{feff}{HEAD}{A}{TAIL}");
        let expected = Ok(vec![("a.jpg".into(), 7, 12)]);
        assert_eq!(labels(text.as_bytes()), expected);
        let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(labels(&utf16), expected);
    }

    #[test]
    fn what_is_cut_off_is_named_with_its_line() {
        let whole = format!("{HEAD}{A}{TAIL}");
        let message = |end: usize| labels(&whole.as_bytes()[..end]).expect_err("cut off");
        let item = HEAD.len() + 20;
        assert!(message(item).contains("labels.xml: line 4: expected XML that is whole, found `"));
        let items = HEAD.len() + A.len() + 1;
        assert!(message(items).contains(": line 5: expected XML that is whole"));
        // Wherever it is cut, it is refused and nothing panics.
        for end in HEAD.len() - 1..whole.trim_end().len() {
            let message = message(end);
            assert!(
                message.contains("expected XML that is whole"),
                "{end}: {message}"
            );
        }
    }

    #[test]
    fn bad_items_are_named_with_their_line() {
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
                "expected an image that is there, found `z.jpg`",
            ),
            (A, "expected one label for each image, found `a.jpg`"),
            (
                "<Item imageName='b.jpg' vehicleID='0' cameraID='c1'/>",
                "expected a vehicle as a number from 1, found `0`",
            ),
            (
                "<Item imageName='b.jpg' vehicleID='-8' cameraID='c1'/>",
                "expected a vehicle as a number from 1, found `-8`",
            ),
            (
                "<Item imageName='b.jpg' vehicleID='7' cameraID='c1'/>",
                "expected one way of writing each identity, such as `0007` in line 4 of labels.xml, \
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
            message.contains(": line 4: expected XML that is whole"),
            "{message}"
        );
    }
}
