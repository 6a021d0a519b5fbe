//! Files of embeddings: what is read, and what is refused and how.
#![cfg(feature = "files")]

use std::{
    collections::HashMap,
    fs,
    io::{Cursor, Write},
};

use npyz::WriterBuilder;
use proptest::prelude::*;
use reid_core::{Camera, Identity};
use reid_eval::files;
use safetensors::{Dtype, tensor::TensorView};

/// Bytes of an array in `NumPy`'s format.
fn npy<T: npyz::AutoSerialize + Copy>(shape: &[u64], order: npyz::Order, values: &[T]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = npyz::WriteOptions::new()
        .default_dtype()
        .shape(shape)
        .order(order)
        .writer(&mut bytes)
        .begin_nd()
        .expect("a header");
    writer.extend(values.iter().copied()).expect("values");
    writer.finish().expect("an array");
    bytes
}

/// The arrays of two queries and three gallery images.
fn arrays() -> HashMap<&'static str, Vec<u8>> {
    use npyz::Order::{C, Fortran};
    HashMap::from([
        ("query.features", npy(&[2, 2], C, &[1.0_f32, 2.0, 3.0, 4.0])),
        ("query.ids", npy(&[2], C, &[7_i64, 8])),
        ("query.cameras", npy(&[2], C, &[1_i32, 2])),
        // By columns, in double precision.
        (
            "gallery.features",
            npy(&[3, 2], Fortran, &[1.0_f64, 2.0, 3.0, 4.0, 5.0, 6.0]),
        ),
        ("gallery.ids", npy(&[3], C, &[7_i64, -1, 0])),
        ("gallery.cameras", npy(&[3], C, &[3_i64, 3, 1])),
    ])
}

fn expect_right([query, gallery]: &[reid_eval::Embeddings; 2]) {
    assert_eq!(query.values(), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(query.identities(), [7, 8].map(Identity::new));
    assert_eq!(query.cameras(), Some(&[1, 2].map(Camera::new)[..]));
    assert_eq!(query.images(), None);
    assert_eq!(gallery.values(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    assert_eq!(gallery.identities(), [7, -1, 0].map(Identity::new));
}

/// A folder with these arrays, and what is said of it.
fn read(arrays: &HashMap<&'static str, Vec<u8>>) -> Result<[reid_eval::Embeddings; 2], String> {
    let folder = tempfile::tempdir().expect("a folder");
    for (key, bytes) in arrays {
        fs::write(folder.path().join(format!("{key}.npy")), bytes).expect("a file");
    }
    files::read(folder.path()).map_err(|error| {
        let place = format!("{}: ", folder.path().display());
        let text = error.to_string();
        text.strip_prefix(&place)
            .expect("the file is named")
            .to_owned()
    })
}

#[test]
fn a_folder_and_an_archive_give_the_same() {
    expect_right(&read(&arrays()).expect("whole"));
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (key, bytes) in arrays() {
        let options = zip::write::SimpleFileOptions::default();
        archive
            .start_file(format!("{key}.npy"), options)
            .expect("a file");
        archive.write_all(&bytes).expect("bytes");
    }
    let bytes = archive.finish().expect("an archive").into_inner();
    expect_right(&files::npz(&bytes).expect("whole"));
    for end in 0..bytes.len() {
        let cut = files::npz(&bytes[..end]).expect_err("cut off");
        let expected = format!("expected a whole NumPy archive, found {end} bytes: ");
        assert!(cut.starts_with(&expected), "{end}: {cut}");
    }
}

#[test]
fn an_array_that_is_cut_off_anywhere_is_refused_by_name() {
    for (key, whole) in arrays() {
        for end in 0..whole.len() {
            let mut arrays = arrays();
            arrays.insert(key, whole[..end].to_vec());
            let cut = read(&arrays).expect_err("cut off");
            let expected = format!("`{key}`: expected a NumPy array, ");
            assert!(cut.starts_with(&expected), "{end}: {cut}");
        }
    }
}

/// Found by fuzzing: the time to read a header doubled with each bracket in another.
#[test]
fn a_header_of_brackets_is_refused_at_once() {
    for bracket in ["{", "[", "("] {
        let text = format!("{{'descr': {}\n", bracket.repeat(100));
        let length = u16::try_from(text.len()).expect("is short").to_le_bytes();
        let bytes = [b"\x93NUMPY\x01\0", &length[..], text.as_bytes()].concat();
        let mut arrays = arrays();
        arrays.insert("query.features", bytes);
        let refused = read(&arrays).expect_err("no array");
        assert!(
            refused.ends_with("found a header of brackets in brackets"),
            "{refused}"
        );
    }
}

/// A header of a few bytes must not take the memory that it speaks of.
#[test]
fn sizes_that_are_only_declared_are_refused() {
    use npyz::Order::C;
    let whole = npy(&[2, 2], C, &[1.0_f32, 2.0, 3.0, 4.0]);
    let (start, values) = (&whole[..10], &whole[whole.len() - 16..]);
    let header = whole.len() - start.len() - values.len() - 1;
    for sides in [
        "(4611686018427387904, 4)",
        "(1099511627776, 2)",
        "(2, 99999999)",
    ] {
        let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {sides}}}");
        let text = format!("{text:header$}\n");
        let mut arrays = arrays();
        let bytes = [start, text.as_bytes(), values].concat();
        arrays.insert("query.features", bytes);
        let refused = read(&arrays).expect_err("more than there is");
        assert!(refused.ends_with("found 16 bytes of values"), "{refused}");
    }
    // Found by fuzzing: 16 bytes with a header of 4 GiB.
    let mut arrays = arrays();
    let bytes = b"\x93NUMPY\x03\0\xf0\xff\xff\xffN";
    arrays.insert("query.features", bytes.to_vec());
    let refused = read(&arrays).expect_err("more than there is");
    let expected = "whose header claims 4294967292 bytes, found 13";
    assert!(refused.ends_with(expected), "{refused}");
    for (length, header) in [
        (u64::MAX, "{}"),
        (1 << 40, "{}"),
        (
            91,
            r#"{"query.features":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}"#,
        ),
    ] {
        let bytes = [&length.to_le_bytes(), header.as_bytes()].concat();
        let refused = files::safetensors(&bytes).expect_err("more than there is");
        assert!(
            refused.starts_with("expected a whole safetensors file, found "),
            "{refused}"
        );
    }
}

#[test]
fn safetensors_are_read() {
    let floats: Vec<u8> = [1.0_f32, 2.0]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let ids: Vec<u8> = 7_i64.to_le_bytes().to_vec();
    let one = |key: &str, dtype, shape: &[usize], bytes| {
        let view = TensorView::new(dtype, shape.to_vec(), bytes).expect("a tensor");
        (key.to_owned(), view)
    };
    let whole = |ids_key: &str| {
        let tensors = ["query", "gallery"].into_iter().flat_map(|side| {
            [
                one(&format!("{side}.features"), Dtype::F32, &[1, 2], &floats),
                one(&format!("{side}.{ids_key}"), Dtype::I64, &[1], &ids),
            ]
        });
        safetensors::serialize(tensors, None).expect("a file")
    };
    let bytes = whole("ids");
    let [query, _] = files::safetensors(&bytes).expect("whole");
    assert_eq!(query.values(), [1.0, 2.0]);
    for end in 0..bytes.len() {
        let cut = files::safetensors(&bytes[..end]).expect_err("cut off");
        let expected = format!("expected a whole safetensors file, found {end} bytes: ");
        assert!(cut.starts_with(&expected), "{end}: {cut}");
    }
    assert_eq!(
        files::safetensors(&whole("names")).expect_err("no identities"),
        "expected the key `query.ids`, found `gallery.features`, `gallery.names`, `query.features`, \
         `query.names`"
    );
}

#[test]
fn what_is_wrong_is_named() {
    use npyz::Order::C;
    let refused = |key: &'static str, bytes: Vec<u8>| {
        let mut arrays = arrays();
        arrays.insert(key, bytes);
        read(&arrays).expect_err("refused")
    };
    assert_eq!(
        refused("query.ids", npy(&[3], C, &[1_i64, 2, 3])),
        "`query.ids`: expected the shape [2], one per row of features, found [3]"
    );
    assert_eq!(
        refused("query.ids", npy(&[2], C, &[1.0_f32, 2.0])),
        "`query.ids`: expected signed integers of 4 or 8 bytes, found '<f4'"
    );
    assert_eq!(
        refused("query.features", npy(&[2], C, &[1.0_f32, 2.0])),
        "`query.features`: expected the shape [images, dimensions], found [2]"
    );
    assert_eq!(
        refused("query.features", npy(&[2, 1], C, &[1.0_f32, f32::NAN])),
        "`query.features`: embedding value at row 1, column 0 is NaN, expected a finite number"
    );
    assert_eq!(
        refused("gallery.cameras", npy(&[3], C, &[1_i64, -2, 3])),
        "`gallery.cameras`: expected a number of 0 or more in 32 bits at row 1, found -2"
    );
    let mut long = npy(&[2, 2], C, &[1.0_f32, 2.0, 3.0, 4.0]);
    long.truncate(long.len() - 1);
    assert_eq!(
        refused("query.features", long),
        "`query.features`: expected a NumPy array, whose header claims the shape [2, 2] of '<f4', \
         found 15 bytes of values"
    );
    let mut none = arrays();
    none.remove("gallery.ids");
    let missing = read(&none).expect_err("no identities");
    assert!(missing.starts_with("expected the key `gallery.ids`, found `gallery.cameras`"));
    let other = files::read(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    let other = other.expect_err("no embeddings").to_string();
    assert!(
        other.ends_with("or a folder of `.npy` files, found `.toml`"),
        "{other}"
    );
    let absent = files::read("no/such.npz").expect_err("absent").to_string();
    assert!(absent.starts_with("no/such.npz: "), "{absent}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Bytes that are changed, cut or made up are read or refused, never a panic.
    #[test]
    fn no_bytes_panic(
        noise in prop::collection::vec(any::<u8>(), 0..300),
        place in any::<prop::sample::Index>(),
        value in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let _ = files::npz(&noise);
        let _ = files::safetensors(&noise);
        for key in ["query.features", "gallery.features", "query.ids"] {
            let mut arrays = arrays();
            let bytes = arrays.get_mut(key).expect("a key");
            let at = place.index(bytes.len());
            bytes[at] = value;
            let kept = 1 + cut.index(bytes.len());
            let whole = bytes.clone();
            let _ = read(&arrays);
            arrays.insert(key, whole[..kept].to_vec());
            let _ = read(&arrays);
        }
    }
}
