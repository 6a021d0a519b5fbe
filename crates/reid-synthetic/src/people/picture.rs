//! Picture: one person, one camera, one moment.

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

/// Height of a picture that frames a person well, in the person's heights.
const FRAME: f32 = 1.1;

/// Paints a scene, a person and what hides them, and takes the picture.
///
/// What the person wears depends on the identity alone, the place and its light on the camera
/// alone, and everything else on all three arguments.
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
        Outfit::of(person, config.seed.named("outfits"), difficulty)
    } else {
        Outfit::stranger(moment.named("outfit"), difficulty)
    };
    let view = view(config, camera);
    let mut stream = moment.named("moment").stream();
    let pose = pose(&view, encounter, difficulty, &mut stream);

    let mut canvas = frame(config, &mut stream);
    Scene::of(number, at_camera.named("scene")).paint(&mut canvas, stream.random_range(-3.0..3.0));
    // Haze over an easy scene: what is in front of it stands out.
    canvas.rectangle(
        [-9.0, -9.0],
        [9.0, 9.0],
        Colour::WHITE.veil(0.5 * (1.0 - difficulty)),
    );
    let figure = Figure::new(&outfit, pose);
    if identity.is_junk() {
        // A detector's mistake: too near, too low, and half outside.
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

/// How a camera of the set sees.
pub(super) fn view(config: &SyntheticConfig, camera: Camera) -> View {
    let at_camera = config.seed.named("camera").at(camera.number().into());
    View::of(at_camera.named("view"), config.difficulty)
}

/// People pass a camera each on a way of their own, on which they turn little.
fn pose(view: &View, encounter: Seed, difficulty: f32, stream: &mut Stream) -> Pose {
    let way = around(&mut encounter.named("way").stream(), 0.3 + 1.4 * difficulty);
    Pose {
        yaw: view.yaw + way + around(stream, 0.3),
        stride: around(stream, 1.0),
    }
}

/// The cut-out of an imperfect detector: a little too large or small, and a little off.
fn frame(config: &SyntheticConfig, stream: &mut Stream) -> Canvas {
    let difficulty = config.difficulty;
    let zoom = around(stream, 0.03 + 0.13 * difficulty).exp();
    let aside = around(stream, 0.02 + 0.08 * difficulty);
    let centre = 0.5 + around(stream, 0.015 + 0.06 * difficulty);
    let [height, width] = [config.height, config.width].map(|side| {
        u32::try_from(side).unwrap_or_else(|_| panic!("a side of {side} pixels is too long"))
    });
    let unit = zoom * config.height as f32 / FRAME;
    let top = centre - 0.5 * FRAME / zoom;
    Canvas::new([width, height], unit, [aside, top])
}

/// A number from `-spread..spread`.
fn around(stream: &mut Stream, spread: f32) -> f32 {
    stream.random_range(-1.0..1.0) * spread
}
