//! Finds queries that are also in the gallery, by the content of their files.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use reid_core::{Notice, Sample, Splits};

use crate::Error;

/// The number of bytes at the end of a file that are compared first: they differ for most files of equal
/// size.
const END: u64 = 4096;

/// Sets [`Sample::same_as`] for queries and gallery images that are links to or copies of one image, and adds
/// notices of the queries that are also in the gallery.
///
/// A copy of the query in the gallery would be a trivial match. The Market-1501 protocol ignores it if the
/// camera is the same. The no-cameras protocol ignores it if `same_as` marks it as the same image.
///
/// The cost is one metadata call per file. The last bytes are read only for queries and gallery images of
/// equal size, and the whole file only if these bytes are equal too.
///
/// # Errors
/// [`Error::Io`] if a file cannot be read.
pub(crate) fn mark(splits: &mut Splits) -> Result<(), Error> {
    let queries = splits.query.len();
    let mut kinds = [
        "queries that are also in the gallery (ignored when that query is ranked)",
        "queries that are also in the gallery, from another camera (counted as matches)",
        "queries that are also in the gallery, with another identity",
    ]
    .map(|reason| Notice::new(reason, [""; 0]));
    for group in groups(&splits.query, &splits.gallery)? {
        let (query, gallery) = group.split_at(group.partition_point(|&at| at < queries));
        for query in query.iter().map(|&at| &splits.query[at]) {
            let copies = gallery.iter().map(|&at| &splits.gallery[at - queries]);
            let copies = copies.filter_map(|copy| Some((kind(query, copy)?, copy)));
            if let Some((kind, copy)) = copies.max_by_key(|(kind, _)| *kind) {
                let copy = copy.path.display();
                kinds[kind].add(format!("{} is {copy}", query.path.display()));
            }
        }
        set_same_as(splits, &group);
    }
    let noticed = kinds.into_iter().filter(|notice| notice.count > 0);
    splits.notices.extend(noticed);
    Ok(())
}

/// The index of the notice for a query and its copy in the gallery; `None` if the Market-1501 protocol
/// ignores the copy.
fn kind(query: &Sample, copy: &Sample) -> Option<usize> {
    if query.identity != copy.identity {
        return Some(2);
    }
    match (query.camera, copy.camera) {
        (Some(one), Some(other)) => (one != other).then_some(1),
        _ => Some(0),
    }
}

/// Sets `same_as` of each sample of a group to the path of its first sample, unless the paths are equal.
fn set_same_as(splits: &mut Splits, group: &[usize]) {
    let queries = splits.query.len();
    let mut first: Option<PathBuf> = None;
    for &at in group {
        let sample = match at.checked_sub(queries) {
            None => &mut splits.query[at],
            Some(at) => &mut splits.gallery[at],
        };
        let first = first.get_or_insert_with(|| sample.path.clone());
        if *first != sample.path {
            sample.same_as = Some(first.clone());
        }
    }
}

/// Groups of images with equal content that have at least one query and one gallery image.
///
/// An image is the index of its sample, in ascending order: queries first, then gallery images. Empty files
/// are ignored.
fn groups(query: &[Sample], gallery: &[Sample]) -> Result<Vec<Vec<usize>>, Error> {
    let samples = query.iter().chain(gallery);
    let paths: Vec<&Path> = samples.map(|sample| sample.path.as_path()).collect();
    let group_equal = |among: Vec<Vec<usize>>, key: fn(&Path) -> io::Result<(u64, u64)>| {
        let among = among.concat();
        let keys: Vec<_> = among.par_iter().map(|&at| key(paths[at])).collect();
        let mut groups: BTreeMap<(u64, u64), Vec<usize>> = BTreeMap::new();
        for (at, key) in among.into_iter().zip(keys) {
            let key = key.map_err(|source| Error::Io {
                path: paths[at].to_owned(),
                source,
            })?;
            groups.entry(key).or_default().push(at);
        }
        groups.retain(|&(size, _), group| {
            let both = group[0] < query.len() && group[group.len() - 1] >= query.len();
            both && size > 0
        });
        Ok::<_, Error>(groups.into_values().collect::<Vec<_>>())
    };
    let all = group_equal(vec![(0..paths.len()).collect()], size)?;
    group_equal(group_equal(all, end)?, whole)
}

fn size(path: &Path) -> io::Result<(u64, u64)> {
    Ok((fs::metadata(path)?.len(), 0))
}

/// The size of a file and a hash of its last [`END`] bytes.
fn end(path: &Path) -> io::Result<(u64, u64)> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(END)))?;
    let mut bytes = Vec::new();
    file.take(END).read_to_end(&mut bytes)?;
    Ok((size, hash(&bytes)))
}

/// The size of a file and a hash of all its bytes.
fn whole(path: &Path) -> io::Result<(u64, u64)> {
    let bytes = fs::read(path)?;
    Ok((bytes.len() as u64, hash(&bytes)))
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use reid_core::{Camera, Identity};
    use tempfile::TempDir;

    use super::*;
    use crate::dataset::testing::tree;

    /// Queries `a` and `b`; gallery images `c` (a copy of `a`) and `d` (with the same last bytes as `b`).
    fn set() -> (TempDir, Splits) {
        let root = tempfile::tempdir().unwrap();
        let long = "x".repeat(5000);
        for (name, text) in [
            ("a", format!("1{long}")),
            ("b", format!("2{long}")),
            ("c", format!("1{long}")),
            ("d", format!("3{long}")),
            ("empty", String::new()),
            ("nothing", String::new()),
        ] {
            tree::write(root.path(), name, &text);
        }
        let sample = |name: &str| Sample::new(root.path().join(name), Identity::new(1));
        let splits = Splits::default()
            .with_query(["a", "b", "empty"].map(sample).to_vec())
            .with_gallery(["nothing", "c", "d"].map(sample).to_vec());
        (root, splits)
    }

    fn notices(splits: &Splits) -> Vec<(&str, usize)> {
        let notices = splits.notices.iter();
        notices
            .map(|notice| (notice.reason.as_str(), notice.count))
            .collect()
    }

    #[test]
    fn a_query_is_recognised_in_the_gallery_by_its_content() {
        let (root, mut splits) = set();
        mark(&mut splits).unwrap();
        let images: Vec<_> = splits.gallery.iter().map(Sample::image).collect();
        let expected = ["nothing", "a", "d"].map(|name| root.path().join(name));
        assert_eq!(images, expected);
        assert!(splits.query.iter().all(|query| query.same_as.is_none()));
        assert_eq!(
            notices(&splits),
            [(
                "queries that are also in the gallery (ignored when that query is ranked)",
                1
            )]
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_query_is_recognised_through_links_and_by_its_own_path() {
        let (root, mut splits) = set();
        let path = |name: &str| root.path().join(name);
        std::os::unix::fs::symlink(path("b"), path("e")).unwrap();
        fs::hard_link(path("b"), path("f")).unwrap();
        splits.gallery = ["e", "f", "b"]
            .map(|name| Sample::new(path(name), Identity::new(1)))
            .to_vec();
        mark(&mut splits).unwrap();
        assert!(
            splits
                .gallery
                .iter()
                .all(|image| image.image() == path("b"))
        );
        assert_eq!(splits.notices[0].count, 1);
    }

    #[test]
    fn copies_with_another_camera_or_identity_are_noticed() {
        let (_root, mut splits) = set();
        splits.query[0].camera = Some(Camera::new(1));
        splits.gallery[1].camera = Some(Camera::new(1));
        let noticed = |change: &dyn Fn(&mut Sample)| {
            let mut splits = splits.clone();
            change(&mut splits.gallery[1]);
            mark(&mut splits).unwrap();
            let notices = notices(&splits).into_iter();
            notices
                .map(|(reason, _)| reason.to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(noticed(&|_| ()), [""; 0]);
        assert_eq!(
            noticed(&|copy| copy.camera = Some(Camera::new(2))),
            ["queries that are also in the gallery, from another camera (counted as matches)"]
        );
        assert_eq!(
            noticed(&|copy| copy.identity = Identity::new(2)),
            ["queries that are also in the gallery, with another identity"]
        );
    }
}
