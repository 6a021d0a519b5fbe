//! SVG: lines, shapes and text as elements of a document.

use std::fmt::{self, Write};

/// A point in pixels: (x to the right, y down).
pub(crate) type Pixel = (i32, i32);

/// A colour (red, green, blue). It prints in hexadecimal, such as `#1e1e1e`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Colour(pub(crate) u8, pub(crate) u8, pub(crate) u8);

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }
}

/// Which part of a text is at its point.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// The font, the alignment and the direction of a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TextStyle {
    /// Height of the font, in pixels.
    pub(crate) size: u16,
    pub(crate) bold: bool,
    pub(crate) anchor: Anchor,
    /// Distance of the baseline below the point, in font heights: 0 puts the text above the point, 0.35
    /// around it, 0.76 below it.
    pub(crate) drop: f32,
    /// Whether the text reads upwards (rotated by 90 degrees counter-clockwise).
    pub(crate) upwards: bool,
}

/// The elements drawn so far.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    elements: String,
}

impl Sheet {
    /// Draws a line through these points.
    pub(crate) fn line(&mut self, points: &[Pixel], width: u32, colour: Colour) {
        let points = list(points);
        self.add(format_args!(
            r#"<polyline fill="none" stroke="{colour}" stroke-width="{width}" points="{points}"/>"#
        ));
    }

    /// Draws a filled polygon with these corners.
    pub(crate) fn polygon(&mut self, corners: &[Pixel], colour: Colour) {
        let points = list(corners);
        self.add(format_args!(
            r#"<polygon fill="{colour}" points="{points}"/>"#
        ));
    }

    /// Draws a filled circle.
    pub(crate) fn circle(&mut self, (x, y): Pixel, radius: i32, colour: Colour) {
        self.add(format_args!(
            r#"<circle cx="{x}" cy="{y}" r="{radius}" fill="{colour}"/>"#
        ));
    }

    /// Draws a line of text. XML does not allow control characters, so they become spaces.
    pub(crate) fn text(&mut self, text: &str, (x, y): Pixel, style: TextStyle, colour: Colour) {
        let text = escaped(&text.replace(char::is_control, " "));
        let TextStyle { size, drop, .. } = style;
        let anchor = match style.anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let weight = if style.bold {
            " font-weight=\"bold\""
        } else {
            ""
        };
        let rotation = if style.upwards {
            format!(" transform=\"rotate(270, {x}, {y})\"")
        } else {
            String::new()
        };
        self.add(format_args!(
            r#"<text x="{x}" y="{y}" dy="{drop}em" text-anchor="{anchor}" font-family="sans-serif" font-size="{size}"{weight} fill="{colour}"{rotation}>{text}</text>"#
        ));
    }

    /// Adds the elements of another sheet, moved down by `down` pixels.
    pub(crate) fn below(&mut self, down: i32, sheet: &Self) {
        let elements = &sheet.elements;
        self.add(format_args!(
            "<g transform=\"translate(0, {down})\">\n{elements}</g>"
        ));
    }

    /// The document with a white background, of this size in pixels.
    pub(crate) fn into_document(self, width: i32, height: i32) -> String {
        let elements = self.elements;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\">\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n{elements}</svg>\n"
        )
    }

    fn add(&mut self, element: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.elements, "{element}");
    }
}

fn list(points: &[Pixel]) -> String {
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{x},{y}")).collect();
    points.join(" ")
}

/// Escapes the characters that are special in XML and HTML, as numeric references.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' | '<' | '>' | '"' | '\'' => {
                // Writing to a string cannot fail.
                let _ = write!(escaped, "&#{};", u32::from(letter));
            }
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_written_in_drawing_order() {
        let ink = Colour(30, 0, 255);
        let mut inner = Sheet::default();
        inner.circle((1, 2), 3, ink);
        let style = TextStyle {
            size: 10,
            bold: true,
            anchor: Anchor::End,
            drop: 0.35,
            upwards: true,
        };
        inner.text("a<b\n", (4, 5), style, ink);
        let mut sheet = Sheet::default();
        sheet.line(&[(0, 1), (2, -3)], 2, ink);
        sheet.below(70, &inner);
        sheet.polygon(&[(0, 0), (1, 0), (0, 1)], ink);
        let expected = concat!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"80\" height=\"90\" viewBox=\"0 0 80 90\">\n",
            "<rect width=\"80\" height=\"90\" fill=\"#ffffff\"/>\n",
            "<polyline fill=\"none\" stroke=\"#1e00ff\" stroke-width=\"2\" points=\"0,1 2,-3\"/>\n",
            "<g transform=\"translate(0, 70)\">\n",
            "<circle cx=\"1\" cy=\"2\" r=\"3\" fill=\"#1e00ff\"/>\n",
            "<text x=\"4\" y=\"5\" dy=\"0.35em\" text-anchor=\"end\" font-family=\"sans-serif\" ",
            "font-size=\"10\" font-weight=\"bold\" fill=\"#1e00ff\" transform=\"rotate(270, 4, 5)\">",
            "a&#60;b </text>\n",
            "</g>\n",
            "<polygon fill=\"#1e00ff\" points=\"0,0 1,0 0,1\"/>\n</svg>\n"
        );
        assert_eq!(sheet.into_document(80, 90), expected);
    }
}
