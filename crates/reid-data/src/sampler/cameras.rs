//! Groups of images of one identity, each from as many different cameras as possible.

use std::collections::BTreeMap;

use rand::seq::SliceRandom;
use reid_core::{Camera, Stream};

/// Draws `groups` groups of `size` images. Images without a camera count as images of one camera.
///
/// If there are more images than the groups hold, those of the cameras with the most images are left out. If
/// there are fewer, each image is repeated as often as the others, or once more.
pub(super) fn draw(
    images: &mut [usize],
    [groups, size]: [usize; 2],
    camera: impl Fn(usize) -> Option<Camera>,
    stream: &mut Stream,
) -> Vec<Vec<usize>> {
    images.shuffle(stream);
    // Each image with its position among the images of its camera: first one image of each camera, and so on.
    let mut counts: BTreeMap<Option<Camera>, usize> = BTreeMap::new();
    let mut order: Vec<(usize, usize)> = images
        .iter()
        .map(|&image| {
            let count = counts.entry(camera(image)).or_default();
            *count += 1;
            (*count, image)
        })
        .collect();
    order.sort_by_key(|&(position, _)| position);
    let repeated = order.iter().map(|&(_, image)| image).cycle();
    let mut chosen: Vec<usize> = repeated.take(groups * size).collect();
    // Sorted by camera and dealt one by one, the images of a camera get into as many groups as possible.
    chosen.sort_by_key(|&image| camera(image));
    let mut dealt = vec![Vec::new(); groups];
    for (position, image) in chosen.into_iter().enumerate() {
        dealt[position % groups].push(image);
    }
    dealt.shuffle(stream);
    dealt
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use reid_core::Seed;

    use super::*;

    /// Draws from images of which `counts[i]` are by camera `i`.
    fn groups(counts: &[usize], groups: usize, size: usize, seed: u64) -> Vec<Vec<usize>> {
        let cameras = cameras(counts);
        let mut images: Vec<usize> = (0..cameras.len()).collect();
        let camera = |image: usize| Some(Camera::new(cameras[image]));
        let stream = &mut Seed::new(seed).stream();
        draw(&mut images, [groups, size], camera, stream)
    }

    fn cameras(counts: &[usize]) -> Vec<u32> {
        let cameras = counts.iter().zip(0..);
        cameras
            .flat_map(|(&count, camera)| vec![camera; count])
            .collect()
    }

    #[test]
    fn each_group_has_as_many_cameras_as_possible() {
        for (counts, number, size, expected) in [
            (&[3, 3, 3][..], 1, 4, 3),
            (&[9, 1, 1, 1, 1], 1, 4, 4),
            (&[6, 1], 1, 4, 2),
            // A camera with one image is in one of two groups: 2 + 1 cameras.
            (&[7, 1], 2, 4, 3),
            // 10 images in two groups of 4: the two that are left out are of the first camera.
            (&[6, 2, 2], 2, 4, 6),
            (&[5], 1, 4, 1),
        ] {
            let cameras = cameras(counts);
            for seed in 0..20 {
                let groups = groups(counts, number, size, seed);
                assert_eq!(groups.len(), number);
                let different = groups.iter().map(|group| {
                    assert_eq!(group.len(), size);
                    let seen: BTreeSet<u32> = group.iter().map(|&image| cameras[image]).collect();
                    seen.len()
                });
                assert_eq!(different.sum::<usize>(), expected, "{counts:?}");
                let images: BTreeSet<usize> = groups.concat().into_iter().collect();
                assert_eq!(images.len(), number * size, "{counts:?}");
            }
        }
    }

    #[test]
    fn images_are_repeated_equally_often() {
        for seed in 0..10 {
            let mut drawn = groups(&[2, 1], 1, 8, seed).concat();
            drawn.sort_unstable();
            let times = [0, 1, 2].map(|image| drawn.iter().filter(|&&one| one == image).count());
            let [least, most] = [times.iter().min(), times.iter().max()];
            assert_eq!((least, most), (Some(&2), Some(&3)), "{drawn:?}");
        }
        assert_eq!(groups(&[1], 1, 3, 0), [[0, 0, 0]]);
    }

    /// Every image of a camera, and every group, is as likely as the others.
    #[test]
    fn images_and_cameras_are_drawn_at_random() {
        let mut times = [0; 8];
        for seed in 0..400 {
            for image in groups(&[4, 4], 1, 2, seed).concat() {
                times[image] += 1;
            }
        }
        // Each of 8 images is expected 400 · 2 / 8 = 100 times, with a standard deviation of 9.
        assert!(
            times.iter().all(|time| (60..140).contains(time)),
            "{times:?}"
        );
        // Three of six cameras with one image each: each of 6 images 200 times, standard deviation 10.
        let mut times = [0; 6];
        for seed in 0..400 {
            for image in groups(&[1; 6], 1, 3, seed).concat() {
                times[image] += 1;
            }
        }
        assert!(
            times.iter().all(|time| (150..250).contains(time)),
            "{times:?}"
        );
        // The only image of the second camera is in either group.
        let first = (0..100).filter(|&seed| groups(&[7, 1], 2, 4, seed)[0].contains(&7));
        assert!((25..75).contains(&first.count()));
    }
}
