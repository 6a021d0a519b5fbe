//! Drawing a frame of a video in which several people walk.

use image::RgbImage;
use reid_core::{Camera, Identity};

use super::{SyntheticConfig, picture};
use crate::{
    canvas::Canvas,
    colour::Colour,
    figure::{Figure, Pose},
    outfit::Outfit,
    scene::Scene,
};

/// The width of a painted scene, in heights of its people.
const SCENE: f32 = 3.0;

/// The height of the horizon of a scene, in heights of its people from the crown.
const HORIZON: f32 = 0.7;

/// A person in a frame of a video; see [`SyntheticConfig::draw_frame`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Walker {
    /// The identity, above 0. It determines the clothes.
    pub identity: Identity,
    /// The column of the centre, in pixels.
    pub x: f32,
    /// The row of the soles, in pixels.
    pub feet: f32,
    /// The height of the person, in pixels.
    pub height: f32,
    /// The direction in radians: 0 faces the camera, π/2 walks to the right, π shows the back.
    pub yaw: f32,
    /// The position of the legs in a step, in -1 to 1: 0 stands still, 1 has the left leg in front.
    pub stride: f32,
}

impl SyntheticConfig {
    /// Draws a frame of a video by a camera. People are painted in the given order, so the last is in front.
    ///
    /// Clothes, location and light are those of [`draw`](Self::draw) for the same identity and camera. The
    /// frame is a pure function of the configuration and the arguments. `moment` selects the noise, such as
    /// the index of the frame.
    ///
    /// # Panics
    /// If `width` or `height` is 0, or if a setting is outside its range.
    ///
    /// ```
    /// use reid_core::{Camera, Identity};
    /// use reid_synthetic::{SyntheticConfig, Walker};
    ///
    /// let anna = Walker {
    ///     identity: Identity::new(1),
    ///     x: 60.0,
    ///     feet: 110.0,
    ///     height: 80.0,
    ///     yaw: 1.5,
    ///     stride: 0.4,
    /// };
    /// let ben = Walker { identity: Identity::new(2), x: 120.0, ..anna };
    /// let frame = SyntheticConfig::new().draw_frame(Camera::new(1), [240, 120], &[anna, ben], 0);
    /// assert_eq!(frame.dimensions(), (240, 120));
    /// ```
    #[must_use]
    pub fn draw_frame(
        &self,
        camera: Camera,
        [width, height]: [u32; 2],
        people: &[Walker],
        moment: u64,
    ) -> RgbImage {
        if let Some(fault) = self.fault() {
            fault.refuse();
        }
        let number = camera.number();
        let at_camera = self.seed.named("camera").at(number.into());
        let mut canvas = Canvas::new([width, height], 1.0, [0.0, 0.0]);
        let (width, height) = (width as f32, height as f32);
        // The scene fills the width, and its horizon is at a third of the height.
        let unit = width.max(height) / SCENE;
        canvas.moved([0.0, height / 3.0 - HORIZON * unit], unit, |canvas| {
            Scene::of_camera(number, at_camera.named("scene")).paint(canvas, 0.0);
            // As in the images of the dataset, haze covers the scene at low difficulty.
            let haze = Colour::WHITE.veil(0.5 * (1.0 - self.difficulty));
            canvas.rectangle([-9.0, -9.0], [9.0, 9.0], haze);
        });
        for person in people {
            let number = person.identity.label().cast_unsigned();
            let outfit = Outfit::of_person(number, self.seed.named("outfits"), self.difficulty);
            let pose = Pose {
                yaw: person.yaw,
                stride: person.stride,
            };
            let corner = [person.x - width / 2.0, person.feet - person.height];
            canvas.moved(corner, person.height, |canvas| {
                Figure::new(&outfit, pose).paint(canvas);
            });
        }
        let mut noise = at_camera.named("frame").at(moment).stream();
        picture::view(self, camera).take(&canvas.into_image(), 1.0, &mut noise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walker(identity: i64, x: f32) -> Walker {
        Walker {
            identity: Identity::new(identity),
            x,
            feet: 90.0,
            height: 64.0,
            yaw: 1.5,
            stride: 0.2,
        }
    }

    /// The mean absolute difference of two frames between two columns.
    fn difference(one: &RgbImage, other: &RgbImage, columns: [u32; 2]) -> f64 {
        let pixels = one.enumerate_pixels().zip(other.pixels());
        let inside = pixels.filter(|((x, _, _), _)| (columns[0]..columns[1]).contains(x));
        let differences = inside.flat_map(|((_, _, one), other)| {
            let channels = one.0.into_iter().zip(other.0);
            channels.map(|(one, other)| f64::from(one.abs_diff(other)))
        });
        let differences: Vec<f64> = differences.collect();
        differences.iter().sum::<f64>() / differences.len() as f64
    }

    #[test]
    fn people_are_where_they_are_placed_and_the_last_is_in_front() {
        let config = SyntheticConfig::new();
        let draw = |people: &[Walker]| config.draw_frame(Camera::new(1), [200, 100], people, 3);
        let empty = draw(&[]);
        let one = draw(&[walker(1, 50.0)]);
        assert_eq!(one, draw(&[walker(1, 50.0)]));
        assert!(difference(&empty, &one, [40, 60]) > 10.0);
        assert!(difference(&empty, &one, [120, 200]) < 1e-9);
        let (front, back) = (walker(1, 50.0), walker(2, 50.0));
        let near = difference(&one, &draw(&[back, front]), [46, 54]);
        let far = difference(&one, &draw(&[front, back]), [46, 54]);
        assert!(near < far / 2.0, "{near}, {far}");
    }
}
