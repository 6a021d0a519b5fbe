//! Embeddings of the boxes of a frame: equal to those of the cropped images, and errors that name the boxes.

use burn::tensor::{Device, Tensor};
use image::{Rgb, RgbImage, imageops};
use reid_core::{InputSize, Seed};
use reid_data::{BoundingBox, Frame};
use reid_nn::{Embed, Init, Network, Precision, backbone::ResNetConfig, head::BnNeckConfig};
use reid_zoo::{BagOfTricksConfig, Embedder};

const INPUT: InputSize = InputSize::new(32, 16);

fn embedder() -> Embedder {
    let device = Device::flex();
    let network = BagOfTricksConfig {
        backbone: ResNetConfig::resnet18().with_width(4),
        head: BnNeckConfig::new(),
    };
    let model = network.init(INPUT, 10, &Init::new(Seed::new(1), &device));
    Embedder::new(model, INPUT, &device)
}

/// A frame with a different crop at every position.
fn image() -> RgbImage {
    RgbImage::from_fn(96, 64, |x, y| {
        Rgb([37 * x + y, 11 * y + x * x, x * y].map(|value| value.to_le_bytes()[0]))
    })
}

/// Inside the frame, beyond each of its edges, with fractions, of one pixel, and the whole frame.
fn boxes() -> Vec<BoundingBox> {
    let boxes = [
        [3.0, 5.0, 10.0, 20.0],
        [-7.0, 40.0, 30.0, 50.0],
        [80.0, -9.0, 40.0, 30.0],
        [10.4, 7.6, 21.3, 40.2],
        [95.0, 63.0, 1.0, 1.0],
        [0.0, 0.0, 96.0, 64.0],
        [40.0, 1.0, 5.0, 60.0],
    ];
    boxes.map(BoundingBox::from).to_vec()
}

#[test]
fn embeddings_of_boxes_are_bit_identical_to_those_of_the_cropped_images() {
    let image = image();
    let frame = Frame::from(&image);
    let bgr: Vec<u8> = image
        .as_raw()
        .chunks_exact(3 * 96)
        .flat_map(|row| {
            let pixels = row
                .chunks_exact(3)
                .flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]);
            pixels.chain([99; 12])
        })
        .collect();
    let camera = Frame::from_bgr(&bgr, 96, 64, 300).expect("64 rows of 300 bytes");
    let plain = || embedder().with_batch_size(3);
    for embedder in [
        plain(),
        plain().with_flip_test(),
        plain().with_precision(Precision::BFloat16),
    ] {
        let found = embedder.embed_boxes(&frame, &boxes()).expect("embedded");
        assert_eq!(found.len(), boxes().len());
        assert!(
            found
                .identities()
                .iter()
                .all(|identity| identity.is_unknown())
        );
        for (index, bounding_box) in boxes().iter().enumerate() {
            let region = frame.region(bounding_box).expect("inside");
            let crop =
                imageops::crop_imm(&image, region.left, region.top, region.width, region.height);
            let alone = embedder.embed(&crop.to_image()).expect("embedded");
            assert_eq!(found.row(index), alone, "box {index}");
        }
        let from_camera = embedder.embed_boxes(&camera, &boxes()).expect("embedded");
        assert_eq!(from_camera, found);
    }
}

#[test]
fn a_frame_without_boxes_has_no_rows() {
    let (image, embedder) = (image(), embedder());
    let none = embedder
        .embed_boxes(&Frame::from(&image), &[])
        .expect("no boxes");
    assert_eq!((none.len(), none.dimensions()), (0, 32));
    assert_eq!(embedder.dimensions().expect("finite"), 32);
}

#[test]
fn boxes_that_cannot_be_cropped_are_named_with_their_frame() {
    let image = image();
    let frame = Frame::from(&image).with_name("camera 2, frame 7");
    let mut boxes = boxes();
    boxes[1].width = f32::NAN;
    boxes[4].height = 0.0;
    boxes[6].x = 96.0;
    let error = embedder()
        .embed_boxes(&frame, &boxes)
        .expect_err("three boxes are invalid");
    let message = error.to_string();
    for part in [
        "the frame `camera 2, frame 7` of 96 x 64 pixels: 3 of 7 boxes cannot be cropped:",
        "box 1 (x -7, y 40, width NaN, height 50): expected finite values",
        "box 4 (x 95, y 63, width 1, height 0): expected a width and a height above 0",
        "box 6 (x 96, y 1, width 5, height 60): expected a box that covers",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let empty = RgbImage::new(0, 0);
    let error = embedder().embed_boxes(&Frame::from(&empty), &boxes[..1]);
    let message = error.expect_err("no pixels").to_string();
    assert!(
        message.contains("a frame of 0 x 0 pixels: 1 of 1 boxes"),
        "{message}"
    );
}

/// Divides by the mean of the image, which is 0 for a black image without normalisation.
struct Inverse;

impl Embed for Inverse {
    fn embed(&self, images: Tensor<4>) -> Tensor<2> {
        let [batch, channels, height, width] = images.dims();
        let low = images
            .reshape([batch, channels * height * width])
            .max_dim(1);
        // The normalised value of black in the brightest channel is below -1.8, that of white above 2.
        (low + 1.0).clamp_min(0.0).recip()
    }
}

#[test]
fn a_value_that_is_not_finite_is_reported_with_its_box_and_frame() {
    let mut image = RgbImage::from_pixel(96, 64, Rgb([255; 3]));
    image.put_pixel(95, 63, Rgb([0; 3]));
    let embedder = Embedder::new(Inverse, INPUT, &Device::flex()).with_batch_size(3);
    let error = embedder.embed_boxes(&Frame::from(&image), &boxes());
    assert_eq!(
        error.expect_err("box 4 is black").to_string(),
        "the embedding of gallery image 4 (box 4 of a frame of 96 x 64 pixels) is not finite"
    );
}
