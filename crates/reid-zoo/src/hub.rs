//! Hub: downloads model folders from Hugging Face, or from a server with the same interface.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use hf_hub::{
    Cache, Repo, RepoType,
    api::sync::{Api, ApiBuilder},
};

use crate::{
    Embedder,
    embedder::{CONFIG, WEIGHTS},
    error::Error,
    weights::sha256,
};

/// The server of Hugging Face.
const ENDPOINT: &str = "https://huggingface.co";

/// The revision of a model that is named without one.
const MAIN: &str = "main";

impl Embedder {
    /// Opens a model folder of Hugging Face, which is downloaded once: `owner/name`, or `owner/name@revision` with a
    /// branch, a tag or a commit. The device is the one that [`device::pick`](reid_nn::device::pick) selects.
    ///
    /// This is [`open`](Self::open) of the folder that [`Hub::download`] returns, with [`Hub::from_env`]. Needs the
    /// feature `hub`.
    ///
    /// ```no_run
    /// use reid_zoo::Embedder;
    ///
    /// let embedder = Embedder::hub("owner/name@v1")?;
    /// let people = embedder.embed_files(["1.jpg", "2.jpg"])?;
    /// # assert_eq!(people.len(), 2);
    /// # Ok::<(), reid_zoo::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Hub::download`] and [`open`](Self::open).
    pub fn hub(model: &str) -> Result<Self, Error> {
        Self::open(Hub::from_env()?.download(model)?)
    }
}

/// A client of Hugging Face that downloads model folders into a cache. Needs the feature `hub`.
///
/// The cache is that of the Python package `huggingface_hub`, so a model that one of them has downloaded is not
/// downloaded again by the other. A model in the cache is used without a connection. It is not compared with the server:
/// name a revision to get a certain one, or delete the folder in the cache to get a newer `main`.
///
/// ```no_run
/// use reid_zoo::{Embedder, Hub};
///
/// let hub = Hub::from_env()?.with_progress(|file, done, size| eprint!("\r{file}: {done} of {size} bytes"));
/// let embedder = Embedder::open(hub.download("owner/name")?)?;
/// # assert!(embedder.threshold().is_none());
/// # Ok::<(), reid_zoo::Error>(())
/// ```
#[derive(Clone)]
pub struct Hub {
    endpoint: String,
    cache: PathBuf,
    token: Option<String>,
    progress: Arc<Report>,
}

/// A callback with the name of a file, the number of bytes so far and of all bytes.
type Report = dyn Fn(&str, u64, u64) + Send + Sync;

impl Hub {
    /// Creates a client with the settings of the environment, which are those of `huggingface_hub`:
    ///
    /// | variable | meaning | default |
    /// |---|---|---|
    /// | `HF_ENDPOINT` | the server | `https://huggingface.co` |
    /// | `HF_HUB_CACHE`, or else `HF_HOME` with the folder `hub` in it | the cache | `~/.cache/huggingface/hub` |
    /// | `HF_TOKEN` | the token for private models | the file `token` beside the cache |
    ///
    /// # Errors
    /// [`Error::NoCache`] if no variable names the cache and the user has no home folder.
    pub fn from_env() -> Result<Self, Error> {
        let folder = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let home = || env::home_dir().map(|home| home.join(".cache/huggingface"));
        let cache = match (folder("HF_HUB_CACHE"), folder("HF_HOME")) {
            (Some(cache), _) => PathBuf::from(cache),
            (None, Some(home)) => PathBuf::from(home).join("hub"),
            (None, None) => home().ok_or(Error::NoCache)?.join("hub"),
        };
        let text = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let mut hub = Self::new(cache).with_endpoint(endpoint);
        hub.token = text("HF_TOKEN");
        Ok(hub)
    }

    /// Creates a client of Hugging Face with this cache, which is created if it does not exist.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: ENDPOINT.to_owned(),
            cache: cache.into(),
            token: None,
            progress: Arc::new(|_, _, _| {}),
        }
    }

    /// Sets the server, such as a mirror.
    #[must_use]
    pub fn with_endpoint(self, endpoint: impl AsRef<str>) -> Self {
        let endpoint = endpoint.as_ref().trim_end_matches('/').to_owned();
        Self { endpoint, ..self }
    }

    /// Calls `progress` during a download with the name of the file, the number of bytes so far and of all bytes.
    #[must_use]
    pub fn with_progress(
        mut self,
        progress: impl Fn(&str, u64, u64) + Send + Sync + 'static,
    ) -> Self {
        self.progress = Arc::new(progress);
        self
    }

    /// Returns the folder of a model in the cache, after downloading it if it is not there. The name is `owner/name`,
    /// or `owner/name@revision` with a branch, a tag or a commit.
    ///
    /// Both files are of the same commit. The downloaded weights are compared with the SHA-256 that the server
    /// announces, and are removed if they differ.
    ///
    /// # Errors
    /// - [`Error::ModelName`] if the name has another form
    /// - [`Error::Download`] if a file cannot be downloaded, such as without a connection
    /// - [`Error::Checksum`] if the downloaded weights are damaged
    pub fn download(&self, model: &str) -> Result<PathBuf, Error> {
        let name = Name::parse(model).ok_or_else(|| Error::ModelName {
            found: model.to_owned(),
        })?;
        let cache = Cache::new(self.cache.clone()).repo(name.at(name.revision));
        // The cache finds a commit by its hash only if it was downloaded by its hash.
        let commit = cache.pointer_path(name.revision).join(CONFIG);
        let cached = Some(commit).filter(|path| path.is_file());
        let config = match cached.or_else(|| cache.get(CONFIG)) {
            Some(config) => config,
            None => self.fetch(&name, name.revision, CONFIG)?,
        };
        let folder = config.parent().unwrap_or(&config).to_owned();
        let weights = folder.join(WEIGHTS);
        if !weights.is_file() {
            // The folder has the name of its commit. The branch may have moved since.
            let commit = folder.file_name().and_then(|name| name.to_str());
            let weights = self.fetch(&name, commit.unwrap_or(name.revision), WEIGHTS)?;
            verify(&weights)?;
        }
        Ok(folder)
    }

    /// Downloads a file into the cache.
    fn fetch(&self, name: &Name<'_>, revision: &str, file: &str) -> Result<PathBuf, Error> {
        let failed = |reason: String| Error::Download {
            model: name.model.to_owned(),
            file: file.to_owned(),
            endpoint: self.endpoint.clone(),
            cache: self.cache.clone(),
            reason,
        };
        let api = self.api().map_err(|error| failed(error.to_string()))?;
        let progress = Progress {
            report: &*self.progress,
            file: file.to_owned(),
            done: 0,
            size: 0,
        };
        let fetched = api
            .repo(name.at(revision))
            .download_with_progress(file, progress);
        fetched.map_err(|error| failed(error.to_string()))
    }

    fn api(&self) -> Result<Api, hf_hub::api::sync::ApiError> {
        let builder = ApiBuilder::from_cache(Cache::new(self.cache.clone()));
        let builder = builder.with_endpoint(self.endpoint.clone());
        match &self.token {
            Some(token) => builder.with_token(Some(token.clone())).build(),
            None => builder.build(),
        }
    }
}

impl fmt::Debug for Hub {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

/// The parts of a name such as `owner/name@revision`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name<'a> {
    model: &'a str,
    revision: &'a str,
}

impl<'a> Name<'a> {
    /// Parses a name; `None` if it has another form. Names become paths in the cache, so they may not leave it.
    fn parse(text: &'a str) -> Option<Self> {
        let (model, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let is_part = |part: &str| {
            let known = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
            !part.is_empty() && !part.starts_with('.') && part.chars().all(known)
        };
        let (owner, name) = model.split_once('/')?;
        let holds = is_part(owner) && is_part(name) && revision.split('/').all(is_part);
        holds.then_some(Self { model, revision })
    }

    fn at(&self, revision: &str) -> Repo {
        Repo::with_revision(self.model.to_owned(), RepoType::Model, revision.to_owned())
    }
}

/// Compares a downloaded file with the hash that the server announced: the name of the file in the cache, if it is a
/// SHA-256. Small files have other names. Removes a file with another hash, so that it is downloaded again.
fn verify(path: &Path) -> Result<(), Error> {
    let at = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let blob = fs::canonicalize(path).map_err(at)?;
    let expected = blob.file_name().and_then(|name| name.to_str());
    let is_hash =
        |name: &&str| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let Some(expected) = expected.filter(is_hash) else {
        return Ok(());
    };
    let found = sha256(&fs::read(&blob).map_err(at)?);
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    let expected = expected.to_owned();
    fs::remove_file(path).map_err(at)?;
    fs::remove_file(&blob).map_err(at)?;
    Err(Error::Checksum {
        path: path.to_owned(),
        expected,
        found,
    })
}

/// Passes the progress of a download on.
struct Progress<'a> {
    report: &'a Report,
    file: String,
    done: u64,
    size: u64,
}

impl hf_hub::api::Progress for Progress<'_> {
    fn init(&mut self, size: usize, _filename: &str) {
        (self.done, self.size) = (0, size as u64);
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        (self.report)(&self.file, self.done, self.size);
    }

    fn finish(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_an_owner_and_perhaps_a_revision_and_stays_in_the_cache() {
        let parse = |text| Name::parse(text).map(|name| (name.model, name.revision));
        assert_eq!(parse("owner/name"), Some(("owner/name", "main")));
        assert_eq!(parse("o-1/n_2.3@v1.0"), Some(("o-1/n_2.3", "v1.0")));
        assert_eq!(
            parse("owner/name@refs/pr/1"),
            Some(("owner/name", "refs/pr/1"))
        );
        for text in [
            "",
            "name",
            "a/b/c",
            "/b",
            "a/",
            "a/..",
            "../b",
            "a/b@",
            "a/b@../c",
            "a/b@/c",
            "a/b@c d",
            "a\\b/c",
            "https://a/b",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
