//! Figures for re-identification.
//!
//! | figure | drawn by | file |
//! |---|---|---|
//! | ranked lists, with matches and non-matches framed | [`RankedFigure`] of [`RankedRow`]s | bitmap |
//! | a heat map over the image it explains | [`Overlay`], coloured by a [`ColourMap`] | bitmap |
//! | why two images are similar: two overlays and the strongest links | [`SimilarityFigure`] of [`SimilarityRow`]s | bitmap |
//! | the class of every pixel over the image, with a legend | [`SegmentationOverlay`], coloured by a [`Palette`] | bitmap |
//! | images side by side: *input, baseline, ours* | [`ContactSheet`] | bitmap |
//! | CMC curves of one or several reports | [`cmc_chart`] | SVG |
//! | losses, learning rates and scores of a training run | [`training_chart`] | SVG |
//! | any named series | [`LineChart`] of [`Series`] | SVG |
//! | text, tables, charts and images on one page, also hard examples and searches in a gallery | [`Page`] | HTML |
//!
//! Bitmaps are [`RgbImage`]s. [`open_picture`] reads them and [`save_picture`] writes them.
//!
//! No font has to be installed. Text in bitmaps uses an embedded font; text in an SVG uses the viewer's
//! sans-serif font. NaN, infinite values and empty series never make a drawing fail.
//!
//! Use it for the figures of a report or a paper, and for pages that colleagues open in a browser. It opens no
//! window and draws no interactive charts. Charts of more kinds need another crate, such as `plotters`.
//!
//! ```
//! use reid_core::HeatMap;
//! use reid_vis::{Overlay, Page, RgbImage};
//!
//! let image = RgbImage::new(64, 128);
//! let map = HeatMap::new(2, 1, vec![0.1, 0.7])?; // two rows: the lower half matters most
//! let overlay = Overlay::new().draw(&image, &map);
//! let page = Page::new("Explained").with_picture("where the network looks", &overlay)?;
//! assert!(page.to_html().contains("where the network looks"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![doc(test(attr(deny(warnings))))]

mod axis;
mod canvas;
mod cmc_chart;
mod colour_map;
mod error;
mod frame;
mod gallery_search;
mod grid;
mod hard_examples;
mod line_chart;
mod mark;
mod mix;
mod overlay;
mod page;
mod picture;
mod plot;
mod ranked_list;
mod segmentation;
mod similarity;
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
pub use segmentation::{Palette, SegmentationOverlay};
pub use similarity::{SimilarityFigure, SimilarityRow};
pub use training_chart::{TrainingCurves, training_chart};
