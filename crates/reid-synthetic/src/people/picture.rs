//! Drawing one image of a person.

use image::RgbImage;
use rand::RngExt;
use reid_core::{Camera, Identity, Seed, Stream};

use super::SyntheticConfig;
use crate::{
    camera::View,
    canvas::Canvas,
    colour::Colour,
    figure::{Figure, Pose},
    obstacle,
    outfit::Outfit,
    scene::Scene,
};

/// Height of a well-framed image, in heights of a person.
const FRAME: f32 = 1.1;

/// Draws an image: a scene, a person and perhaps an obstacle, as the camera sees them.
///
/// The outfit depends on the identity alone. The scene and its light depend on the camera alone. Everything
/// else depends on identity, camera and shot.
pub(super) fn draw(
    config: &SyntheticConfig,
    identity: Identity,
    camera: Camera,
    shot: usize,
) -> RgbImage {
    let difficulty = config.difficulty;
    let number = camera.number();
    let person = identity.label().cast_unsigned();
    let at_camera = config.seed.named("camera").at(number.into());
    let encounter = config.seed.named("encounter").at(person).at(number.into());
    let moment = encounter.at(shot as u64);
    let outfit = if identity.label() > 0 {
        Outfit::of_person(person, config.seed.named("outfits"), difficulty)
    } else {
        Outfit::stranger(moment.named("outfit"), difficulty)
    };
    let view = view(config, camera);
    let mut stream = moment.named("moment").stream();
    let pose = pose(&view, encounter, difficulty, &mut stream);

    let mut canvas = frame(config, &mut stream);
    Scene::of_camera(number, at_camera.named("scene"))
        .paint(&mut canvas, stream.random_range(-3.0..3.0));
    // At low difficulty haze covers the scene, so that the person stands out.
    canvas.rectangle(
        [-9.0, -9.0],
        [9.0, 9.0],
        Colour::WHITE.veil(0.5 * (1.0 - difficulty)),
    );
    let figure = Figure::new(&outfit, pose);
    if identity.is_junk() {
        // A false detection: too near, too low, and half outside the image.
        let aside = if stream.random_bool(0.5) { 0.3 } else { -0.3 };
        canvas.moved([aside, 0.3], 1.4, |canvas| figure.paint(canvas));
    } else {
        figure.paint(&mut canvas);
    }
    if stream.random_bool(config.occlusion.into()) {
        obstacle::paint(&mut canvas, moment.named("obstacle"), difficulty);
    }
    let exposure = around(&mut stream, 0.03 + 0.12 * difficulty).exp();
    view.take(&canvas.into_image(), exposure, &mut stream)
}

/// The view of a camera of the dataset.
pub(super) fn view(config: &SyntheticConfig, camera: Camera) -> View {
    let at_camera = config.seed.named("camera").at(camera.number().into());
    View::from_seed(at_camera.named("view"), config.difficulty)
}

/// Draws a pose. Each person passes each camera in a certain direction and changes it little between shots.
fn pose(view: &View, encounter: Seed, difficulty: f32, stream: &mut Stream) -> Pose {
    let way = around(&mut encounter.named("way").stream(), 0.3 + 1.4 * difficulty);
    Pose {
        yaw: view.yaw + way + around(stream, 0.3),
        stride: around(stream, 1.0),
    }
}

/// The bounding box of an imperfect detector: slightly too large or small, and slightly off centre.
fn frame(config: &SyntheticConfig, stream: &mut Stream) -> Canvas {
    let difficulty = config.difficulty;
    let zoom = around(stream, 0.03 + 0.13 * difficulty).exp();
    let aside = around(stream, 0.02 + 0.08 * difficulty);
    let centre = 0.5 + around(stream, 0.015 + 0.06 * difficulty);
    let [height, width] = [config.height, config.width].map(|side| {
        u32::try_from(side).unwrap_or_else(|_| panic!("an image side of {side} pixels is too long"))
    });
    let unit = zoom * config.height as f32 / FRAME;
    let top = centre - 0.5 * FRAME / zoom;
    Canvas::new([width, height], unit, [aside, top])
}

/// Draws uniformly from `-spread..spread`.
fn around(stream: &mut Stream, spread: f32) -> f32 {
    stream.random_range(-1.0..1.0) * spread
}
