//! Atomic writing: a file that is whole or not there.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

/// Writes a file so that `path` holds all of `bytes` or what it held before, also after a crash.
///
/// The bytes go to a temporary file in the same folder, are brought to the disk (`fsync`), and take the
/// name `path` by a rename, which replaces an older file. The folder must be there. A link at `path` is
/// replaced, not followed. A process that is killed meanwhile leaves the temporary file,
/// `.reid-<process>-<number>.tmp`.
///
/// ```
/// let folder = std::env::temp_dir().join("reid-write-atomic");
/// std::fs::create_dir_all(&folder)?;
/// let path = folder.join("report.json");
/// reid_core::write_atomic(&path, b"{}")?;
/// assert_eq!(std::fs::read(&path)?, b"{}");
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// If the operating system refuses a step, or if `path` ends in no file name. The temporary file is then
/// removed, and `path` is as before.
pub fn write_atomic(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    let path = path.as_ref();
    let (draft, mut file) = draft_beside(path)?;
    let written = file
        .write_all(bytes.as_ref())
        .and_then(|()| file.sync_all());
    drop(file); // Windows renames no open file
    written
        .and_then(|()| fs::rename(&draft, path))
        // The first error is the one to report; whether the draft could be removed is not.
        .inspect_err(|_| drop(fs::remove_file(&draft)))?;
    sync_folder_of(path);
    Ok(())
}

/// A new file in the folder of `path`, hence on the same disk.
fn draft_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    if path.file_name().is_none() {
        let kind = io::ErrorKind::InvalidInput;
        return Err(io::Error::new(kind, "the path names no file"));
    }
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Short, so that a file of the longest name can be written too.
        let draft = path.with_file_name(format!(".reid-{}-{number}.tmp", process::id()));
        match File::options().write(true).create_new(true).open(&draft) {
            // Left by a process of the same number that was killed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => return result.map(|file| (draft, file)),
        }
    }
}

/// Brings the new name to the disk. Not every file system can, and the file is whole either way, so a
/// failure is not reported.
fn sync_folder_of(path: &Path) {
    if cfg!(unix) {
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        let synced = File::open(folder.unwrap_or(Path::new("."))).and_then(|file| file.sync_all());
        drop(synced);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        let name = |entry: io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
        let names = entries.map(|entry| name(entry).into_string().expect("Unicode"));
        names.collect()
    }

    #[test]
    fn a_file_is_written_and_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a".repeat(255));
        for text in ["first", "", "second, and longer"] {
            write_atomic(&path, text).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("read"), text);
        }
        assert_eq!(names(folder.path()).len(), 1);
    }

    #[test]
    fn a_failure_leaves_what_was_there_and_no_draft() {
        let folder = tempfile::tempdir().expect("a folder");
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).expect("created");
        write_atomic(&taken, "text").expect_err("a folder is there");
        assert_eq!(names(folder.path()), ["taken"]);

        let nowhere = folder.path().join("no/such/folder/file");
        let error = write_atomic(nowhere, "text").expect_err("no folder");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = write_atomic(folder.path().join(".."), "text").expect_err("no name");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(names(folder.path()), ["taken"]);
    }

    #[test]
    fn whoever_reads_meanwhile_finds_a_whole_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let texts = [1_u8, 2, 3].map(|byte| vec![byte; 100_000]);
        write_atomic(&path, &texts[0]).expect("written");
        thread::scope(|scope| {
            for text in &texts {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..20 {
                        write_atomic(path, text).expect("written");
                    }
                });
            }
            for _ in 0..100 {
                let found = fs::read(&path).expect("always there");
                assert!(texts.contains(&found), "{} bytes", found.len());
            }
        });
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn a_draft_that_was_left_is_not_in_the_way() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let (left, _) = draft_beside(&path).expect("made");
        let number = |path: &Path| {
            let name = path.file_stem().expect("a name").to_str().expect("Unicode");
            name.rsplit('-')
                .next()
                .expect("a number")
                .parse::<u64>()
                .expect("a number")
        };
        // The next numbers of this process are taken, as by one that had the same number before.
        for next in 1..=50 {
            let name = format!(".reid-{}-{}.tmp", process::id(), number(&left) + next);
            fs::write(folder.path().join(name), "left").expect("written");
        }
        write_atomic(&path, "text").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"text");
    }
}
