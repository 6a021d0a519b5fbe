//! Canvas: the shapes with which everything is painted, in units of a person's height.

use image::RgbImage;
use tiny_skia::{
    Color, FillRule, LineCap, LineJoin, Mask, Paint, Path, PathBuilder, Pixmap, Rect, Shader,
    Stroke, Transform,
};

use super::colour::Colour;

/// A point: x to the right, y down. A person extends from y = 0 (crown) to y = 1 (soles).
pub(super) type Point = [f32; 2];

/// A bitmap and the transform from units to its pixels.
pub(super) struct Canvas {
    pixels: Pixmap,
    view: Transform,
    clip: Option<Mask>,
}

impl Canvas {
    /// A canvas of `width` x `height` pixels. One unit is `unit` pixels long. The point `origin` (in units)
    /// is at the middle of the upper edge.
    ///
    /// # Panics
    /// If the width or the height is 0.
    pub(super) fn new([width, height]: [u32; 2], unit: f32, origin: Point) -> Self {
        let pixels = Pixmap::new(width, height)
            .unwrap_or_else(|| panic!("an image of {height}x{width} has no pixels"));
        let view = Transform::from_translate(width as f32 / 2.0, 0.0)
            .pre_scale(unit, unit)
            .pre_translate(-origin[0], -origin[1]);
        Self {
            pixels,
            view,
            clip: None,
        }
    }

    /// Paints with the coordinate system moved by `offset` (in units) and scaled by `scale`.
    pub(super) fn moved(&mut self, offset: Point, scale: f32, paint: impl FnOnce(&mut Self)) {
        let before = self.view;
        self.view = before
            .pre_translate(offset[0], offset[1])
            .pre_scale(scale, scale);
        paint(self);
        self.view = before;
    }

    /// Paints only inside the smooth outline through `corners`.
    pub(super) fn inside(&mut self, corners: &[Point], paint: impl FnOnce(&mut Self)) {
        let (width, height) = (self.pixels.width(), self.pixels.height());
        let (Some(path), Some(mut mask)) = (smooth(corners), Mask::new(width, height)) else {
            return;
        };
        mask.fill_path(&path, FillRule::Winding, true, self.view);
        let before = self.clip.replace(mask);
        paint(self);
        self.clip = before;
    }

    /// Fills the axis-aligned rectangle from its upper left to its lower right corner.
    pub(super) fn rectangle(&mut self, from: Point, to: Point, colour: Colour) {
        if let Some(rect) = Rect::from_ltrb(from[0], from[1], to[0], to[1]) {
            self.fill(&PathBuilder::from_rect(rect), colour);
        }
    }

    /// Fills an axis-aligned ellipse.
    pub(super) fn ellipse(&mut self, centre: Point, radii: Point, colour: Colour) {
        let [x, y] = centre;
        let [across, down] = radii;
        let bounds = Rect::from_ltrb(x - across, y - down, x + across, y + down);
        if let Some(path) = bounds.and_then(PathBuilder::from_oval) {
            self.fill(&path, colour);
        }
    }

    /// Fills a polygon with sharp corners.
    pub(super) fn polygon(&mut self, corners: &[Point], colour: Colour) {
        if let Some(path) = straight(corners, true) {
            self.fill(&path, colour);
        }
    }

    /// Fills a smooth shape inside the polygon of these corners.
    pub(super) fn blob(&mut self, corners: &[Point], colour: Colour) {
        if let Some(path) = smooth(corners) {
            self.fill(&path, colour);
        }
    }

    /// Draws a line with round ends and joints, such as a limb or a pole.
    pub(super) fn line(&mut self, points: &[Point], width: f32, colour: Colour) {
        let stroke = Stroke {
            width,
            line_cap: LineCap::Round,
            line_join: LineJoin::Round,
            ..Stroke::default()
        };
        if let Some(path) = straight(points, false) {
            let clip = self.clip.as_ref();
            self.pixels
                .stroke_path(&path, &ink(colour), &stroke, self.view, clip);
        }
    }

    /// The finished image. Unpainted pixels are black.
    pub(super) fn into_image(self) -> RgbImage {
        let (width, height) = (self.pixels.width(), self.pixels.height());
        let pixels = self.pixels.pixels();
        RgbImage::from_fn(width, height, |x, y| {
            let pixel = pixels[(y * width + x) as usize];
            image::Rgb([pixel.red(), pixel.green(), pixel.blue()])
        })
    }

    fn fill(&mut self, path: &Path, colour: Colour) {
        let clip = self.clip.as_ref();
        self.pixels
            .fill_path(path, &ink(colour), FillRule::Winding, self.view, clip);
    }
}

fn ink(colour: Colour) -> Paint<'static> {
    let [red, green, blue, alpha] = colour.channels();
    let colour = Color::from_rgba(red, green, blue, alpha).unwrap_or(Color::BLACK);
    Paint {
        shader: Shader::SolidColor(colour),
        ..Paint::default()
    }
}

/// The path of straight lines through the points; `None` if there is nothing to draw.
fn straight(points: &[Point], closed: bool) -> Option<Path> {
    let (&[x, y], rest) = points.split_first()?;
    let mut path = PathBuilder::new();
    path.move_to(x, y);
    for &[x, y] in rest {
        path.line_to(x, y);
    }
    if closed {
        path.close();
    }
    path.finish()
}

/// A closed curve of quadratic Béziers: it goes through the middle of every side, with the corners as
/// control points.
fn smooth(corners: &[Point]) -> Option<Path> {
    let middle = |a: Point, b: Point| [f32::midpoint(a[0], b[0]), f32::midpoint(a[1], b[1])];
    let mut path = PathBuilder::new();
    let [x, y] = middle(*corners.last()?, corners[0]);
    path.move_to(x, y);
    for (index, &corner) in corners.iter().enumerate() {
        let next = corners[(index + 1) % corners.len()];
        let [x, y] = middle(corner, next);
        path.quad_to(corner[0], corner[1], x, y);
    }
    path.close();
    path.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RED: image::Rgb<u8> = image::Rgb([255, 0, 0]);
    const BLACK: image::Rgb<u8> = image::Rgb([0, 0, 0]);

    /// A canvas of 10 x 10 pixels that covers one unit: x from -0.5 to 0.5, y from 0 to 1.
    fn painted(paint: impl FnOnce(&mut Canvas, Colour)) -> RgbImage {
        let mut canvas = Canvas::new([10, 10], 10.0, [0.0, 0.0]);
        paint(&mut canvas, Colour::hex(0xff_0000));
        canvas.into_image()
    }

    #[test]
    fn units_become_pixels() {
        // x from -0.1 to 0.3 is from pixel 4 to 8, y from 0.2 to 0.5 from pixel 2 to 5.
        let image = painted(|canvas, red| canvas.rectangle([-0.1, 0.2], [0.3, 0.5], red));
        for (x, y, &pixel) in image.enumerate_pixels() {
            let inside = (4..8).contains(&x) && (2..5).contains(&y);
            assert_eq!(pixel, if inside { RED } else { BLACK }, "{x} {y}");
        }
    }

    #[test]
    fn moving_the_coordinate_system_is_undone_afterwards() {
        let image = painted(|canvas, red| {
            canvas.moved([0.2, 0.0], 0.5, |canvas| {
                canvas.rectangle([0.0, 0.0], [0.2, 0.2], red);
            });
            canvas.rectangle([-0.5, 0.9], [-0.4, 1.0], red);
        });
        // The first rectangle: moved by 2 pixels from the middle, half as large: pixel (7, 0). The second:
        // pixel (0, 9).
        let red = image
            .enumerate_pixels()
            .filter(|&(_, _, &pixel)| pixel == RED);
        let pixels: Vec<_> = red.map(|(x, y, _)| (x, y)).collect();
        assert_eq!(pixels, [(7, 0), (0, 9)]);
    }

    #[test]
    fn nothing_is_painted_outside_an_outline() {
        let square = [[-0.3, 0.2], [0.3, 0.2], [0.3, 0.8], [-0.3, 0.8]];
        let image = painted(|canvas, red| {
            canvas.inside(&square, |canvas| {
                canvas.rectangle([-1.0, -1.0], [1.0, 1.0], red);
            });
        });
        assert_eq!(*image.get_pixel(5, 5), RED);
        assert_eq!(*image.get_pixel(1, 5), BLACK);
    }
}
