//! Picture: one vehicle, one camera, one moment.

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

/// How much of a well framed picture a vehicle fills.
const FILL: f32 = 0.92;
/// What each camera's azimuth is beyond the last one's: the golden angle, so that however many
/// there are, they stand all around.
const GOLDEN: f32 = 2.399_963;

/// Paints a road, a vehicle and what hides it, and takes the picture.
///
/// What the vehicle looks like depends on the identity alone, the road, its light and the place of
/// the camera on the camera alone, and everything else on all three arguments.
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
        Vehicle::of(label, seed(config).named("fleets"), difficulty)
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
    let road = Road::of(number, at_camera.named("road"));
    road.paint(&mut brush, frame.aspect, stream.random_range(-30.0..30.0));
    // Haze over an easy road: what is on it stands out.
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

/// How a camera of the set sees.
pub(super) fn view(config: &VehiclesConfig, camera: Camera) -> View {
    View::of(at(config, camera).named("view"), config.difficulty)
}

/// What vehicles and their cameras are drawn from: nothing that people share.
fn seed(config: &VehiclesConfig) -> Seed {
    config.seed.named("vehicles")
}

fn at(config: &VehiclesConfig, camera: Camera) -> Seed {
    seed(config).named("camera").at(camera.number().into())
}

/// Cameras stand all around the road, each at a height and a distance of its own. Vehicles pass
/// them each on a way of its own, on which they turn little.
fn viewpoint(
    config: &VehiclesConfig,
    camera: Camera,
    encounter: Seed,
    stream: &mut Stream,
) -> Viewpoint {
    let difficulty = config.difficulty;
    let first = around(&mut seed(config).named("first").stream(), 3.2);
    let mut place = at(config, camera).named("place").stream();
    let elevation = place.random_range(0.1..0.45);
    let distance = place.random_range(9.0..17.0);
    let way = around(&mut encounter.named("way").stream(), 0.1 + 0.3 * difficulty);
    let jitter = around(stream, 0.12 + 0.12 * difficulty);
    let nod = around(stream, 0.02 + 0.03 * difficulty);
    Viewpoint {
        azimuth: first + GOLDEN * camera.number() as f32 + way + jitter,
        elevation: elevation + nod,
        distance,
    }
}

/// The cut-out of an imperfect detector: a little too large or small, and a little off.
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
        u32::try_from(side).unwrap_or_else(|_| panic!("a side of {side} pixels is too long"))
    });
    Canvas::new([width, height], config.height as f32, [0.0, 0.0])
}

/// Where the sun is at a camera: anywhere, half up.
fn sun(at_camera: Seed) -> [f32; 3] {
    let turn = around(&mut at_camera.named("sun").stream(), 3.2);
    [0.7 * turn.cos(), 0.7 * turn.sin(), 0.7]
}

/// A number from `-spread..spread`.
fn around(stream: &mut Stream, spread: f32) -> f32 {
    stream.random_range(-1.0..1.0) * spread
}
