//! Fetching, from a server on loopback that answers what each test wants.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{archive::tests::pack, lock::Entry};

/// A request: its path, and what it brought as a login.
#[derive(Debug, Clone)]
struct Asked {
    target: String,
    authorization: Option<String>,
}

type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);
type Handler = dyn Fn(&Asked) -> Answer + Send + Sync;

struct Server {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (handler, log): (Arc<Handler>, _) = (Arc::new(handler), asked.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, handler.clone(), log.clone()));
            }
        });
        Self {
            address,
            asked,
            task,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn targets(&self) -> Vec<String> {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .map(|asked| asked.target.clone())
            .collect()
    }
}

async fn answer(mut stream: TcpStream, handler: Arc<Handler>, log: Arc<Mutex<Vec<Asked>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let header = |name: &str| {
        let line = head
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let asked = Asked {
        target: head.split_whitespace().nth(1).unwrap().to_owned(),
        authorization: header("authorization"),
    };
    log.lock().unwrap().push(asked.clone());
    let (status, headers, body) = handler(&asked);
    let mut text = format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n",
        body.len()
    );
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let _ = stream.write_all(format!("{text}\r\n").as_bytes()).await;
    let _ = stream.write_all(&body).await;
}

fn chart(version: &str) -> Vec<u8> {
    pack(&[(
        "app/Chart.yaml",
        tar::EntryType::Regular,
        &format!("name: app\nversion: {version}\n"),
    )])
}

fn digest(bytes: &[u8]) -> String {
    archive::hex(archive::sha256(bytes))
}

fn ok(body: impl Into<Vec<u8>>) -> Answer {
    (200, Vec::new(), body.into())
}

fn index(digest: &str) -> String {
    format!(
        "entries:\n  app:\n  - {{version: 1.2.0, digest: {digest}, urls: [app-1.2.0.tgz]}}\n  - {{version: 1.10.0-rc.1, urls: [x.tgz]}}\n  - {{version: 1.9.0, urls: [y.tgz]}}\n"
    )
}

/// A repository with one chart, whose index promises `promised`, or the truth.
async fn repository(promised: Option<String>) -> Server {
    let bytes = chart("1.2.0");
    let promised = promised.unwrap_or_else(|| digest(&bytes));
    Server::start(move |asked| match asked.target.as_str() {
        "/index.yaml" => ok(index(&promised)),
        "/app-1.2.0.tgz" => ok(bytes.clone()),
        _ => (404, Vec::new(), Vec::new()),
    })
    .await
}

async fn get(url: &str, version: &str, options: &FetchOptions) -> Result<Fetched, Error> {
    fetch(&url.parse()?, "app", version, options).await
}

#[tokio::test]
async fn a_repository_gives_what_its_index_promises() {
    let server = repository(None).await;
    let fetched = get(&server.url(), "v1.2.0", &FetchOptions::default())
        .await
        .unwrap();
    assert_eq!(
        (fetched.chart.metadata.version.as_str(), fetched.origin),
        ("1.2.0", server.url())
    );
    assert_eq!(fetched.sha256, digest(&chart("1.2.0")));
    assert_eq!(server.targets(), ["/index.yaml", "/app-1.2.0.tgz"]);

    let error = get(&server.url(), "7.0.0", &FetchOptions::default())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("has no chart app 7.0.0, only 1.10.0-rc.1, 1.9.0, 1.2.0"),
        "{error}"
    );
}

#[tokio::test]
async fn a_changed_archive_is_refused() {
    let server = repository(Some("a".repeat(64))).await;
    let error = get(&server.url(), "1.2.0", &FetchOptions::default())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
}

#[tokio::test]
async fn what_the_lock_does_not_hold_is_refused() {
    let server = repository(None).await;
    let mut lock = Lock {
        path: "meshlink.lock".into(),
        charts: Vec::new(),
    };
    lock.put(Entry {
        chart: "app".into(),
        version: "1.2.0".into(),
        sha256: "b".repeat(64),
        ..Entry::default()
    });
    let options = FetchOptions {
        lock: Some(lock),
        ..FetchOptions::default()
    };
    let error = get(&server.url(), "1.2.0", &options).await.unwrap_err();
    assert!(
        matches!(&error, Error::Locked { locked, .. } if *locked == "b".repeat(64)),
        "{error}"
    );
}

#[tokio::test]
async fn the_cache_serves_offline_and_notices_damage() {
    let server = repository(None).await;
    let folder = tempfile::tempdir().unwrap();
    let online = FetchOptions {
        cache: Some(folder.path().to_owned()),
        ..FetchOptions::default()
    };
    let offline = FetchOptions {
        offline: true,
        ..online.clone()
    };
    assert!(matches!(
        get(&server.url(), "1.2.0", &offline).await,
        Err(Error::Offline { .. })
    ));
    get(&server.url(), "1.2.0", &online).await.unwrap();
    get(&server.url(), "1.2.0", &offline).await.unwrap();
    // Online only the index is asked again.
    get(&server.url(), "1.2.0", &online).await.unwrap();
    assert_eq!(
        server.targets(),
        ["/index.yaml", "/app-1.2.0.tgz", "/index.yaml"]
    );

    let blob = folder
        .path()
        .join("charts")
        .join(format!("{}.tgz", digest(&chart("1.2.0"))));
    std::fs::write(&blob, b"damaged").unwrap();
    assert!(matches!(
        get(&server.url(), "1.2.0", &offline).await,
        Err(Error::Offline { .. })
    ));
    let left = std::fs::read_dir(folder.path().join("charts"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with('.'))
        .count();
    assert_eq!(left, 0, "a temporary file was left behind");
}

#[tokio::test]
async fn logins_stay_with_their_host() {
    let bytes = chart("1.2.0");
    let elsewhere = Server::start(move |_| ok(bytes.clone())).await;
    let far = elsewhere.url().replace("127.0.0.1", "localhost");
    let server = Server::start(move |asked| match asked.authorization.as_deref() {
        Some("Basic am86czNjcmV0") if asked.target == "/index.yaml" => ok(format!(
            "entries: {{app: [{{version: 1.2.0, urls: ['{far}/x.tgz']}}]}}"
        )),
        _ => (401, Vec::new(), Vec::new()),
    })
    .await;
    let error = get(&server.url(), "1.2.0", &FetchOptions::default())
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Status { status: 401, .. }),
        "{error}"
    );
    let options = FetchOptions {
        credentials: vec![Credential::new(&server.address, "jo", "s3cret")],
        ..FetchOptions::default()
    };
    get(&server.url(), "1.2.0", &options).await.unwrap();
    assert!(elsewhere.asked.lock().unwrap()[0].authorization.is_none());
}

#[tokio::test]
async fn redirects_are_followed_without_the_login() {
    let real = repository(None).await;
    let to = real.url().replace("127.0.0.1", "localhost");
    let server = Server::start(move |asked| {
        (
            302,
            vec![("location", format!("{to}{}", asked.target))],
            Vec::new(),
        )
    })
    .await;
    let options = FetchOptions {
        credentials: vec![Credential::new(&server.address, "jo", "s3cret")],
        ..FetchOptions::default()
    };
    get(&server.url(), "1.2.0", &options).await.unwrap();
    assert!(
        real.asked
            .lock()
            .unwrap()
            .iter()
            .all(|asked| asked.authorization.is_none())
    );
    let around =
        Server::start(|_| (302, vec![("location", "/again".to_owned())], Vec::new())).await;
    let error = get(&around.url(), "1.2.0", &FetchOptions::default())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Request { .. }), "{error}");
}

#[tokio::test]
async fn a_slow_or_endless_server_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let options = FetchOptions {
        timeout: Duration::from_millis(50),
        ..FetchOptions::default()
    };
    let error = get(&url, "1.2.0", &options).await.unwrap_err();
    assert!(matches!(error, Error::Slow { .. }), "{error}");

    let index = "entries: {app: [{version: 1.2.0, urls: [big.tgz]}]}".to_owned();
    let server = Server::start(move |asked| {
        ok(if asked.target == "/index.yaml" {
            index.clone().into_bytes()
        } else {
            vec![0; repository::ARCHIVE + 1]
        })
    })
    .await;
    let error = get(&server.url(), "1.2.0", &FetchOptions::default())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

/// A registry that wants a token before it shows anything.
async fn registry() -> Server {
    let bytes = chart("1.2.0+b.1");
    let layer = digest(&bytes);
    let address = Arc::new(Mutex::new(String::new()));
    let realm = address.clone();
    let server = Server::start(move |asked| {
        let denied = || {
            let realm = realm.lock().unwrap().clone();
            (401, vec![("www-authenticate", format!("Bearer realm=\"http://{realm}/token\",service=\"reg\",scope=\"repository:charts/app:pull\""))], Vec::new())
        };
        if asked.target.starts_with("/token") {
            assert_eq!(asked.target, "/token?service=reg&scope=repository:charts/app:pull");
            return match asked.authorization.as_deref() {
                Some("Basic am86czNjcmV0") => ok(r#"{"token": "t0ken"}"#),
                _ => (403, Vec::new(), Vec::new()),
            };
        }
        if asked.authorization.as_deref() != Some("Bearer t0ken") {
            return denied();
        }
        match asked.target.as_str() {
            "/v2/charts/app/manifests/1.2.0_b.1" => ok(format!(r#"{{"layers": [{{"mediaType": "application/vnd.cncf.helm.chart.provenance.v1.prov", "digest": "sha256:x"}}, {{"mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip", "digest": "sha256:{layer}"}}]}}"#)),
            "/v2/charts/app/tags/list" => ok(r#"{"tags": ["1.2.0_b.1", "1.1.0", "latest"]}"#),
            target if target == format!("/v2/charts/app/blobs/sha256:{layer}") => ok(bytes.clone()),
            _ => (404, Vec::new(), Vec::new()),
        }
    })
    .await;
    address.lock().unwrap().clone_from(&server.address);
    server
}

/// A redirect leads to somebody who asks for a login: it is the registry's, and not theirs.
#[tokio::test]
async fn a_registry_login_does_not_follow_a_redirect() {
    let challenge = |realm: String| {
        let header = format!("Bearer realm=\"{realm}/token\",service=\"s\"");
        (401, vec![("www-authenticate", header)], Vec::new())
    };
    let own = Arc::new(Mutex::new(String::new()));
    let realm = own.clone();
    let elsewhere = Server::start(move |asked| match asked.target.starts_with("/token") {
        true => ok(r#"{"token": "t0ken"}"#),
        false => challenge(format!("http://{}", realm.lock().unwrap())),
    })
    .await;
    own.lock().unwrap().clone_from(&elsewhere.address);
    let to = elsewhere.url();
    let server = Server::start(move |asked| {
        let to = format!("{to}{}", asked.target);
        (307, vec![("location", to)], Vec::new())
    })
    .await;
    let options = FetchOptions {
        credentials: vec![Credential::new(&server.address, "jo", "s3cret")],
        ..FetchOptions::default()
    };
    let url = format!("oci://{}/charts", server.address);
    let error = get(&url, "1.2.0", &options).await.unwrap_err();
    assert!(error.to_string().contains("for that host alone"), "{error}");
    let asked = elsewhere.asked.lock().unwrap();
    assert!(asked.iter().all(|asked| asked.authorization.is_none()));
}

/// A token service elsewhere sees the login only if a configuration of logins names it too.
#[tokio::test]
async fn a_registry_login_is_for_its_own_token_service() {
    for named in [false, true] {
        let tokens = Server::start(move |asked| {
            let known = asked.authorization.is_some();
            assert_eq!(known, named, "{:?}", asked.target);
            ok(r#"{"token": "t0ken"}"#)
        })
        .await;
        let realm = tokens.url();
        let server = Server::start(move |_| {
            let header = format!("Bearer realm=\"{realm}/token\",service=\"s\"");
            (401, vec![("www-authenticate", header)], Vec::new())
        })
        .await;
        let mut credentials = vec![Credential::new(&server.address, "jo", "s3cret")];
        credentials.extend(named.then(|| Credential::new(&tokens.address, "jo", "s3cret")));
        let options = FetchOptions {
            credentials,
            ..FetchOptions::default()
        };
        let url = format!("oci://{}/charts", server.address);
        get(&url, "1.2.0", &options).await.unwrap_err();
        let asked = tokens.asked.lock().unwrap();
        let seen = asked.iter().filter(|asked| asked.authorization.is_some());
        assert_eq!(seen.count() > 0, named);
        assert!(!asked.is_empty());
    }
}

#[tokio::test]
async fn a_registry_is_asked_with_a_token() {
    let server = registry().await;
    let url = format!("oci://{}/charts", server.address);
    let options = FetchOptions {
        credentials: vec![Credential::new(&server.address, "jo", "s3cret")],
        ..FetchOptions::default()
    };
    let fetched = get(&url, "1.2.0+b.1", &options).await.unwrap();
    assert_eq!(fetched.sha256, digest(&chart("1.2.0+b.1")));
    let newest = get(&url, "", &options).await.unwrap();
    assert_eq!(newest.chart.metadata.version, "1.2.0+b.1");
    let error = get(&url, "9.0.0", &options).await.unwrap_err().to_string();
    assert!(error.contains("only 1.2.0+b.1, 1.1.0"), "{error}");
    let error = get(&url, "1.2.0+b.1", &FetchOptions::default())
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Status { status: 403, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn folders_and_archives_need_no_network() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("app/templates")).unwrap();
    std::fs::write(
        folder.path().join("app/Chart.yaml"),
        "name: app\nversion: 0.1.0\n",
    )
    .unwrap();
    for version in ["1.0.0", "1.2.0"] {
        std::fs::write(
            folder.path().join(format!("app-{version}.tgz")),
            chart(version),
        )
        .unwrap();
    }
    let options = FetchOptions {
        offline: true,
        ..FetchOptions::default()
    };
    let version = async |source: &str, version: &str| {
        get(source, version, &options)
            .await
            .map(|fetched| fetched.chart.metadata.version)
    };
    let root = folder.path().to_str().unwrap();
    assert_eq!(version(root, "").await.unwrap(), "0.1.0");
    assert_eq!(
        version(&format!("{root}/app"), "0.1.0").await.unwrap(),
        "0.1.0"
    );
    assert_eq!(
        version(&format!("{root}/app-1.0.0.tgz"), "").await.unwrap(),
        "1.0.0"
    );
    assert!(matches!(
        version(&format!("{root}/app-1.0.0.tgz"), "1.2.0").await,
        Err(Error::NotFound { .. })
    ));
    std::fs::remove_dir_all(folder.path().join("app")).unwrap();
    assert_eq!(version(root, "").await.unwrap(), "1.2.0");
    assert_eq!(version(root, "1.0.0").await.unwrap(), "1.0.0");
    assert!(matches!(
        fetch(&root.parse().unwrap(), "../app", "", &options).await,
        Err(Error::Source { .. })
    ));
}
