//! Obstacles between a person and the camera.

use rand::RngExt;
use reid_core::Seed;

use super::{
    canvas::Canvas,
    colour::Colour,
    figure::{Figure, Pose},
    outfit::Outfit,
};

/// Paints an obstacle in front of the person. It hides more of the person as `difficulty` grows.
pub(super) fn paint(canvas: &mut Canvas, seed: Seed, difficulty: f32) {
    let mut stream = seed.stream();
    let from = if stream.random_bool(0.5) { 1.0 } else { -1.0 };
    let x = from * stream.random_range(0.0..0.16);
    let size = 0.8 + 0.4 * difficulty;
    match stream.random_range(0..5) {
        0 => post(canvas, x, 0.028 * size),
        1 => barrier(canvas, 0.72 - 0.1 * difficulty),
        2 => bush(canvas, x, 0.3 * size),
        3 => bin(canvas, x, 0.3 * size),
        _ => {
            let outfit = Outfit::stranger(seed.named("passer-by"), difficulty);
            let yaw = stream.random_range(-3.1..3.1);
            let stride = stream.random_range(-1.0..1.0);
            let away = from * (0.34 - 0.08 * difficulty);
            canvas.moved([away, -0.06], 1.12, |canvas| {
                Figure::new(&outfit, Pose { yaw, stride }).paint(canvas);
            });
        }
    }
}

fn post(canvas: &mut Canvas, x: f32, half: f32) {
    canvas.rectangle([x - half, -0.5], [x + half, 1.04], Colour::hex(0x5c_6670));
    canvas.rectangle(
        [x - half, -0.5],
        [x - 0.4 * half, 1.04],
        Colour::hex(0x83_8e99),
    );
    canvas.rectangle(
        [x - 1.7 * half, 0.96],
        [x + 1.7 * half, 1.05],
        Colour::hex(0x4a_525b),
    );
}

fn barrier(canvas: &mut Canvas, top: f32) {
    for y in [top, top + 0.13] {
        canvas.rectangle([-1.0, y], [1.0, y + 0.06], Colour::hex(0xf0_ece2));
        for step in -4..4 {
            let left = 0.2 * step as f32;
            canvas.polygon(
                &[
                    [left, y + 0.06],
                    [left + 0.06, y],
                    [left + 0.14, y],
                    [left + 0.08, y + 0.06],
                ],
                Colour::hex(0xcf_4a3a),
            );
        }
    }
    for x in [-0.24, 0.24] {
        canvas.rectangle(
            [x - 0.018, top - 0.03],
            [x + 0.018, 1.04],
            Colour::hex(0x8a_8f94),
        );
    }
}

fn bush(canvas: &mut Canvas, x: f32, height: f32) {
    let leaf = Colour::hex(0x4d_7a45);
    let crown = 1.05 - height;
    canvas.ellipse([x, crown + 0.6 * height], [0.2, 0.6 * height], leaf);
    canvas.ellipse(
        [x - 0.1, crown + 0.7 * height],
        [0.14, 0.42 * height],
        leaf.lit(0.85),
    );
    canvas.ellipse(
        [x + 0.08, crown + 0.45 * height],
        [0.09, 0.28 * height],
        leaf.lit(1.2),
    );
    canvas.ellipse(
        [x - 0.07, crown + 0.42 * height],
        [0.05, 0.16 * height],
        leaf.lit(1.3),
    );
}

fn bin(canvas: &mut Canvas, x: f32, height: f32) {
    let body = Colour::hex(0x3f_6a62);
    let top = 1.04 - height;
    canvas.polygon(
        &[
            [x - 0.13, top],
            [x + 0.13, top],
            [x + 0.105, 1.04],
            [x - 0.105, 1.04],
        ],
        body,
    );
    for left in [-0.08, -0.02, 0.04] {
        canvas.rectangle(
            [x + left, top + 0.07],
            [x + left + 0.02, 1.0],
            body.lit(0.75),
        );
    }
    canvas.rectangle(
        [x - 0.15, top - 0.02],
        [x + 0.15, top + 0.035],
        body.lit(1.35),
    );
}
