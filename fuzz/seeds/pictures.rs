//! Seeds of image files: small images in every variant of each format.

use std::{fs, io::Cursor};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use tiff::{
    encoder::{Compression, DeflateLevel, Predictor, TiffEncoder, colortype},
    tags::Tag,
};

use crate::Seeds;

const WIDTH: u16 = 11;
const HEIGHT: u16 = 9;

pub(crate) fn seeds() -> [Seeds; 6] {
    let mut seeds = [
        ("jpeg", jpegs()),
        ("png", files(ImageFormat::Png, &kinds())),
        ("bmp", files(ImageFormat::Bmp, &kinds()[..4])),
        ("gif", files(ImageFormat::Gif, &kinds()[..2])),
        ("tiff", tiffs()),
        ("webp", files(ImageFormat::WebP, &kinds()[..4])),
    ];
    for (seeds, extension) in seeds.iter_mut().zip(["jpg", "png", "bmp", "gif", "tif", "webp"]) {
        seeds.1.extend(fixtures(extension));
    }
    seeds
}

/// The test fixtures with this extension: small files written by other programs.
fn fixtures(extension: &str) -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/reid-data/tests/fixtures");
    let entries = fs::read_dir(folder).expect("the tests' images");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.iter().map(|path| fs::read(path).expect("an image")).collect()
}

fn picture() -> RgbImage {
    let value = |x: u32, y: u32| Rgb([x, y, x * y].map(|value| u8::try_from(value * 7 % 256).expect("a byte")));
    RgbImage::from_fn(WIDTH.into(), HEIGHT.into(), value)
}

/// The image in every pixel type. The first four are the ones that BMP supports.
fn kinds() -> [DynamicImage; 8] {
    let picture = DynamicImage::from(picture());
    [
        picture.to_rgb8().into(),
        picture.to_rgba8().into(),
        picture.to_luma8().into(),
        picture.to_luma_alpha8().into(),
        picture.to_rgb16().into(),
        picture.to_rgba16().into(),
        picture.to_luma16().into(),
        picture.to_luma_alpha16().into(),
    ]
}

fn files(format: ImageFormat, kinds: &[DynamicImage]) -> Vec<Vec<u8>> {
    let file = |kind: &DynamicImage| {
        let mut bytes = Cursor::new(Vec::new());
        kind.write_to(&mut bytes, format).expect("in memory");
        bytes.into_inner()
    };
    kinds.iter().map(file).collect()
}

fn jpegs() -> Vec<Vec<u8>> {
    let rgb = picture().into_raw();
    let grey: Vec<u8> = rgb.iter().copied().step_by(3).collect();
    let cmyk: Vec<u8> = rgb.chunks(3).flat_map(|pixel| [pixel[0], pixel[1], pixel[2], 9]).collect();
    let sampled = [SamplingFactor::R_4_4_4, SamplingFactor::R_4_2_0, SamplingFactor::R_4_2_2, SamplingFactor::R_4_4_0];
    let mut jpegs = Vec::new();
    for (pixels, colour) in [(&rgb, ColorType::Rgb), (&grey, ColorType::Luma), (&cmyk, ColorType::Cmyk), (&cmyk, ColorType::CmykAsYcck)] {
        for (scans, restart) in [(None, None), (Some(4), None), (Some(10), Some(2)), (None, Some(1))] {
            for sampling in sampled {
                let mut bytes = Vec::new();
                let mut encoder = Encoder::new(&mut bytes, 50);
                encoder.set_sampling_factor(sampling);
                if let Some(scans) = scans {
                    encoder.set_progressive_scans(scans);
                }
                if let Some(interval) = restart {
                    encoder.set_restart_interval(interval);
                }
                encoder.encode(pixels, WIDTH, HEIGHT, colour).expect("in memory");
                jpegs.push(bytes);
            }
        }
    }
    jpegs
}

fn tiffs() -> Vec<Vec<u8>> {
    let compressions = [
        Compression::Uncompressed,
        Compression::Lzw,
        Compression::Deflate(DeflateLevel::Fast),
        Compression::Packbits,
    ];
    let mut tiffs = files(ImageFormat::Tiff, &[kinds()[2].clone(), kinds()[5].clone()]);
    for compression in compressions {
        for predictor in [Predictor::None, Predictor::Horizontal] {
            let mut bytes = Cursor::new(Vec::new());
            let mut encoder = TiffEncoder::new(&mut bytes)
                .expect("in memory")
                .with_compression(compression)
                .with_predictor(predictor);
            let mut image = encoder
                .new_image::<colortype::RGB8>(WIDTH.into(), HEIGHT.into())
                .expect("in memory");
            image.rows_per_strip(5).expect("in memory");
            image.encoder().write_tag(Tag::Orientation, 6_u16).expect("in memory");
            image.write_data(&picture()).expect("in memory");
            tiffs.push(bytes.into_inner());
        }
    }
    tiffs
}
