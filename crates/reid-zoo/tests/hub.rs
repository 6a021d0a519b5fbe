//! Model folders that are downloaded from a server on this machine, which behaves as Hugging Face does.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use burn::tensor::Device;
use reid_core::{InputSize, Seed};
use reid_nn::{Init, Network, attention::AttentionConfig, backbone::OsNetConfig};
use reid_zoo::{Architecture, Embedder, Error, Hub, OsNetReidConfig, weights};
use sha2::{Digest, Sha256};
use tempfile::{TempDir, tempdir};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A server with the files of one model. Every request is answered on a connection of its own.
struct Server {
    endpoint: String,
    requests: Arc<Mutex<Vec<String>>>,
}

/// A file on the server, and the hash that it announces.
#[derive(Clone)]
struct Served {
    bytes: Vec<u8>,
    etag: String,
}

impl Server {
    fn start(files: BTreeMap<&'static str, Served>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            for connection in listener.incoming() {
                answer(connection.expect("a connection"), &files, &seen);
            }
        });
        Self { endpoint, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no panic").clone()
    }
}

fn answer(
    mut connection: TcpStream,
    files: &BTreeMap<&'static str, Served>,
    seen: &Mutex<Vec<String>>,
) {
    let mut lines = BufReader::new(connection.try_clone().expect("a copy")).lines();
    let mut line = || lines.next().and_then(Result::ok).unwrap_or_default();
    let request = line();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut range = None;
    loop {
        let header = line().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(bytes) = header.strip_prefix("range: bytes=") {
            let (first, last) = bytes.split_once('-').expect("a range");
            range = Some((first.parse::<usize>().expect("a number"), last.parse().ok()));
        }
    }
    seen.lock().expect("no panic").push(path.clone());
    let name = path.rsplit('/').next().unwrap_or_default();
    let known =
        ["main", "v1", COMMIT].map(|revision| format!("/owner/name/resolve/{revision}/{name}"));
    let response = match files.get(name).filter(|_| known.contains(&path)) {
        None => {
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec()
        }
        Some(Served { bytes, etag }) => {
            let (first, last) = range.unwrap_or((0, None));
            let end = last.map_or(bytes.len(), |last: usize| (last + 1).min(bytes.len()));
            let (size, part) = (bytes.len(), &bytes[first..end]);
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\nETag: \"{etag}\"\r\nX-Repo-Commit: {COMMIT}\r\n\
                 Content-Range: bytes {first}-{}/{size}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                end.max(1) - 1,
                part.len()
            );
            [head.as_bytes(), part].concat()
        }
    };
    // The client may have closed the connection.
    let _ = connection.write_all(&response);
}

fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// A model folder, and the files as a server has them.
fn model() -> (TempDir, BTreeMap<&'static str, Served>) {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("bare.safetensors");
    let backbone = OsNetConfig::x0_25().with_channels([4, 8, 12, 16]);
    let backbone = backbone.after(&[], AttentionConfig::Chain(Vec::new()));
    let network: Architecture = OsNetReidConfig::from_backbone(backbone).into();
    let (size, device) = (InputSize::new(64, 32), Device::default());
    let model = network.init(size, 3, &Init::new(Seed::new(1), &device));
    weights::save(&model, &path).expect("saved");
    let embedder = Embedder::published_on(&network, &path, size, &device).expect("opened");
    embedder.save(folder.path().join("model")).expect("saved");
    let read = |name: &str| fs::read(folder.path().join("model").join(name)).expect("written");
    let (config, weights) = (read("reid_config.json"), read("weights.safetensors"));
    // Git's hash of a small file, and the SHA-256 of a large one.
    let config = Served {
        bytes: config,
        etag: "a".repeat(40),
    };
    let weights = Served {
        etag: sha256(&weights),
        bytes: weights,
    };
    let files = [
        ("reid_config.json", config),
        ("weights.safetensors", weights),
    ];
    (folder, files.into_iter().collect())
}

fn fingerprint(folder: &Path) -> String {
    let embedder = Embedder::open_on(folder, &Device::default()).expect("a model");
    embedder.fingerprint().expect("known").to_string()
}

#[test]
fn a_model_is_downloaded_once_with_progress() {
    let (folder, files) = model();
    let expected = fingerprint(&folder.path().join("model"));
    let size = files["weights.safetensors"].bytes.len() as u64;
    let server = Server::start(files);
    let cache = folder.path().join("cache/hub");
    let reported = Arc::new(AtomicU64::new(0));
    let last = Arc::clone(&reported);
    let hub = Hub::new(&cache)
        .with_endpoint(format!("{}/", server.endpoint))
        .with_progress(move |file, done, all| {
            if file == "weights.safetensors" {
                assert!(done <= all, "{done} of {all}");
                last.store(done, Ordering::Relaxed);
            }
        });
    let found = hub.download("owner/name").expect("downloaded");
    assert_eq!(fingerprint(&found), expected);
    assert_eq!(reported.load(Ordering::Relaxed), size);
    assert!(found.ends_with(COMMIT), "{}", found.display());
    let requests = server.requests();
    assert_eq!(requests[0], "/owner/name/resolve/main/reid_config.json");
    // The weights are those of the same commit, whatever happens to the branch.
    let weights = format!("/owner/name/resolve/{COMMIT}/weights.safetensors");
    assert_eq!(requests.last(), Some(&weights));

    // The second call, and one for the commit by its hash, need no server.
    let offline = Hub::new(&cache).with_endpoint("http://127.0.0.1:1");
    assert_eq!(offline.download("owner/name").expect("in the cache"), found);
    let by_hash = format!("owner/name@{COMMIT}");
    assert_eq!(offline.download(&by_hash).expect("in the cache"), found);
    assert_eq!(server.requests().len(), requests.len());

    let tagged = hub.download("owner/name@v1").expect("downloaded");
    assert_eq!(tagged, found);
    let request = server.requests()[requests.len()].clone();
    assert_eq!(request, "/owner/name/resolve/v1/reid_config.json");
}

#[test]
fn without_a_connection_the_error_says_what_to_do() {
    let folder = tempdir().expect("a folder");
    let hub = Hub::new(folder.path().join("hub")).with_endpoint("http://127.0.0.1:1");
    let error = hub.download("owner/name").expect_err("no server");
    assert!(matches!(error, Error::Download { .. }), "{error}");
    let text = error.to_string();
    let start = "`owner/name`: reid_config.json cannot be downloaded from http://127.0.0.1:1, and is not in the cache";
    assert!(text.starts_with(start), "{text}");
    assert!(
        text.contains("copy its folder here and open it by `Embedder::open`"),
        "{text}"
    );

    let error = hub.download("name").expect_err("no owner").to_string();
    assert_eq!(
        error,
        "expected the name of a model as `owner/name` or `owner/name@revision`, found `name`"
    );
}

#[test]
fn a_missing_file_is_named() {
    let (folder, mut files) = model();
    files.remove("weights.safetensors");
    let server = Server::start(files);
    let hub = Hub::new(folder.path().join("hub")).with_endpoint(&server.endpoint);
    let error = hub
        .download("owner/name")
        .expect_err("no weights")
        .to_string();
    assert!(
        error.contains("weights.safetensors cannot be downloaded"),
        "{error}"
    );
    assert!(error.contains("404"), "{error}");
    let error = hub
        .download("owner/other")
        .expect_err("no model")
        .to_string();
    assert!(
        error.contains("reid_config.json cannot be downloaded"),
        "{error}"
    );
}

#[test]
fn damaged_weights_are_rejected_and_downloaded_again() {
    let (folder, good) = model();
    let mut bad = good.clone();
    if let Some(weights) = bad.get_mut("weights.safetensors") {
        let last = weights.bytes.len() - 1;
        weights.bytes[last] ^= 1;
    }
    let hub = Hub::new(folder.path().join("hub"));
    let server = Server::start(bad);
    let broken = hub.clone().with_endpoint(&server.endpoint);
    let error = broken.download("owner/name").expect_err("a changed byte");
    assert!(matches!(error, Error::Checksum { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("weights.safetensors: expected the SHA-256"),
        "{error}"
    );

    let server = Server::start(good);
    let found = hub.with_endpoint(&server.endpoint).download("owner/name");
    let expected = fingerprint(&folder.path().join("model"));
    assert_eq!(fingerprint(&found.expect("downloaded")), expected);
}
