//! Pictures for re-identification.
//!
//! | picture | drawn by | file |
//! |---|---|---|
//! | what was found for a query, right and wrong | [`RankedFigure`] of [`RankedRow`]s | bitmap |
//! | a heat map over the image it explains | [`Overlay`], coloured by a [`ColourMap`] | bitmap |
//! | pictures side by side: *input, baseline, ours* | [`ContactSheet`] | bitmap |
//! | CMC of one or several reports | [`cmc_chart`] | SVG |
//! | losses, learning rates and scores of a training | [`training_chart`] | SVG |
//! | any named series | [`LineChart`] of [`Series`] | SVG |
//! | all of these with text and tables | [`Page`] | HTML |
//!
//! Bitmaps are [`RgbImage`]s, read and written by [`open_picture`] and [`save_picture`]. Nothing
//! needs a font installed: small text in bitmaps is drawn from a font within, and SVG leaves it to
//! the viewer. Data never make a drawing fail; files may.

#![doc(test(attr(deny(warnings))))]

mod axis;
mod canvas;
mod cmc_chart;
mod colour_map;
mod error;
mod frame;
mod grid;
mod line_chart;
mod mark;
mod mix;
mod overlay;
mod page;
mod picture;
mod plot;
mod ranked_list;
mod svg;
mod training_chart;

pub use cmc_chart::cmc_chart;
pub use colour_map::ColourMap;
pub use error::Error;
pub use grid::ContactSheet;
pub use image::RgbImage;
pub use line_chart::{LineChart, Series};
pub use overlay::Overlay;
pub use page::Page;
pub use picture::{open_picture, save_picture};
pub use ranked_list::{RankedFigure, RankedRow, RankedTile};
pub use training_chart::{TrainingCurves, training_chart};
