//! Evaluation: streamed distances and all metrics, with embeddings of 256 dimensions.
//!
//! ```sh
//! cargo bench --bench evaluation
//! ```

use divan::Bencher;
use rand::RngExt;
use reid::prelude::*;

fn main() {
    divan::main();
}

fn embeddings(seed: &str, count: usize) -> Embeddings {
    const DIMENSIONS: usize = 256;
    let mut stream = Seed::new(1).named(seed).stream();
    let values = (0..count * DIMENSIONS)
        .map(|_| stream.random_range(-1.0..1.0_f32))
        .collect();
    let identity = |image: usize| Identity::new(i64::try_from(image % 100).expect("small"));
    let identities = (0..count).map(identity).collect();
    let embeddings = Embeddings::new(values, DIMENSIONS, identities).expect("finite");
    let cameras = (0..count).map(|_| Camera::new(stream.random_range(1..7)));
    embeddings
        .with_cameras(cameras.collect())
        .expect("one camera per image")
}

#[divan::bench(args = [1_000, 4_000, 16_000], sample_count = 5)]
fn gallery_of(bencher: Bencher<'_, '_>, images: usize) {
    let (query, gallery) = (embeddings("query", 400), embeddings("gallery", images));
    let config = EvaluationConfig::default();
    bencher.bench(|| evaluate(&query, &gallery, &config).expect("evaluated"));
}
