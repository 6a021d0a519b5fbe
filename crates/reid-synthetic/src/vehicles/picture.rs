//! Drawing one image of a vehicle.

use image::RgbImage;
use rand::RngExt;
use reid_core::{Camera, Identity, Seed, Stream};

use super::{
    super::{camera::View, canvas::Canvas, colour::Colour},
    VehiclesConfig, obstruction,
    panel::Brush,
    road::Road,
    shape,
    space::{Frame, Lens, Viewpoint},
    vehicle::Vehicle,
};

/// Share of a well-framed image that the vehicle fills.
const FILL: f32 = 0.92;
/// Difference between the azimuths of consecutive cameras: the golden angle in radians. It distributes any
/// number of cameras evenly.
const GOLDEN: f32 = 2.399_963;

/// Draws an image: a road, a vehicle and perhaps an obstruction, as the camera sees them.
///
/// The vehicle depends on the identity alone. The road, its light and the position of the camera depend on
/// the camera alone. Everything else depends on identity, camera and shot.
pub(super) fn draw(
    config: &VehiclesConfig,
    identity: Identity,
    camera: Camera,
    shot: usize,
) -> RgbImage {
    let difficulty = config.difficulty;
    let number = camera.number();
    let label = identity.label().cast_unsigned();
    let at_camera = at(config, camera);
    let encounter = seed(config).named("encounter").at(label).at(number.into());
    let moment = encounter.at(shot as u64);
    let vehicle = if identity.label() > 0 {
        Vehicle::of_identity(label, seed(config).named("fleets"), difficulty)
    } else {
        Vehicle::stranger(moment.named("vehicle"), difficulty)
    };
    let mut stream = moment.named("moment").stream();
    let viewpoint = viewpoint(config, camera, encounter, &mut stream);
    let frame = frame(config, &mut stream);
    let middle = [0.0, 0.0, 0.5 * vehicle.model.height()];

    let mut canvas = canvas(config);
    let mut brush = Brush {
        canvas: &mut canvas,
        lens: Lens::new(viewpoint, middle).framing(&shape::corners(&vehicle), frame),
        sun: sun(at_camera),
    };
    let road = Road::of_camera(number, at_camera.named("road"));
    road.paint(&mut brush, frame.aspect, stream.random_range(-30.0..30.0));
    // At low difficulty haze covers the road, so that the vehicle stands out.
    let haze = Colour::WHITE.veil(0.45 * (1.0 - difficulty));
    brush.canvas.rectangle([-9.0, -9.0], [9.0, 9.0], haze);
    shape::paint(&vehicle, &mut brush);
    if stream.random_bool(config.occlusion.into()) {
        let between = moment.named("obstruction");
        obstruction::paint(&mut brush, &vehicle, viewpoint, between, difficulty);
    }
    let exposure = around(&mut stream, 0.03 + 0.12 * difficulty).exp();
    view(config, camera).take(&canvas.into_image(), exposure, &mut stream)
}

/// The view of a camera of the dataset.
pub(super) fn view(config: &VehiclesConfig, camera: Camera) -> View {
    View::from_seed(at(config, camera).named("view"), config.difficulty)
}

/// The seed of vehicles and their cameras. It differs from the seeds of synthetic people.
fn seed(config: &VehiclesConfig) -> Seed {
    config.seed.named("vehicles")
}

fn at(config: &VehiclesConfig, camera: Camera) -> Seed {
    seed(config).named("camera").at(camera.number().into())
}

/// Draws a viewpoint. Cameras are distributed all around the road, each at its own height and distance. Each
/// vehicle passes each camera in a certain direction and changes it little between shots.
fn viewpoint(
    config: &VehiclesConfig,
    camera: Camera,
    encounter: Seed,
    stream: &mut Stream,
) -> Viewpoint {
    let difficulty = config.difficulty;
    let first = around(&mut seed(config).named("first").stream(), 3.2);
    let mut position = at(config, camera).named("place").stream();
    let elevation = position.random_range(0.1..0.45);
    let distance = position.random_range(9.0..17.0);
    let way = around(&mut encounter.named("way").stream(), 0.1 + 0.3 * difficulty);
    let jitter = around(stream, 0.12 + 0.12 * difficulty);
    let nod = around(stream, 0.02 + 0.03 * difficulty);
    Viewpoint {
        azimuth: first + GOLDEN * camera.number() as f32 + way + jitter,
        elevation: elevation + nod,
        distance,
    }
}

/// The bounding box of an imperfect detector: slightly too large or small, and slightly off centre.
fn frame(config: &VehiclesConfig, stream: &mut Stream) -> Frame {
    let difficulty = config.difficulty;
    let aspect = config.width as f32 / config.height as f32;
    let zoom = FILL * around(stream, 0.03 + 0.13 * difficulty).exp();
    let aside = [(); 2].map(|()| around(stream, 0.015 + 0.06 * difficulty));
    Frame {
        aspect,
        zoom,
        aside,
    }
}

fn canvas(config: &VehiclesConfig) -> Canvas {
    let [height, width] = [config.height, config.width].map(|side| {
        u32::try_from(side).unwrap_or_else(|_| panic!("an image side of {side} pixels is too long"))
    });
    Canvas::new([width, height], config.height as f32, [0.0, 0.0])
}

/// The direction towards the sun at a camera: any azimuth, at an elevation of 45 degrees.
fn sun(at_camera: Seed) -> [f32; 3] {
    let azimuth = around(&mut at_camera.named("sun").stream(), 3.2);
    [0.7 * azimuth.cos(), 0.7 * azimuth.sin(), 0.7]
}

/// Draws uniformly from `-spread..spread`.
fn around(stream: &mut Stream, spread: f32) -> f32 {
    stream.random_range(-1.0..1.0) * spread
}
