//! Page: text, tables, charts and images in one self-contained HTML file.

use std::{io::Cursor, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use image::{ImageFormat, RgbImage};

use crate::{Error, LineChart, picture::write_whole, svg::escaped};

/// The style sheet of every page. The frames of ranked images are those of
/// [`RankedFigure`](crate::RankedFigure).
const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;\
padding:0 1rem;color:#1e1e1e}h1,h2,h3{line-height:1.2}table{border-collapse:collapse;margin:1rem 0}\
td,th{border-bottom:1px solid #ddd;padding:.2rem .8rem;text-align:right}\
td:first-child,th:first-child{text-align:left}svg,img{max-width:100%;height:auto}\
.wide{overflow-x:auto}.ranked{display:flex;gap:.5rem;margin:.5rem 0 2rem}.ranked figure{margin:0}\
.ranked img{display:block;height:10rem;max-width:none}\
.ranked img,.legend span{border:3px solid #a5a5a5}.legend span{padding:0 .4rem}\
.ranked .query{margin-right:1rem}.query img{border-color:#1e1e1e}\
.accepted img,.right img,.legend .accepted{border-color:#009669}\
.rejected img,.wrong img,.legend .rejected{border:3px dashed #d6301e}\
.ranked .ignored img{border-style:dotted;filter:saturate(0) opacity(.45)}";

/// A self-contained HTML page. It embeds charts as SVG, images as PNG and rows of ranked images as JPEG.
/// It loads no other file.
///
/// ```
/// use reid_vis::{LineChart, Page, RgbImage, Series};
///
/// let chart = LineChart::new("ROC").with_series(Series::new("ours", [(0.0, 0.0), (1.0, 1.0)]));
/// let page = Page::new("Results")
///     .with_heading("Scores")
///     .with_table(&["metric", "value"], [["mAP".to_owned(), "71.3 %".to_owned()]])
///     .with_chart(&chart)
///     .with_picture("the hardest query", &RgbImage::new(8, 16))?;
/// assert!(page.to_html().contains("<td>71.3 %</td>"));
/// # Ok::<(), reid_vis::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    title: String,
    body: String,
}

impl Page {
    /// An empty page with this title.
    #[must_use]
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            body: String::new(),
        }
    }

    /// Adds a heading.
    #[must_use]
    pub fn with_heading(self, text: &str) -> Self {
        self.with(&format!("<h2>{}</h2>", escaped(text)))
    }

    /// Adds a paragraph.
    #[must_use]
    pub fn with_text(self, text: &str) -> Self {
        self.with(&format!("<p>{}</p>", escaped(text)))
    }

    /// Adds a table: the column headers, then the cells of each row.
    #[must_use]
    pub fn with_table<Row: AsRef<[String]>>(
        self,
        columns: &[&str],
        rows: impl IntoIterator<Item = Row>,
    ) -> Self {
        let row = |kind: &str, cells: &mut dyn Iterator<Item = &str>| {
            let cells: Vec<String> = cells
                .map(|cell| format!("<{kind}>{}</{kind}>", escaped(cell)))
                .collect();
            format!("<tr>{}</tr>\n", cells.concat())
        };
        let mut table = row("th", &mut columns.iter().copied());
        for cells in rows {
            let mut cells = cells.as_ref().iter().map(String::as_str);
            table.push_str(&row("td", &mut cells));
        }
        self.with(&format!(
            "<div class=\"wide\"><table>\n{table}</table></div>"
        ))
    }

    /// Adds a chart.
    #[must_use]
    pub fn with_chart(self, chart: &LineChart) -> Self {
        self.with(&chart.to_svg())
    }

    /// Adds an image. Its description is the caption and the alternative text.
    ///
    /// # Errors
    /// If the image cannot be encoded, for example because it has no pixels ([`Error::Encode`]).
    pub fn with_picture(self, description: &str, picture: &RgbImage) -> Result<Self, Error> {
        let image = embedded(description, picture, ImageFormat::Png)?;
        let description = escaped(description);
        Ok(self.with(&format!(
            "<figure>{image}<figcaption>{description}</figcaption></figure>"
        )))
    }

    /// The page as an HTML document.
    #[must_use]
    pub fn to_html(&self) -> String {
        let (title, body) = (escaped(&self.title), &self.body);
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
             <style>{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n{body}</body>\n</html>\n"
        )
    }

    /// Writes the page. Missing folders are created. The file is written atomically.
    ///
    /// # Errors
    /// If the file cannot be written ([`Error::Write`]).
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        write_whole(path.as_ref(), self.to_html().as_bytes())
    }

    /// Adds HTML, in which text has to be escaped.
    pub(crate) fn with(mut self, html: &str) -> Self {
        self.body.push_str(html);
        self.body.push('\n');
        self
    }
}

/// An `img` element that contains the image, encoded in this format. The description is the alternative text.
pub(crate) fn embedded(
    description: &str,
    picture: &RgbImage,
    format: ImageFormat,
) -> Result<String, Error> {
    let mut bytes = Cursor::new(Vec::new());
    let encoded = picture.write_to(&mut bytes, format);
    encoded.map_err(|source| Error::Encode {
        path: description.into(),
        height: picture.height(),
        width: picture.width(),
        source,
    })?;
    let (description, kind) = (escaped(description), format.to_mime_type());
    let data = STANDARD.encode(bytes.get_ref());
    Ok(format!(
        "<img alt=\"{description}\" src=\"data:{kind};base64,{data}\">"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Series;

    fn page() -> Page {
        let chart = LineChart::new("<curve>").with_series(Series::new("a", [(0.0, 1.0)]));
        let page = Page::new("a < b & \"c\"")
            .with_heading("<script>")
            .with_text("x > y")
            .with_table(&["name"], [["<b>".to_owned()]]);
        let page = page.with_chart(&chart);
        page.with_picture("it's", &RgbImage::new(3, 2))
            .expect("pixels")
    }

    #[test]
    fn text_is_escaped() {
        let html = page().to_html();
        assert!(
            !html.contains("<script>") && !html.contains("<b>"),
            "{html}"
        );
        assert!(
            html.contains("<title>a &#60; b &#38; &#34;c&#34;</title>"),
            "{html}"
        );
        assert!(html.contains("alt=\"it&#39;s\""), "{html}");
    }

    #[test]
    fn a_page_loads_no_other_file() {
        let html = page().to_html();
        for address in html.split("src=\"").skip(1) {
            assert!(
                address.starts_with("data:image/png;base64,iVBOR"),
                "{address}"
            );
        }
        assert!(!html.contains("href="), "{html}");
        assert_eq!(html.matches("<svg").count(), 1);
    }

    #[test]
    fn a_saved_page_is_complete() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/index.html");
        page().save(&path).expect("written");
        assert_eq!(
            std::fs::read_to_string(path).expect("text"),
            page().to_html()
        );
    }

    #[test]
    fn an_image_without_pixels_is_rejected() {
        let page = Page::new("").with_picture("none", &RgbImage::new(0, 0));
        assert!(matches!(page, Err(Error::Encode { .. })));
    }
}
