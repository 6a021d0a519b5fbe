//! The head of a figure: hair, face and cap.

use super::{Figure, LEFT, RIGHT, pouch};
use crate::{canvas::Canvas, colour::Colour, outfit::Hairstyle};

/// Height of the middle of the head.
const MIDDLE: f32 = 0.088;
/// Half the width and half the height of the head.
const SIZE: [f32; 2] = [0.062, 0.078];
/// Forward position of a bun, and half its size.
const BUN: [f32; 2] = [-0.07, 0.034];

impl Figure<'_> {
    /// Paints long hair or a bun. The depth decides whether it is painted before or after the torso.
    pub(super) fn paint_back_hair(&self, canvas: &mut Canvas) {
        let hair = self.outfit.hair.lit(0.9);
        match self.outfit.hairstyle {
            Hairstyle::Short => {}
            Hairstyle::Long => {
                let (x, _) = self.rotated([0.0, -0.045]);
                let half = self.breadth([0.072, 0.045]);
                pouch(canvas, [x, 0.15], [half, 0.105], hair);
            }
            Hairstyle::Bun => self.paint_bun(canvas),
        }
    }

    /// Paints the head with hair, face and cap, as the last part of the figure.
    pub(super) fn paint_head(&self, canvas: &mut Canvas) {
        let (sin, cos) = self.pose.yaw.sin_cos();
        let [across, down] = SIZE;
        let x = 0.012 * sin;
        let scalp = [x, MIDDLE - 0.008];
        canvas.ellipse(scalp, [across + 0.004, down], self.outfit.hair);
        // The face covers the full width of the lower head from the front, half of it from the side, and
        // nothing from behind.
        let face = 0.93 * across * f32::midpoint(1.0, cos).max(0.0);
        let centre = [x + sin * (across - face), MIDDLE + 0.018];
        canvas.ellipse(centre, [face, 0.8 * down], self.outfit.skin);
        for side in [LEFT, RIGHT] {
            let (eye, near) = self.rotated([side * 0.025, 0.05]);
            if near > 0.0 {
                let iris = Colour::hex(0x2a_2422);
                canvas.ellipse([x + eye, MIDDLE + 0.012], [0.008, 0.01], iris);
            }
        }
        if self.outfit.hairstyle == Hairstyle::Bun && cos < 0.0 {
            self.paint_bun(canvas);
        }
        if let Some(cap) = self.outfit.hat {
            self.paint_cap(canvas, cap);
        }
    }

    fn paint_bun(&self, canvas: &mut Canvas) {
        let [back, half] = BUN;
        let (x, _) = self.rotated([0.0, back]);
        canvas.ellipse([x, 0.035], [half, half], self.outfit.hair.lit(0.88));
    }

    fn paint_cap(&self, canvas: &mut Canvas, cap: Colour) {
        let (sin, cos) = self.pose.yaw.sin_cos();
        let [across, _] = SIZE;
        let x = 0.012 * sin;
        let brim = MIDDLE - 0.025;
        let crown = [
            [x - across - 0.012, brim],
            [x - across - 0.006, -0.02],
            [x + across + 0.006, -0.02],
            [x + across + 0.012, brim],
            [x, brim + 0.016],
        ];
        canvas.blob(&crown, cap);
        // Seen from behind, the head hides the visor.
        if cos > -0.4 {
            let visor = [x + 0.06 * sin, brim + 0.002];
            canvas.ellipse(visor, [0.052 + 0.012 * sin.abs(), 0.014], cap.lit(0.75));
        }
    }
}
