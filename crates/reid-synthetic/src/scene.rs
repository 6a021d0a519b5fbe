//! Scene: the background behind people, one location per camera.

use rand::RngExt;
use reid_core::{Seed, Stream};

use super::{canvas::Canvas, colour::Colour};

/// The location that a camera sees.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene {
    location: Location,
    seed: Seed,
}

#[derive(Clone, Copy, Debug)]
enum Location {
    Street,
    Park,
    Shop,
    Platform,
    Crossing,
    Lobby,
}

/// The locations in the order of the cameras, so that neighbouring cameras see different ones.
const LOCATIONS: [Location; 6] = [
    Location::Street,
    Location::Park,
    Location::Shop,
    Location::Platform,
    Location::Crossing,
    Location::Lobby,
];

/// The locations beside a road.
const OUTDOORS: [Location; 4] = [
    Location::Street,
    Location::Park,
    Location::Shop,
    Location::Crossing,
];

/// Half the painted width, in heights of a person. No image shows more.
const REACH: f32 = 1.5;

impl Scene {
    /// The location of camera `number`, with colours drawn from `seed`.
    pub(super) fn of_camera(number: u32, seed: Seed) -> Self {
        Self {
            location: LOCATIONS[number as usize % LOCATIONS.len()],
            seed,
        }
    }

    /// The location beyond the road of camera `number`, with colours drawn from `seed`.
    pub(super) fn beyond_a_road(number: u32, seed: Seed) -> Self {
        Self {
            location: OUTDOORS[number as usize % OUTDOORS.len()],
            seed,
        }
    }

    /// Paints the location, panned to the right by `pan` heights of a person.
    pub(super) fn paint(&self, canvas: &mut Canvas, pan: f32) {
        let paint = match self.location {
            Location::Street => Self::street,
            Location::Park => Self::park,
            Location::Shop => Self::shop,
            Location::Platform => Self::platform,
            Location::Crossing => Self::crossing,
            Location::Lobby => Self::lobby,
        };
        paint(self, canvas, pan);
    }

    /// Draws one of the colours. It is the same in all images of this location.
    fn colour(&self, name: &str, choices: &[u32]) -> Colour {
        let chosen = self
            .seed
            .named(name)
            .stream()
            .random_range(0..choices.len());
        Colour::hex(choices[chosen])
    }

    /// Paints an element that repeats every `period`. For each visible repetition, `paint` receives its left
    /// end and its own random stream.
    fn repeat(&self, pan: f32, period: f32, mut paint: impl FnMut(f32, Stream)) {
        let mut index = ((pan - REACH) / period).floor();
        while index * period < pan + REACH {
            let stream = self.seed.at(index.to_bits().into()).stream();
            paint(index * period - pan, stream);
            index += 1.0;
        }
    }

    fn street(&self, canvas: &mut Canvas, pan: f32) {
        let wall = self.colour("wall", &[0xb9_8b73, 0xc9_b79a, 0x9a_a3a8, 0xb5_9f8f]);
        let paving = self.colour("paving", &[0xa9_a8a4, 0xb8_b0a2]);
        let pane = Colour::hex(0x5b_7388);
        canvas.rectangle([-REACH, -0.5], [REACH, 0.74], wall);
        self.repeat(pan, 0.34, |x, mut stream| {
            let glass = if stream.random_bool(0.3) {
                Colour::hex(0xe9_d79a)
            } else {
                pane
            };
            for top in [-0.38, 0.1] {
                canvas.rectangle([x + 0.05, top], [x + 0.25, top + 0.33], wall.lit(1.2));
                canvas.rectangle([x + 0.07, top + 0.02], [x + 0.23, top + 0.31], glass);
                canvas.rectangle([x + 0.144, top], [x + 0.156, top + 0.33], wall.lit(1.2));
            }
        });
        canvas.rectangle([-REACH, 0.62], [REACH, 0.74], wall.lit(0.72));
        canvas.rectangle([-REACH, 0.74], [REACH, 1.5], paving);
        self.repeat(pan, 0.3, |x, _| {
            canvas.line(&[[x, 0.74], [x * 1.6, 1.2]], 0.008, paving.lit(0.85));
        });
        canvas.rectangle([-REACH, 0.88], [REACH, 0.89], paving.lit(0.85));
        canvas.rectangle([-REACH, 1.05], [REACH, 1.5], Colour::hex(0x5c_5e63));
    }

    fn park(&self, canvas: &mut Canvas, pan: f32) {
        let grass = self.colour("grass", &[0x8f_b36a, 0x9d_ad5f, 0x7f_a874]);
        let leaves = self.colour("leaves", &[0x4e_8a52, 0x6a_8f3f, 0xb5_813a]);
        canvas.rectangle([-REACH, -0.5], [REACH, 0.6], Colour::hex(0xbf_dcea));
        self.repeat(pan, 0.5, |x, mut stream| {
            let height = stream.random_range(0.1..0.2);
            canvas.ellipse([x + 0.25, 0.6], [0.38, height], grass.mix(leaves, 0.6));
        });
        canvas.rectangle([-REACH, 0.58], [REACH, 1.5], grass);
        self.repeat(pan, 0.42, |x, mut stream| {
            let x = x + stream.random_range(0.0..0.2);
            let top = stream.random_range(0.0..0.25);
            canvas.line(&[[x, top], [x, 0.68]], 0.045, Colour::hex(0x7a_5a3e));
            let crown = leaves.lit(stream.random_range(0.85..1.15));
            canvas.ellipse([x, top + 0.06], [0.15, 0.2], crown);
            canvas.ellipse([x - 0.05, top], [0.08, 0.1], crown.lit(1.12));
        });
        let path = Colour::hex(0xd9_c6a0);
        canvas.polygon(
            &[[-REACH, 0.9], [-REACH, 1.5], [REACH, 1.5], [REACH, 0.86]],
            path,
        );
        self.repeat(pan, 0.17, |x, mut stream| {
            let y = stream.random_range(0.7..0.84);
            let petals = stream.random_range(0..3_usize);
            let petals = [0xf4_f0e0, 0xe8_b23c, 0xd8_6a7a][petals];
            canvas.ellipse([x, y], [0.013, 0.01], Colour::hex(petals));
        });
    }

    fn shop(&self, canvas: &mut Canvas, pan: f32) {
        let frame = self.colour("frame", &[0x3d_5a52, 0x6b_3f3a, 0x3c_4a66]);
        let awning = self.colour("awning", &[0xc8_4b4b, 0x3f_8f7a, 0xd0_963c]);
        let floor = self.colour("floor", &[0xbd_b3a6, 0xa7_abb0]);
        canvas.rectangle([-REACH, -0.5], [REACH, 0.8], frame);
        self.repeat(pan, 0.62, |x, mut stream| {
            canvas.rectangle([x + 0.04, 0.16], [x + 0.58, 0.68], Colour::hex(0xc9_dde0));
            let goods = [0xd9_a55a, 0x7f_a0b8, 0xb8_7f8f, 0x8f_a86a];
            for shelf in [0.38, 0.60] {
                canvas.rectangle([x + 0.04, shelf], [x + 0.58, shelf + 0.02], frame.lit(1.5));
                for slot in 0..4 {
                    let left = x + 0.09 + 0.12 * slot as f32;
                    let top = shelf - stream.random_range(0.06..0.14);
                    let good = goods[stream.random_range(0..goods.len())];
                    canvas.rectangle([left, top], [left + 0.07, shelf], Colour::hex(good));
                }
            }
            let glint = Colour::WHITE.veil(0.25);
            canvas.polygon(
                &[
                    [x + 0.34, 0.16],
                    [x + 0.46, 0.16],
                    [x + 0.26, 0.68],
                    [x + 0.14, 0.68],
                ],
                glint,
            );
        });
        self.repeat(pan, 0.124, |x, _| {
            canvas.rectangle([x, -0.06], [x + 0.062, 0.12], awning);
            canvas.ellipse([x + 0.031, 0.12], [0.031, 0.03], awning);
            canvas.rectangle(
                [x + 0.062, -0.06],
                [x + 0.124, 0.12],
                Colour::hex(0xf1_e9da),
            );
            canvas.ellipse([x + 0.093, 0.12], [0.031, 0.03], Colour::hex(0xf1_e9da));
        });
        canvas.rectangle([-REACH, 0.78], [REACH, 1.5], floor);
        canvas.rectangle([-REACH, 0.78], [REACH, 0.8], floor.lit(0.7));
        self.repeat(pan, 0.22, |x, _| {
            canvas.line(&[[x, 0.8], [x * 1.5, 1.2]], 0.006, floor.lit(0.88));
        });
    }

    fn platform(&self, canvas: &mut Canvas, pan: f32) {
        let tile = self.colour("tile", &[0xdf_e3df, 0xcf_d8de, 0xe3_dcc9]);
        let sign = self.colour("sign", &[0x2f_5fa5, 0xb2_3b3b, 0x3a_7a55]);
        canvas.rectangle([-REACH, -0.5], [REACH, 0.72], tile);
        let joint = tile.lit(0.9);
        for row in 0..14 {
            let y = -0.3 + 0.075 * row as f32;
            canvas.rectangle([-REACH, y], [REACH, y + 0.006], joint);
        }
        self.repeat(pan, 0.15, |x, _| {
            canvas.rectangle([x, -0.5], [x + 0.006, 0.72], joint);
        });
        canvas.rectangle([-REACH, 0.13], [REACH, 0.19], sign);
        self.repeat(pan, 0.9, |x, mut stream| {
            let poster = [0xe0_b04a, 0x6a_9ab0, 0xc9_6a5a][stream.random_range(0..3_usize)];
            canvas.rectangle([x + 0.1, 0.27], [x + 0.42, 0.6], Colour::hex(0x4a_4d52));
            canvas.rectangle([x + 0.12, 0.29], [x + 0.4, 0.58], Colour::hex(poster));
            canvas.ellipse([x + 0.26, 0.41], [0.07, 0.07], Colour::WHITE.veil(0.7));
            canvas.rectangle([x + 0.62, -0.5], [x + 0.76, 0.8], Colour::hex(0x77_7c82));
            canvas.rectangle([x + 0.72, -0.5], [x + 0.76, 0.8], Colour::hex(0x5f_646a));
        });
        let floor = Colour::hex(0x8f_9092);
        canvas.rectangle([-REACH, 0.72], [REACH, 1.5], floor);
        canvas.rectangle([-REACH, 0.72], [REACH, 0.735], floor.lit(0.7));
        canvas.rectangle([-REACH, 1.0], [REACH, 1.04], Colour::hex(0xe6_c84a));
        canvas.rectangle([-REACH, 1.07], [REACH, 1.5], Colour::hex(0x3a_3b3f));
    }

    fn crossing(&self, canvas: &mut Canvas, pan: f32) {
        let sky = self.colour("sky", &[0xcf_dde6, 0xe6_d6c3, 0xb9_c7d6]);
        let asphalt = self.colour("asphalt", &[0x66_696e, 0x76_7370]);
        canvas.rectangle([-REACH, -0.5], [REACH, 0.6], sky);
        self.repeat(pan, 0.24, |x, mut stream| {
            let top = stream.random_range(0.0..0.35);
            let house = sky.mix(Colour::hex(0x7a_8494), stream.random_range(0.4..0.8));
            canvas.rectangle([x, top], [x + 0.24, 0.6], house);
            for row in 0..5 {
                let y = top + 0.05 + 0.09 * row as f32;
                for column in [0.04, 0.11, 0.18] {
                    let left = x + column;
                    canvas.rectangle([left, y], [left + 0.03, y + 0.045], house.lit(1.2));
                }
            }
        });
        canvas.rectangle([-REACH, 0.56], [REACH, 0.64], Colour::hex(0xb0_aca4));
        canvas.rectangle([-REACH, 0.64], [REACH, 1.5], asphalt);
        self.repeat(pan, 0.26, |x, _| {
            canvas.polygon(
                &[
                    [x, 0.74],
                    [x + 0.13, 0.74],
                    [1.5 * x + 0.18, 1.2],
                    [1.5 * x, 1.2],
                ],
                Colour::hex(0xe8_e6df),
            );
        });
        self.repeat(pan, 1.1, |x, _| {
            let dark = Colour::hex(0x3a_3d42);
            canvas.line(&[[x, 0.0], [x, 0.66]], 0.025, dark);
            canvas.rectangle([x - 0.045, -0.02], [x + 0.045, 0.2], dark);
            for (y, light) in [(0.03, 0xd8_4a3f), (0.09, 0xe0_b13f), (0.15, 0x4f_b06a)] {
                canvas.ellipse([x, y], [0.026, 0.026], Colour::hex(light));
            }
        });
    }

    fn lobby(&self, canvas: &mut Canvas, pan: f32) {
        let wall = self.colour("wall", &[0xe2_d3bd, 0xcb_d6cc, 0xd9_ccd6]);
        let wood = self.colour("wood", &[0xa9_7a52, 0x8a_6146, 0xc4_9a6c]);
        canvas.rectangle([-REACH, -0.5], [REACH, 0.76], wall);
        canvas.rectangle([-REACH, 0.5], [REACH, 0.76], wall.lit(0.86));
        self.repeat(pan, 1.0, |x, mut stream| {
            canvas.rectangle([x + 0.05, 0.0], [x + 0.4, 0.78], wood.lit(0.7));
            canvas.rectangle([x + 0.07, 0.02], [x + 0.38, 0.78], wood);
            canvas.ellipse([x + 0.34, 0.42], [0.015, 0.015], Colour::hex(0xe6_cf8a));
            let canvas_colour = [0x7f_a3b5, 0xc9_8f5a, 0x8f_9f6a][stream.random_range(0..3_usize)];
            canvas.rectangle([x + 0.55, 0.12], [x + 0.85, 0.36], Colour::hex(0x5a_4a3c));
            canvas.rectangle(
                [x + 0.57, 0.14],
                [x + 0.83, 0.34],
                Colour::hex(canvas_colour),
            );
            canvas.polygon(
                &[[x + 0.57, 0.34], [x + 0.68, 0.21], [x + 0.83, 0.34]],
                Colour::WHITE.veil(0.45),
            );
            let leaf = Colour::hex(0x4f_8a5a);
            for [across, up] in [[-0.1, 0.5], [-0.04, 0.44], [0.03, 0.43], [0.1, 0.51]] {
                canvas.line(&[[x + 0.7, 0.68], [x + 0.7 + across, up]], 0.035, leaf);
            }
            canvas.polygon(
                &[
                    [x + 0.62, 0.66],
                    [x + 0.78, 0.66],
                    [x + 0.75, 0.82],
                    [x + 0.65, 0.82],
                ],
                Colour::hex(0xb8_6a48),
            );
        });
        let floor = wood.mix(Colour::WHITE, 0.35);
        canvas.rectangle([-REACH, 0.78], [REACH, 1.5], floor);
        self.repeat(pan, 0.2, |x, _| {
            canvas.line(&[[x, 0.78], [x * 1.6, 1.2]], 0.007, floor.lit(0.85));
        });
        canvas.rectangle([-REACH, 0.76], [REACH, 0.785], wood.lit(0.8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_location_covers_the_image() {
        // Black means unpainted: no scene is that dark.
        for number in 0..6 {
            let mut canvas = Canvas::new([40, 60], 40.0, [0.0, -0.25]);
            Scene::of_camera(number, Seed::new(9)).paint(&mut canvas, 0.7);
            let image = canvas.into_image();
            assert!(
                image.pixels().all(|pixel| pixel.0 != [0; 3]),
                "camera {number}"
            );
        }
    }

    #[test]
    fn panning_moves_the_scene() {
        // A pan of 0.5 units is 20 pixels, because a unit is 40 pixels.
        let seen = |pan| {
            let mut canvas = Canvas::new([40, 20], 40.0, [0.0, 0.1]);
            Scene::of_camera(0, Seed::new(9)).paint(&mut canvas, pan);
            canvas.into_image()
        };
        let (before, after) = (seen(0.0), seen(0.5));
        for y in 0..20 {
            let (here, there) = (before.get_pixel(30, y), after.get_pixel(10, y));
            let near = here.0.iter().zip(there.0).all(|(&a, b)| a.abs_diff(b) <= 2);
            assert!(near, "row {y}: {here:?} {there:?}");
        }
    }
}
