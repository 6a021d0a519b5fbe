//! The bag of a figure: on its back, at its left hip or in its right hand.

use super::{Figure, LEFT, Part, RIGHT, SHOULDERS, pouch};
use crate::{canvas::Canvas, outfit::Bag};

impl Figure<'_> {
    /// Paints the straps of a bag over the clothes.
    pub(super) fn paint_straps(&self, canvas: &mut Canvas) {
        let [width, depth] = self.chest();
        match self.outfit.bag {
            Some((Bag::Backpack, colour)) => {
                for side in [LEFT, RIGHT] {
                    let (x, near) = self.rotated([side * 0.62 * width, depth * 0.8]);
                    if near > 0.0 {
                        canvas.line(&[[x, SHOULDERS - 0.005], [x, 0.37]], 0.026, colour);
                    }
                }
            }
            Some((Bag::Shoulder, colour)) => {
                let (from, _) = self.rotated([RIGHT * 0.7 * width, 0.0]);
                let (to, _) = self.rotated([LEFT * width, 0.0]);
                canvas.line(&[[from, SHOULDERS - 0.005], [to, 0.46]], 0.02, colour);
            }
            Some((Bag::Hand, _)) | None => {}
        }
    }

    pub(super) fn paint_bag(&self, canvas: &mut Canvas) {
        let Some((bag, colour)) = self.outfit.bag else {
            return;
        };
        let colour = self.shaded(colour, Part::Bag);
        let [width, depth] = self.chest();
        match bag {
            Bag::Backpack => {
                let (x, near) = self.rotated([0.0, -depth - 0.035]);
                let half = self.breadth([0.112, 0.062]);
                pouch(canvas, [x, 0.315], [half, 0.14], colour);
                if near > 0.02 {
                    let pocket = colour.lit(0.75);
                    pouch(canvas, [x, 0.375], [half * 0.62, 0.045], pocket);
                }
            }
            Bag::Shoulder => {
                let (x, _) = self.rotated([LEFT * (width + 0.03), 0.0]);
                let half = self.breadth([0.045, 0.088]);
                pouch(canvas, [x, 0.515], [half, 0.075], colour);
                pouch(canvas, [x, 0.485], [half, 0.04], colour.lit(0.8));
            }
            Bag::Hand => {
                let [x, y] = self.hand(RIGHT);
                let half = self.breadth([0.035, 0.078]);
                canvas.line(
                    &[
                        [x - 0.5 * half, y + 0.07],
                        [x, y + 0.01],
                        [x + 0.5 * half, y + 0.07],
                    ],
                    0.014,
                    colour.lit(0.7),
                );
                pouch(canvas, [x, y + 0.115], [half, 0.062], colour);
            }
        }
    }
}
