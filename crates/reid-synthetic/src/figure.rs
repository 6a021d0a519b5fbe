//! Figure: a person as a pictogram that can be seen from any side.

mod bag;
mod head;

use super::{
    canvas::{Canvas, Point},
    colour::Colour,
    outfit::{Bag, Cut, Outfit, Pattern},
};

/// The direction and the step of a person.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pose {
    /// Yaw in radians: 0 faces the camera, π/2 walks to the right, π shows the back.
    pub(super) yaw: f32,
    /// Position of the legs in a step, in `-1..=1`: 0 stands still, 1 has the left leg in front.
    pub(super) stride: f32,
}

/// A person in a pose.
///
/// Points on the body are given in body coordinates, *to the left* and *forward*, which rotate with the
/// body. A bag at the left hip is therefore in front of the body, beside it or behind it, depending on the
/// yaw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figure<'a> {
    outfit: &'a Outfit,
    pose: Pose,
}

// Heights, from the crown (0) to the soles (1).
const SHOULDERS: f32 = 0.205;
const HIPS: f32 = 0.50;
const KNEES: f32 = 0.73;
const ANKLES: f32 = 0.945;

const LEFT: f32 = 1.0;
const RIGHT: f32 = -1.0;

/// Half the width and half the depth of the chest, of an average person.
const CHEST: Point = [0.122, 0.078];

/// A part of the figure. Parts are painted in the order of depth. The field is the side, `LEFT` or `RIGHT`.
#[derive(Clone, Copy)]
enum Part {
    Leg(f32),
    Arm(f32),
    Torso,
    Bag,
    Hair,
}

impl<'a> Figure<'a> {
    pub(super) fn new(outfit: &'a Outfit, pose: Pose) -> Self {
        Self { outfit, pose }
    }

    /// Paints the person, starting with the parts farthest from the camera.
    pub(super) fn paint(&self, canvas: &mut Canvas) {
        canvas.ellipse([0.0, 0.975], [0.17, 0.028], Colour::BLACK.veil(0.28));
        let mut legs = [Part::Leg(LEFT), Part::Leg(RIGHT)];
        let mut rest = [
            Part::Hair,
            Part::Bag,
            Part::Arm(LEFT),
            Part::Arm(RIGHT),
            Part::Torso,
        ];
        // Legs end inside the torso, so they are painted first at any depth.
        for parts in [&mut legs[..], &mut rest[..]] {
            parts.sort_by(|&a, &b| self.depth(a).total_cmp(&self.depth(b)));
            for &part in &*parts {
                self.paint_part(part, canvas);
            }
        }
        self.paint_head(canvas);
    }

    /// Rotates a point in body coordinates by the yaw. Returns its x in the image and how much nearer it is
    /// to the camera than the body's axis.
    fn rotated(&self, [left, forward]: Point) -> (f32, f32) {
        let (sin, cos) = self.pose.yaw.sin_cos();
        (left * cos + forward * sin, forward * cos - left * sin)
    }

    /// Half the visible width of a body part with this half width and half depth.
    fn breadth(&self, [left, forward]: Point) -> f32 {
        let (sin, cos) = self.pose.yaw.sin_cos();
        (left * cos).hypot(forward * sin)
    }

    fn chest(&self) -> Point {
        CHEST.map(|half| half * self.outfit.girth)
    }

    fn depth(&self, part: Part) -> f32 {
        let [width, depth] = self.chest();
        let position = match part {
            Part::Torso => return 0.0,
            Part::Leg(side) => [side * 0.05, side * self.pose.stride * 0.1],
            Part::Arm(side) => [side * width, 0.02 - side * self.pose.stride * 0.06],
            Part::Hair => [0.0, -0.05],
            Part::Bag => match self.outfit.bag {
                Some((Bag::Backpack, _)) => [0.0, -depth],
                Some((Bag::Hand, _)) => [RIGHT * (width + 0.05), 0.04],
                _ => [LEFT * (width + 0.05), 0.0],
            },
        };
        self.rotated(position).1
    }

    fn paint_part(&self, part: Part, canvas: &mut Canvas) {
        match part {
            Part::Leg(side) => self.paint_leg(side, canvas),
            Part::Arm(side) => self.paint_arm(side, canvas),
            Part::Torso => self.paint_torso(canvas),
            Part::Bag => self.paint_bag(canvas),
            Part::Hair => self.paint_back_hair(canvas),
        }
    }

    /// Darkens the colour of a part on the far side of the body.
    fn shaded(&self, colour: Colour, part: Part) -> Colour {
        colour.lit(if self.depth(part) < -0.03 { 0.8 } else { 1.0 })
    }

    fn paint_leg(&self, side: f32, canvas: &mut Canvas) {
        let Outfit {
            cut, girth, skin, ..
        } = *self.outfit;
        let swing = side * self.pose.stride;
        let joint = |forward: f32, height: f32| {
            let (x, depth) = self.rotated([side * 0.048 * girth, forward]);
            // The camera looks slightly down, so nearer points are lower in the image.
            [x, height + 0.16 * depth * (height - HIPS) / (1.0 - HIPS)]
        };
        let hip = joint(0.0, HIPS + 0.02);
        let knee = joint(0.08 * swing + 0.015, KNEES);
        let ankle = joint(0.15 * swing - 0.01, ANKLES - 0.015 * swing.min(0.0).abs());
        let skin = self.shaded(skin, Part::Leg(side));
        let cloth = self.shaded(self.outfit.lower, Part::Leg(side));
        canvas.line(&[hip, knee, ankle], 0.052, skin);
        match cut {
            Cut::Trousers => canvas.line(&[hip, knee, ankle], 0.082 * girth, cloth),
            Cut::Shorts => canvas.line(&[hip, between(hip, knee, 0.72)], 0.1 * girth, cloth),
            Cut::Skirt => {}
        }
        let sole = self.pose.yaw.sin();
        let shoe = self.shaded(self.outfit.shoes, Part::Leg(side));
        let toe = [ankle[0] + 0.028 * sole, ankle[1] + 0.024];
        canvas.ellipse(toe, [0.034 + 0.022 * sole.abs(), 0.024], shoe);
    }

    fn paint_arm(&self, side: f32, canvas: &mut Canvas) {
        let swing = -side * self.pose.stride;
        let [width, _] = self.chest();
        let joint = |out: f32, forward: f32, height: f32| {
            [self.rotated([side * (width + out), forward]).0, height]
        };
        let shoulder = joint(-0.012, 0.0, SHOULDERS + 0.025);
        let elbow = joint(0.02, 0.06 * swing, 0.37);
        let hand = self.hand(side);
        let part = Part::Arm(side);
        let sleeve = match self.outfit.pattern {
            Some((Pattern::Sleeves, colour)) => colour,
            // Slightly greyer, so that the arm is visible in front of the garment.
            _ => self.outfit.upper.mix(Colour::hex(0x80_8080), 0.14),
        };
        let (skin, sleeve) = (
            self.shaded(self.outfit.skin, part),
            self.shaded(sleeve, part),
        );
        canvas.line(&[shoulder, elbow, hand], 0.044, skin);
        let cuff = if self.outfit.long_sleeves {
            between(elbow, hand, 0.8)
        } else {
            between(shoulder, elbow, 0.7)
        };
        let bend = if self.outfit.long_sleeves {
            elbow
        } else {
            cuff
        };
        canvas.line(&[shoulder, bend, cuff], 0.064, sleeve);
    }

    fn hand(&self, side: f32) -> Point {
        let [width, _] = self.chest();
        let swing = -side * self.pose.stride;
        let (x, _) = self.rotated([side * (width + 0.03), 0.14 * swing + 0.025]);
        [x, 0.505 - 0.02 * swing.abs()]
    }

    /// The outline of the upper garment.
    fn torso(&self) -> [Point; 10] {
        let [width, depth] = self.chest();
        let shoulder = self.breadth([width, depth * 0.9]) + 0.012;
        let waist = self.breadth([width * 0.84, depth]) + 0.008;
        let hem = HIPS + 0.045;
        [
            [-0.04, SHOULDERS - 0.032],
            [-shoulder, SHOULDERS - 0.018],
            [-shoulder, SHOULDERS + 0.05],
            [-waist, 0.40],
            [-waist, hem],
            [waist, hem],
            [waist, 0.40],
            [shoulder, SHOULDERS + 0.05],
            [shoulder, SHOULDERS - 0.018],
            [0.04, SHOULDERS - 0.032],
        ]
    }

    fn paint_torso(&self, canvas: &mut Canvas) {
        let Outfit {
            lower, upper, cut, ..
        } = *self.outfit;
        let [width, depth] = self.chest();
        let hips = self.breadth([width * 0.8, depth]) + 0.004;
        canvas.blob(
            &[
                [-hips, HIPS - 0.06],
                [-hips, HIPS + 0.075],
                [hips, HIPS + 0.075],
                [hips, HIPS - 0.06],
            ],
            lower,
        );
        if cut == Cut::Skirt {
            let flare = hips + 0.035;
            let hem = KNEES - 0.01;
            canvas.polygon(
                &[
                    [-hips, HIPS],
                    [-flare, hem],
                    [0.0, hem + 0.012],
                    [flare, hem],
                    [hips, HIPS],
                ],
                lower,
            );
        }
        canvas.line(
            &[[0.0, 0.14], [0.0, SHOULDERS - 0.02]],
            0.05,
            self.outfit.skin.lit(0.88),
        );
        let outline = self.torso();
        canvas.blob(&outline, upper);
        canvas.inside(&outline, |canvas| {
            self.paint_pattern(canvas);
            // The light comes from the upper left, so the right side is darker.
            let edge = 0.045;
            canvas.rectangle([edge, 0.0], [1.0, 1.0], Colour::BLACK.veil(0.13));
        });
        self.paint_straps(canvas);
    }

    fn paint_pattern(&self, canvas: &mut Canvas) {
        let Some((pattern, colour)) = self.outfit.pattern else {
            return;
        };
        match pattern {
            Pattern::Hoops => paint_hoops(canvas, colour),
            Pattern::Bars => paint_bars(canvas, colour),
            Pattern::Checks => {
                paint_hoops(canvas, colour.veil(0.55));
                paint_bars(canvas, colour.veil(0.55));
            }
            Pattern::Badge => {
                let (x, depth) = self.rotated([0.0, self.chest()[1]]);
                if depth > 0.0 {
                    let across = self.breadth([0.05, 0.012]);
                    canvas.ellipse([x, 0.31], [across, 0.05], colour);
                }
            }
            Pattern::Band => canvas.rectangle([-1.0, 0.285], [1.0, 0.365], colour),
            Pattern::Sleeves => {
                canvas.rectangle([-1.0, 0.0], [1.0, SHOULDERS + 0.012], colour);
            }
        }
    }
}

fn paint_hoops(canvas: &mut Canvas, colour: Colour) {
    for top in [0.20, 0.265, 0.33, 0.395, 0.46] {
        canvas.rectangle([-1.0, top], [1.0, top + 0.03], colour);
    }
}

fn paint_bars(canvas: &mut Canvas, colour: Colour) {
    for left in [-0.116, -0.051, 0.014, 0.079] {
        canvas.rectangle([left, 0.0], [left + 0.03, 1.0], colour);
    }
}

/// Paints a rectangle with rounded corners.
fn pouch(canvas: &mut Canvas, [x, y]: Point, [across, down]: Point, colour: Colour) {
    let soft = 0.9;
    canvas.blob(
        &[
            [x - across, y - down * soft],
            [x - across, y + down * soft],
            [x - across * soft, y + down],
            [x + across * soft, y + down],
            [x + across, y + down * soft],
            [x + across, y - down * soft],
            [x + across * soft, y - down],
            [x - across * soft, y - down],
        ],
        colour,
    );
}

fn between([ax, ay]: Point, [bx, by]: Point, share: f32) -> Point {
    [ax + (bx - ax) * share, ay + (by - ay) * share]
}

#[cfg(test)]
mod tests {
    use std::f32::consts::{FRAC_PI_2, PI};

    use reid_core::Seed;

    use super::*;

    #[test]
    fn points_rotate_with_the_body() {
        let outfit = Outfit::stranger(Seed::new(0), 0.0);
        let hip = |yaw| Figure::new(&outfit, Pose { yaw, stride: 0.0 }).rotated([0.2, 0.0]);
        let near = |a: f32, b: f32| (a - b).abs() < 1e-6;

        // The left hip is on the right of the image from the front, and on the left from the back.
        assert!(near(hip(0.0).0, 0.2) && near(hip(PI).0, -0.2));
        // It is behind the body when the person walks to the right, and in front when to the left.
        assert!(near(hip(FRAC_PI_2).1, -0.2) && near(hip(-FRAC_PI_2).1, 0.2));
    }

    #[test]
    fn a_body_is_narrower_from_the_side() {
        let outfit = Outfit::stranger(Seed::new(0), 0.0);
        let breadth = |yaw| Figure::new(&outfit, Pose { yaw, stride: 0.0 }).breadth(CHEST);
        assert!((breadth(0.0) - CHEST[0]).abs() < 1e-6);
        assert!((breadth(FRAC_PI_2) - CHEST[1]).abs() < 1e-6);
    }
}
