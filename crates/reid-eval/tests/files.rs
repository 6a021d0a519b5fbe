//! Files of embeddings: round trips, and the errors for invalid files.
#![cfg(feature = "files")]

use std::{
    collections::HashMap,
    fs,
    io::{Cursor, Write},
    path::PathBuf,
    sync::OnceLock,
};

use npyz::WriterBuilder;
use proptest::prelude::*;
use reid_core::{Camera, Identity, Track};
use reid_eval::{Embeddings, Labels, Protocol, evaluate, files::QueryAndGallery};
use safetensors::{Dtype, tensor::TensorView};

/// Encodes an array in the `.npy` format.
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
        // Column-major, in double precision.
        (
            "gallery.features",
            npy(&[3, 2], Fortran, &[1.0_f64, 2.0, 3.0, 4.0, 5.0, 6.0]),
        ),
        ("gallery.ids", npy(&[3], C, &[7_i64, -1, 0])),
        ("gallery.cameras", npy(&[3], C, &[3_i64, 3, 1])),
    ])
}

fn assert_loaded_values(QueryAndGallery { query, gallery }: &QueryAndGallery) {
    assert_eq!(query.values(), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(query.identities(), [7, 8].map(Identity::new));
    assert_eq!(query.cameras(), Some(&[1, 2].map(Camera::new)[..]));
    assert_eq!(query.images(), None);
    assert_eq!(gallery.values(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    assert_eq!(gallery.identities(), [7, -1, 0].map(Identity::new));
}

/// Writes the arrays to a folder and loads it. The error text omits the name of the folder.
fn read(arrays: &HashMap<&'static str, Vec<u8>>) -> Result<QueryAndGallery, String> {
    let folder = tempfile::tempdir().expect("a folder");
    for (key, bytes) in arrays {
        fs::write(folder.path().join(format!("{key}.npy")), bytes).expect("a file");
    }
    QueryAndGallery::load(folder.path()).map_err(|error| {
        let prefix = format!("{}: ", folder.path().display());
        let text = error.to_string();
        text.strip_prefix(&prefix)
            .expect("the error names the folder")
            .to_owned()
    })
}

#[test]
fn a_folder_and_an_archive_give_equal_embeddings() {
    assert_loaded_values(&read(&arrays()).expect("valid file"));
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (key, bytes) in arrays() {
        let options = zip::write::SimpleFileOptions::default();
        archive
            .start_file(format!("{key}.npy"), options)
            .expect("a file");
        archive.write_all(&bytes).expect("bytes");
    }
    let bytes = archive.finish().expect("an archive").into_inner();
    assert_loaded_values(&QueryAndGallery::from_npz(&bytes).expect("valid file"));
    for end in 0..bytes.len() {
        let cut = QueryAndGallery::from_npz(&bytes[..end]).expect_err("cut off");
        let expected = format!("expected a complete NumPy archive, found {end} bytes: ");
        assert!(cut.starts_with(&expected), "{end}: {cut}");
    }
}

#[test]
fn an_array_that_is_cut_off_anywhere_is_rejected_by_name() {
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

/// Found by fuzzing: the time to parse a header doubled with each nested bracket.
#[test]
fn a_header_of_nested_brackets_is_rejected_quickly() {
    for bracket in ["{", "[", "("] {
        let text = format!("{{'descr': {}\n", bracket.repeat(100));
        let length = u16::try_from(text.len()).expect("is short").to_le_bytes();
        let bytes = [b"\x93NUMPY\x01\0", &length[..], text.as_bytes()].concat();
        let mut arrays = arrays();
        arrays.insert("query.features", bytes);
        let refused = read(&arrays).expect_err("not an array");
        assert!(
            refused.contains(
                "`query.features`: expected a NumPy array, with a header such as {'descr'"
            ),
            "{refused}"
        );
    }
}

/// The sizes that a header declares must not be allocated before they are checked.
#[test]
fn declared_sizes_beyond_the_file_are_rejected() {
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
        let refused = read(&arrays).expect_err("larger than the file");
        assert!(refused.ends_with("found 16 bytes of values"), "{refused}");
    }
    // Found by fuzzing: 13 bytes that declare a header of 4 GiB.
    let mut arrays = arrays();
    let bytes = b"\x93NUMPY\x03\0\xf0\xff\xff\xffN";
    arrays.insert("query.features", bytes.to_vec());
    let refused = read(&arrays).expect_err("larger than the file");
    let expected = "but its header ends at byte 4294967292 of a file of 13 bytes";
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
        let refused = QueryAndGallery::from_safetensors(&bytes).expect_err("larger than the file");
        assert!(
            refused.starts_with("expected a complete safetensors file, found "),
            "{refused}"
        );
    }
}

#[test]
fn a_safetensors_file_is_read() {
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
    let QueryAndGallery { query, .. } =
        QueryAndGallery::from_safetensors(&bytes).expect("valid file");
    assert_eq!(query.values(), [1.0, 2.0]);
    for end in 0..bytes.len() {
        let cut = QueryAndGallery::from_safetensors(&bytes[..end]).expect_err("cut off");
        let expected = format!("expected a complete safetensors file, found {end} bytes: ");
        assert!(cut.starts_with(&expected), "{end}: {cut}");
    }
    assert_eq!(
        QueryAndGallery::from_safetensors(&whole("names")).expect_err("no identities"),
        "expected the key `query.ids`, found `gallery.features`, `gallery.names`, `query.features`, \
         `query.names`"
    );
}

#[test]
fn errors_name_the_key_and_the_problem() {
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
        "`gallery.cameras`: expected an unsigned integer of 32 bits at row 1, found -2"
    );
    let mut long = npy(&[2, 2], C, &[1.0_f32, 2.0, 3.0, 4.0]);
    long.truncate(long.len() - 1);
    assert_eq!(
        refused("query.features", long),
        "`query.features`: expected a NumPy array, but its header has the shape [2, 2] of '<f4', \
         found 15 bytes of values"
    );
    let mut none = arrays();
    none.remove("gallery.ids");
    let missing = read(&none).expect_err("no identities");
    assert!(missing.starts_with("expected the key `gallery.ids`, found `gallery.cameras`"));
    let other = QueryAndGallery::load(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    let other = other.expect_err("no embeddings").to_string();
    assert!(
        other.ends_with("or a folder of `.npy` files, found `.toml`"),
        "{other}"
    );
    let absent = QueryAndGallery::load("no/such.npz")
        .expect_err("absent")
        .to_string();
    assert!(absent.starts_with("no/such.npz: "), "{absent}");
}

/// Embeddings with every kind of label, and with values that a lossy format would change.
fn full() -> Embeddings {
    let values = vec![0.1, -0.0, f32::MIN_POSITIVE / 2.0, f32::MAX, 1.0, -2.5];
    let texts = |of: [&str; 3]| of.iter().map(|text| Some((*text).to_owned())).collect();
    let mut clothes: Vec<Option<String>> = texts(["", "red coat", "grün"]);
    clothes[0] = None;
    let labels = Labels::new([7, -2, 0].map(Identity::new).to_vec())
        .with_cameras([3, 0, u32::MAX].map(Camera::new).to_vec())
        .and_then(|labels| labels.with_images(vec![5, 0, u64::MAX / 2]))
        .and_then(|labels| labels.with_tracks([1, 1, 9].map(Track::new).to_vec()))
        .and_then(|labels| {
            labels.with_paths(["a.jpg", "", "Ordner/ä b.jpg"].map(PathBuf::from).to_vec())
        })
        .and_then(|labels| labels.with_attribute("clothes", clothes))
        .and_then(|labels| labels.with_attribute("a.b", texts(["1", "2", "3"])))
        .expect("one each");
    Embeddings::from_parts(values, 2, labels).expect("three rows")
}

fn expect_same_bits(found: &Embeddings, expected: &Embeddings, what: &str) {
    let bits = |of: &Embeddings| {
        of.values()
            .iter()
            .map(|value| value.to_bits())
            .collect::<Vec<_>>()
    };
    assert_eq!(bits(found), bits(expected), "{what}");
    assert_eq!(found.dimensions(), expected.dimensions(), "{what}");
    assert_eq!(found.labels(), expected.labels(), "{what}");
}

/// One file name per format that can be written.
const WRITTEN: &[&str] = &[
    "e.safetensors",
    "e.npz",
    #[cfg(feature = "parquet")]
    "e.parquet",
];

#[test]
fn saved_embeddings_load_bit_identically() {
    let folder = tempfile::tempdir().expect("a folder");
    let bare = Embeddings::from_parts(vec![1.0], 1, Labels::unknown(1)).expect("one row");
    let many =
        Embeddings::from_parts(vec![0.25; 40_000], 2, Labels::unknown(20_000)).expect("rows");
    for name in WRITTEN {
        let path = folder.path().join(name);
        for embeddings in [&full(), &bare, &many] {
            // This replaces the file before.
            embeddings.save(&path).expect("saved");
            let found = Embeddings::load(&path).expect("valid file");
            expect_same_bits(&found, embeddings, name);
        }
    }
    // No temporary file remains.
    let count = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(count, WRITTEN.len());
    // An empty set, in the formats that store the dimensions.
    let none = Embeddings::from_parts(Vec::new(), 5, Labels::default()).expect("no rows");
    for name in &WRITTEN[..2] {
        let path = folder.path().join(name);
        none.save(&path).expect("saved");
        expect_same_bits(&Embeddings::load(&path).expect("valid file"), &none, name);
    }
}

#[test]
fn query_and_gallery_share_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let both = QueryAndGallery {
        query: full(),
        gallery: full().select(&[2, 0]),
    };
    for name in &WRITTEN[..2] {
        let path = folder.path().join(name);
        both.save(&path).expect("saved");
        let found = QueryAndGallery::load(&path).expect("valid file");
        expect_same_bits(&found.query, &both.query, name);
        expect_same_bits(&found.gallery, &both.gallery, name);
        let one = Embeddings::load(&path).expect_err("two sets").to_string();
        assert!(
            one.ends_with("read it with `QueryAndGallery::load`"),
            "{one}"
        );
        both.query.save(&path).expect("saved");
        let two = QueryAndGallery::load(&path)
            .expect_err("one set")
            .to_string();
        assert!(two.ends_with("read it with `Embeddings::load`"), "{two}");
    }
    let table = both
        .save(folder.path().join("e.parquet"))
        .expect_err("one set");
    assert!(
        table
            .to_string()
            .contains("e.parquet: a `.parquet` file holds one set"),
        "{table}"
    );
}

/// The labels of a loaded file include the paths, so a search returns the path of the nearest image.
#[test]
fn a_search_in_a_loaded_file_returns_paths() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gallery.npz");
    full().save(&path).expect("saved");
    let gallery = Embeddings::load(&path).expect("valid file");
    let query = Embeddings::from_parts(vec![1.0, -2.0], 2, Labels::unknown(1)).expect("one row");
    let found = gallery.search(&query, 1).expect("equal dimensions");
    assert_eq!(found[0][0].path, Some("Ordner/ä b.jpg".as_ref()));
    // All identities are unknown, so no query can be scored.
    let error = evaluate(&query, &query, &Protocol::NoCameras).expect_err("no query to score");
    assert!(
        error
            .to_string()
            .ends_with("all 1 queries are junk or of unknown identity"),
        "{error}"
    );
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_rejected_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in WRITTEN {
        let path = folder.path().join(name);
        full().save(&path).expect("saved");
        let whole = fs::read(&path).expect("saved");
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).expect("written");
            let cut = Embeddings::load(&path).expect_err("cut off").to_string();
            let expected = format!("{}: expected a complete ", path.display());
            assert!(cut.starts_with(&expected), "{end}: {cut}");
            assert!(cut.contains(&format!("found {end} bytes")), "{end}: {cut}");
        }
    }
}

#[test]
fn invalid_end_offsets_of_texts_are_rejected() {
    use npyz::Order::C;
    let refused = |ends: &[i64], utf8: &[u8]| {
        let folder = tempfile::tempdir().expect("a folder");
        let arrays = [
            ("features", npy(&[2, 1], C, &[1.0_f32, 2.0])),
            ("ids", npy(&[2], C, &[1_i64, 2])),
            ("paths.ends", npy(&[ends.len() as u64], C, ends)),
            ("paths.utf8", npy(&[utf8.len() as u64], C, utf8)),
        ];
        for (key, bytes) in arrays {
            fs::write(folder.path().join(format!("{key}.npy")), bytes).expect("a file");
        }
        let refused = Embeddings::load(folder.path())
            .expect_err("refused")
            .to_string();
        refused
            .split_once(": ")
            .expect("the folder is named")
            .1
            .to_owned()
    };
    let offset = "`paths.ends`: expected an end offset from";
    assert_eq!(
        refused(&[2, 9], b"abc"),
        format!("{offset} 2 to 3, between two characters, at row 1, found 9")
    );
    assert_eq!(
        refused(&[2, 1], b"abc"),
        format!("{offset} 2 to 3, between two characters, at row 1, found 1")
    );
    assert_eq!(
        refused(&[-1, 3], b"abc"),
        format!("{offset} 0 to 3, between two characters, at row 0, found -1")
    );
    // Inside a character of two bytes.
    assert_eq!(
        refused(&[1, 2], "ä".as_bytes()),
        format!("{offset} 0 to 2, between two characters, at row 0, found 1")
    );
    assert_eq!(
        refused(&[1, 2], b"abc"),
        "`paths.utf8`: expected 2 bytes, the end of the last of 2 texts, found 3"
    );
    assert_eq!(
        refused(&[1, 2], b"a\xff"),
        "`paths.utf8`: expected UTF-8, found an invalid sequence at byte 1"
    );
    assert_eq!(
        refused(&[1], b"a"),
        "`paths.ends`: expected the shape [2], one per row of features, found [1]"
    );
}

#[test]
fn a_failed_save_names_the_problem_and_keeps_the_old_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("e.npz");
    full().save(&path).expect("saved");
    let large = full().with_images(vec![0, u64::MAX, 0]).expect("one each");
    let refused = large.save(&path).expect_err("64 bits").to_string();
    assert!(
        refused.ends_with(
            "`images`: expected an integer below 2^63 at row 1, found 18446744073709551615"
        ),
        "{refused}"
    );
    expect_same_bits(
        &Embeddings::load(&path).expect("valid file"),
        &full(),
        "the old file",
    );
    let other = full()
        .save(folder.path().join("e.csv"))
        .expect_err("unknown format");
    assert!(
        other
            .to_string()
            .ends_with("or a folder of `.npy` files, found `.csv`"),
        "{other}"
    );
    let nowhere = full()
        .save(folder.path().join("no/e.npz"))
        .expect_err("no folder");
    assert!(nowhere.to_string().contains("no/e.npz: "), "{nowhere}");
}

/// Written by pyarrow (`tests/golden/make_table.py`).
#[cfg(feature = "parquet")]
#[test]
fn a_table_written_by_pyarrow_is_read() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/golden/table.parquet"
    );
    let found = Embeddings::load(path).expect("valid file");
    assert_eq!(found.values(), [0.5, -0.25, 1.5, 2.0, 0.1, 0.2]);
    assert_eq!(found.identities(), [7, -2, 0].map(Identity::new));
    assert_eq!(found.cameras(), Some(&[1, 2, 1].map(Camera::new)[..]));
    assert_eq!(found.path(1), Some("Ordner/ä.jpg".as_ref()));
    let clothes = [0, 1, 2].map(|image| found.labels().at(image).attribute("clothes"));
    assert_eq!(clothes, [Some("red"), None, Some("blue")]);
}

#[cfg(not(feature = "parquet"))]
#[test]
fn parquet_needs_its_feature() {
    let error = full().save("e.parquet").expect_err("no feature");
    assert!(
        error.to_string().contains("Cargo feature `parquet`"),
        "{error}"
    );
}

#[test]
fn debug_format_is_the_message() {
    let error: Box<dyn std::error::Error> =
        Box::new(Embeddings::load("no/such.npz").expect_err("absent"));
    let text = format!("{error:?}");
    assert_eq!(text, error.to_string());
    assert!(
        text.starts_with("no/such.npz: ") && text.lines().count() == 1,
        "{text}"
    );
}

/// The same embeddings saved in each format, as bytes.
fn saved() -> &'static [(&'static str, Vec<u8>)] {
    static SAVED: OnceLock<Vec<(&str, Vec<u8>)>> = OnceLock::new();
    SAVED.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let bytes = |name: &&'static str| {
            let path = folder.path().join(name);
            full().save(&path).expect("saved");
            (*name, fs::read(path).expect("saved"))
        };
        WRITTEN.iter().map(bytes).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Changed, truncated or random bytes give embeddings or an error, but never a panic.
    #[test]
    fn invalid_bytes_never_panic(
        noise in prop::collection::vec(any::<u8>(), 0..300),
        position in any::<prop::sample::Index>(),
        value in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let _ = QueryAndGallery::from_npz(&noise);
        let _ = QueryAndGallery::from_safetensors(&noise);
        let folder = tempfile::tempdir().expect("a folder");
        for (name, whole) in saved() {
            let path = folder.path().join(name);
            fs::write(&path, &noise).expect("written");
            let _ = Embeddings::load(&path);
            let mut bytes = whole.clone();
            let at = position.index(bytes.len());
            bytes[at] = value;
            fs::write(&path, &bytes).expect("written");
            let _ = Embeddings::load(&path);
        }
        for key in ["query.features", "gallery.features", "query.ids"] {
            let mut arrays = arrays();
            let bytes = arrays.get_mut(key).expect("a key");
            let at = position.index(bytes.len());
            bytes[at] = value;
            let kept = 1 + cut.index(bytes.len());
            let whole = bytes.clone();
            let _ = read(&arrays);
            arrays.insert(key, whole[..kept].to_vec());
            let _ = read(&arrays);
        }
    }
}
