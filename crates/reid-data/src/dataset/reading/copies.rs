//! Copies: queries that are in the gallery as well, told by their content.

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

/// How much of the end of a file is read first, in bytes: it tells most files of one size apart.
const END: u64 = 4096;

/// Marks queries and gallery images that are one image under several paths, be they links or copies
/// ([`Sample::same_as`]), and notices the queries that are in the gallery.
///
/// A query that is in the gallery is found at once. The Market-1501 protocol takes it out of the ranking if
/// the camera is the same, the protocol without cameras if the image is known to be the same.
///
/// What is asked of every file is its size. The last bytes are read of those queries and gallery images
/// that are of one size, and the whole of those that also end alike.
pub(crate) fn mark(splits: &mut Splits) -> Result<(), Error> {
    let queries = splits.query.len();
    let mut kinds = [
        "queries that are in the gallery too, left out of their own ranking",
        "queries that are in the gallery too, by another camera: they count as found",
        "queries that are in the gallery too, with another identity",
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
        share(splits, &group);
    }
    let noticed = kinds.into_iter().filter(|notice| notice.count > 0);
    splits.notices.extend(noticed);
    Ok(())
}

/// The notice that a query and its copy in the gallery belong to; `None` where the Market-1501 protocol
/// takes the copy out.
fn kind(query: &Sample, copy: &Sample) -> Option<usize> {
    if query.identity != copy.identity {
        return Some(2);
    }
    match (query.camera, copy.camera) {
        (Some(one), Some(other)) => (one != other).then_some(1),
        _ => Some(0),
    }
}

/// Notes the path of the first sample of a group with all others that have another path.
fn share(splits: &mut Splits, group: &[usize]) {
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

/// Images of one content in ascending order, where queries and gallery images are among them: queries are
/// counted from 0, gallery images after the last of them.
fn groups(query: &[Sample], gallery: &[Sample]) -> Result<Vec<Vec<usize>>, Error> {
    let samples = query.iter().chain(gallery);
    let paths: Vec<&Path> = samples.map(|sample| sample.path.as_path()).collect();
    let alike = |among: Vec<Vec<usize>>, key: fn(&Path) -> io::Result<(u64, u64)>| {
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
    let all = alike(vec![(0..paths.len()).collect()], size)?;
    alike(alike(all, end)?, whole)
}

fn size(path: &Path) -> io::Result<(u64, u64)> {
    Ok((fs::metadata(path)?.len(), 0))
}

/// Size and a hash of the last bytes.
fn end(path: &Path) -> io::Result<(u64, u64)> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(END)))?;
    let mut bytes = Vec::new();
    file.take(END).read_to_end(&mut bytes)?;
    Ok((size, hash(&bytes)))
}

/// Size and a hash of all bytes.
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

    /// Queries `a` and `b`, gallery images `c` (a copy of `a`) and `d` (which ends as `b` does).
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
                "queries that are in the gallery too, left out of their own ranking",
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
    fn copies_by_other_cameras_and_of_other_identities_are_noticed() {
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
            ["queries that are in the gallery too, by another camera: they count as found"]
        );
        assert_eq!(
            noticed(&|copy| copy.identity = Identity::new(2)),
            ["queries that are in the gallery too, with another identity"]
        );
    }
}
