//! Atomic writes: a file is written completely or not at all.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

/// Writes a file atomically: even after a crash, `path` holds either all of `bytes` or its previous content.
///
/// The bytes are written to a temporary file in the same folder and flushed to disk (`fsync`). The temporary
/// file is then renamed to `path`, which replaces an existing file. The folder must exist. A symbolic link at
/// `path` is replaced, not followed. If the process is killed during the write, the temporary file
/// `.reid-<process>-<number>.tmp` remains.
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
/// If the operating system reports an error, or if `path` has no file name. The temporary file is then
/// removed, and `path` is unchanged.
pub fn write_atomic(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    let path = path.as_ref();
    let (draft, mut file) = draft_beside(path)?;
    let written = file
        .write_all(bytes.as_ref())
        .and_then(|()| file.sync_all());
    drop(file); // Windows cannot rename an open file.
    rename(&draft, path, written)
}

/// Replaces a file atomically by one that `write` writes, for content that is not held in memory as a whole.
/// `write` is called with the path of an empty temporary file; otherwise as [`write_atomic`].
///
/// # Errors
/// As [`write_atomic`], and the error of `write`.
pub fn replace_atomic(
    path: impl AsRef<Path>,
    write: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let path = path.as_ref();
    let (draft, file) = draft_beside(path)?;
    drop(file); // Windows cannot rename an open file.
    let sync = || File::options().write(true).open(&draft)?.sync_all();
    let written = write(&draft).and_then(|()| sync());
    rename(&draft, path, written)
}

/// Renames a written temporary file to `path`, or removes it after an error.
fn rename(draft: &Path, path: &Path, written: io::Result<()>) -> io::Result<()> {
    written
        .and_then(|()| fs::rename(draft, path))
        // Report the first error; ignore a failure to remove the draft.
        .inspect_err(|_| drop(fs::remove_file(draft)))?;
    sync_folder_of(path);
    Ok(())
}

/// Creates a new file in the folder of `path`, hence on the same file system.
fn draft_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    if path.file_name().is_none() {
        let kind = io::ErrorKind::InvalidInput;
        return Err(io::Error::new(kind, "the path has no file name"));
    }
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Short, because `path` may have the longest name that the file system allows.
        let draft = path.with_file_name(format!(".reid-{}-{number}.tmp", process::id()));
        match File::options().write(true).create_new(true).open(&draft) {
            // Left by a killed process that had the same process ID.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => return result.map(|file| (draft, file)),
        }
    }
}

/// Flushes the folder's entries to disk, so that the rename survives a crash. Not every file system supports
/// this, and the file is complete in any case, so a failure is ignored.
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
    fn writing_and_replacing_leaves_only_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a".repeat(255));
        for text in ["first", "", "second, and longer"] {
            write_atomic(&path, text).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("read"), text);
            replace_atomic(&path, |draft| fs::write(draft, [text, text].concat()))
                .expect("written");
            assert_eq!(
                fs::read_to_string(&path).expect("read"),
                [text, text].concat()
            );
        }
        assert_eq!(names(folder.path()).len(), 1);
    }

    #[test]
    fn a_failure_changes_nothing_and_removes_the_draft() {
        let folder = tempfile::tempdir().expect("a folder");
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).expect("created");
        write_atomic(&taken, "text").expect_err("a folder is there");
        assert_eq!(names(folder.path()), ["taken"]);

        let failing = |draft: &Path| {
            fs::write(draft, "half")?;
            Err(io::Error::other("the disk is full"))
        };
        let error = replace_atomic(folder.path().join("file"), failing).expect_err("half a file");
        assert_eq!(error.to_string(), "the disk is full");
        assert_eq!(names(folder.path()), ["taken"]);

        let nowhere = folder.path().join("no/such/folder/file");
        let error = write_atomic(nowhere, "text").expect_err("no folder");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = write_atomic(folder.path().join(".."), "text").expect_err("no name");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(names(folder.path()), ["taken"]);
    }

    #[test]
    fn concurrent_readers_see_complete_files() {
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
    fn a_draft_left_by_a_killed_process_does_not_block_a_write() {
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
        // Occupy the next draft names, as a killed process with the same process ID might have.
        for next in 1..=50 {
            let name = format!(".reid-{}-{}.tmp", process::id(), number(&left) + next);
            fs::write(folder.path().join(name), "left").expect("written");
        }
        write_atomic(&path, "text").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"text");
    }
}
