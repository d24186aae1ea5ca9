//! Charts over a network: what was used before is used again or refused, before anything is written to a cluster.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use insta::assert_snapshot;
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};
use sha2::{Digest, Sha256};

use crate::kit::{Inventory, Session, World};

const CHARTS: [&str; 3] = ["base", "istiod", "gateway"];

/// A chart repository, with or without TLS; also a proxy that answers for every host.
struct Repository {
    at: SocketAddr,
    shelf: Arc<Mutex<Shelf>>,
    /// The certificate of whoever signed its own.
    authority: String,
}

#[derive(Default)]
struct Shelf {
    pages: BTreeMap<String, Vec<u8>>,
    /// Only this login gets anything.
    login: Option<String>,
    /// What was asked, as `CONNECT charts.example:443` or `GET /index.yaml`.
    asked: Vec<String>,
}

trait Both: Read + Write {}
impl<T: Read + Write> Both for T {}

impl Repository {
    fn new(tls: bool) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (config, authority) = certified();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let shelf = Arc::new(Mutex::new(Shelf::default()));
        let shared = shelf.clone();
        // It ends with the process; a test that is over asks it nothing.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, shelf) = (config.clone(), shared.clone());
                thread::spawn(move || serve(stream, tls, &config, &shelf));
            }
        });
        Self {
            at,
            shelf,
            authority,
        }
    }

    /// The charts of a sandbox, as its user can download them.
    fn of(user: &Session, source: &str) -> Self {
        let repository = Self::new(false);
        user.run(&format!("chart pull --repo {source} -d pulled"))
            .ends(0);
        for chart in CHARTS {
            let path = user.here().join(format!("pulled/{chart}-1.31.4.tgz"));
            repository.put(chart, fs::read(path).unwrap(), None);
        }
        repository
    }

    fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    /// Publishes an archive, with the digest it has or another.
    fn put(&self, chart: &str, archive: Vec<u8>, promised: Option<&str>) {
        let digest: String = Sha256::digest(&archive)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let digest = promised.unwrap_or(&digest);
        let entry = format!(
            "  {chart}:\n    - {{name: {chart}, version: 1.31.4, digest: {digest}, urls: [{chart}-1.31.4.tgz]}}\n"
        );
        let mut shelf = self.shelf.lock().unwrap();
        shelf.pages.insert(format!("/{chart}-1.31.4.tgz"), archive);
        shelf.pages.insert(format!("entry {chart}"), entry.into());
        let entries = shelf
            .pages
            .iter()
            .filter(|(name, _)| name.starts_with("entry "));
        let entries: Vec<u8> = entries.flat_map(|(_, text)| text.clone()).collect();
        let index = [b"apiVersion: v1\nentries:\n".as_slice(), &entries].concat();
        shelf.pages.insert("/index.yaml".into(), index);
    }

    fn archive(&self, chart: &str) -> Vec<u8> {
        self.shelf.lock().unwrap().pages[&format!("/{chart}-1.31.4.tgz")].clone()
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.shelf.lock().unwrap().asked)
    }
}

fn serve(mut stream: TcpStream, tls: bool, config: &Arc<ServerConfig>, shelf: &Mutex<Shelf>) {
    let secure = |stream: TcpStream| {
        let session = ServerConnection::new(config.clone()).unwrap();
        Box::new(StreamOwned::new(session, stream)) as Box<dyn Both>
    };
    if tls {
        return answer(secure(stream), shelf);
    }
    // A tunnel is asked for in the clear, and what is in it is not.
    let mut first = [0; 8];
    while stream.peek(&mut first).is_ok_and(|n| n < 8 && n > 0) {}
    if &first != b"CONNECT " {
        return answer(Box::new(stream), shelf);
    }
    let (line, _) = head(&mut BufReader::new(stream.try_clone().unwrap()));
    shelf
        .lock()
        .unwrap()
        .asked
        .push(line.rsplit_once(' ').unwrap().0.to_owned());
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    answer(secure(stream), shelf);
}

fn answer(stream: Box<dyn Both>, shelf: &Mutex<Shelf>) {
    let mut stream = BufReader::new(stream);
    let (line, login) = head(&mut stream);
    let Some(target) = line.split(' ').nth(1) else {
        return;
    };
    let mut shelf = shelf.lock().unwrap();
    shelf.asked.push(format!("GET {target}"));
    // A proxy is asked for whole URLs.
    let path = target
        .strip_prefix("http://charts.example")
        .unwrap_or(target);
    let page = shelf.pages.get(path).cloned();
    let (status, body) = match page {
        _ if shelf.login.is_some() && login != shelf.login => ("401 Unauthorized", vec![]),
        Some(page) => ("200 OK", page),
        None => ("404 Not Found", vec![]),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    // A client that goes away has what it wants.
    let stream = stream.get_mut();
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(&body));
    let _ = stream.flush();
}

/// The request's line, and the login it carries.
fn head(stream: &mut impl BufRead) -> (String, Option<String>) {
    let (mut first, mut login) = (String::new(), None);
    for line in stream
        .lines()
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
    {
        if let Some(("authorization", value)) = line.split_once(": ") {
            login = Some(value.to_owned());
        }
        if first.is_empty() {
            first = line;
        }
    }
    (first, login)
}

/// A server for `charts.example` and this machine, and the authority that signed it.
fn certified() -> (Arc<ServerConfig>, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "an authority of a test");
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(params, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names = ["charts.example", "127.0.0.1"].map(str::to_owned);
    let leaf = rcgen::CertificateParams::new(names).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    (Arc::new(config), authority)
}

/// A chart's archive with one of its files replaced.
fn replaced(archive: &[u8], file: &str, text: &str) -> Vec<u8> {
    let mut reader = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    let gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    let mut writer = tar::Builder::new(gzip);
    let mut found = false;
    for entry in reader.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let mut bytes = vec![];
        entry.read_to_end(&mut bytes).unwrap();
        if path.ends_with(file) {
            bytes = text.into();
            found = true;
        }
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        writer
            .append_data(&mut header, path, bytes.as_slice())
            .unwrap();
    }
    assert!(found, "{file}");
    writer.into_inner().unwrap().finish().unwrap()
}

fn both(world: &World) -> [Inventory; 2] {
    [world.inventory("eks-1"), world.inventory("eks-2")]
}

/// Two clusters, a mesh file, and a repository that is not the sandbox's own.
fn world() -> (World, Repository) {
    let world = World::new(2);
    let repository = Repository::of(&world.user, &world.endpoints().charts);
    let mesh = "clusters:\n- name: eks-1\n- name: eks-2\n";
    fs::write(world.user.here().join("mesh.yaml"), mesh).unwrap();
    (world, repository)
}

#[test]
fn what_a_join_used_is_written_down_and_checked_ever_after() {
    let (world, repository) = world();
    let with = format!("-f mesh.yaml --charts {}", repository.url());
    let lock = world.user.here().join("meshlink.lock");
    world.run(&format!("plan {with}")).ends(10);
    assert!(!lock.exists(), "a plan writes nothing");
    world.run(&format!("join {with}")).ends(0);
    let text = fs::read_to_string(&lock).unwrap();
    for word in [
        "chart: base",
        "chart: istiod",
        "chart: gateway",
        "version: \"1.31.4\"",
        "pilot:1.31.4",
    ] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
    // What is written down is in the cache: nothing is asked, and nothing can be changed on its way.
    repository.asked();
    world.run(&format!("plan {with}")).ends(0);
    assert_eq!(repository.asked(), [""; 0]);

    // Somebody puts another archive there, with an index to match.
    let cache = world.user.home().join(".cache");
    let istiod = repository.archive("istiod");
    let evil = replaced(&istiod, "values.yaml", "evil: true\n");
    repository.put("istiod", evil.clone(), None);
    fs::remove_dir_all(&cache).unwrap();
    let before = both(&world);
    let answer = world.run(&format!("join {with}")).ends(5);
    assert_snapshot!(answer, @"
    exit 5
    --- stderr ---
    error: chart istiod 1.31.4 from http://127.0.0.1:[PORT] has sha256
           [HASH], but
           meshlink.lock holds
           [HASH]
      hint: a published version does not change: ask its publisher, or take the
            chart from where it came before
      hint: meshlink chart lock istiod --version 1.31.4 --repo http://127.0.0.1:[PORT] --lock meshlink.lock --update   # only if the change is meant
    ");
    for command in ["plan", "render --out gitops"] {
        world
            .run(&format!("{command} {with}"))
            .ends(5)
            .says("meshlink.lock");
    }
    // Or another archive alone.
    repository.put("istiod", evil, Some(&hex(&istiod)));
    world
        .run(&format!("plan {with}"))
        .ends(5)
        .says("was promised");
    assert_eq!(before, both(&world));
    assert_eq!(text, fs::read_to_string(&lock).unwrap());
    // The right one is welcome again.
    repository.put("istiod", istiod, None);
    world.run(&format!("plan {with}")).ends(0);
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

#[test]
fn without_a_mesh_file_the_lock_lies_with_the_journal() {
    let (world, repository) = world();
    let join = format!("join eks-1 eks-2 --charts {}", repository.url());
    world.run(&join).ends(0);
    let state = world
        .user
        .home()
        .join(".local/state/meshlink-sandbox/mesh/meshlink.lock");
    assert!(fs::read_to_string(state).unwrap().contains("chart: istiod"));
    assert!(!world.user.here().join("meshlink.lock").exists());
}

#[test]
fn a_chart_that_does_not_render_stops_a_join_before_it_begins() {
    let (world, repository) = world();
    let with = format!("-f mesh.yaml --charts {}", repository.url());
    let text = "kind: ConfigMap\nmetadata:\n  name: {{ .Values.global.no.such }}\n";
    let broken = replaced(&repository.archive("istiod"), "templates/config.yaml", text);
    repository.put("istiod", broken, None);
    let before = both(&world);
    let answer = world.run(&format!("join {with}")).ends(1);
    assert_snapshot!(answer, @"
    exit 1
    --- stderr ---
    error: cannot compute what the clusters should hold
      caused by 1: cluster eks-1: chart istiod does not render
      caused by 2: chart istiod: istiod/templates/config.yaml:3:12: nil pointer
                   evaluating interface {}.such (value .Values.global.no.such)
      hint: look at .Values.global.no.such among the values given to chart istiod
    ");
    repository.put("istiod", b"no archive".to_vec(), None);
    world
        .run(&format!("join {with}"))
        .ends(5)
        .says("refused to unpack");
    assert_eq!(before, both(&world));
    assert!(!world.user.here().join("meshlink.lock").exists());
}

/// A user whose charts are behind TLS of a private authority and a login.
fn private() -> (Session, Repository) {
    let repository = Repository::new(true);
    let user = Session::new();
    let chart = user.here().join("app");
    fs::create_dir_all(chart.join("templates")).unwrap();
    fs::write(
        chart.join("Chart.yaml"),
        "apiVersion: v2\nname: app\nversion: 1.31.4\n",
    )
    .unwrap();
    fs::write(chart.join("values.yaml"), "a: 1\n").unwrap();
    user.run("chart pull app").ends(0);
    repository.put(
        "app",
        fs::read(user.here().join("app-1.31.4.tgz")).unwrap(),
        None,
    );
    fs::remove_dir_all(chart).unwrap();
    fs::write(user.here().join("ca.pem"), &repository.authority).unwrap();
    (user, repository)
}

#[test]
fn a_private_authority_is_trusted_when_it_is_named() {
    let (user, repository) = private();
    let ask = format!("chart values app --repo https://{}", repository.at);
    let answer = user.run(&ask).ends(1);
    assert!(answer.stderr.contains("certificate"), "{answer}");
    let ca = user.here().join("ca.pem");
    let user = user.var("SSL_CERT_FILE", ca.to_str().unwrap());
    assert_eq!(user.run(&ask).ends(0).stdout, "a: 1\n");
    // What was fetched once needs no network.
    drop(repository);
    assert_eq!(
        user.run(&format!("{ask} --offline")).ends(0).stdout,
        "a: 1\n"
    );
}

#[test]
fn logins_of_helm_and_docker_are_used() {
    let (user, repository) = private();
    let ca = user.here().join("ca.pem");
    let user = user.var("SSL_CERT_FILE", ca.to_str().unwrap());
    let login = STANDARD.encode("jo:s3cret");
    repository.shelf.lock().unwrap().login = Some(format!("Basic {login}"));
    let ask = format!("chart values app --repo https://{}", repository.at);
    user.run(&ask)
        .ends(1)
        .says("answered 401")
        .says("helm repo add");
    let helm = user.home().join(".config/helm");
    fs::create_dir_all(&helm).unwrap();
    let list = format!(
        "repositories:\n- {{name: r, url: 'https://{}', username: jo, password: s3cret}}\n",
        repository.at
    );
    fs::write(helm.join("repositories.yaml"), list).unwrap();
    assert_eq!(user.run(&ask).ends(0).stdout, "a: 1\n");
    fs::remove_dir_all(helm).unwrap();
    user.run(&ask).ends(1);
    let docker = user.home().join(".docker");
    fs::create_dir_all(&docker).unwrap();
    let list = format!(
        "{{\"auths\": {{\"{}\": {{\"auth\": \"{login}\"}}}}}}",
        repository.at
    );
    fs::write(docker.join("config.json"), list).unwrap();
    assert_eq!(user.run(&ask).ends(0).stdout, "a: 1\n");
    fs::write(docker.join("config.json"), "s3cret").unwrap();
    let answer = user.run(&ask).ends(1).says("config.json");
    assert!(!answer.to_string().contains("s3cret"), "{answer}");
}

#[test]
fn proxies_are_gone_through() {
    let (user, repository) = private();
    let tls = Repository::new(false);
    let pages = std::mem::take(&mut repository.shelf.lock().unwrap().pages);
    tls.shelf.lock().unwrap().pages = pages;
    fs::write(user.here().join("ca.pem"), &tls.authority).unwrap();
    let ca = user.here().join("ca.pem");
    let user = user
        .var("SSL_CERT_FILE", ca.to_str().unwrap())
        .var("HTTPS_PROXY", &tls.url())
        .var("http_proxy", &tls.url());
    let plain = user
        .run("chart values app --repo http://charts.example")
        .ends(0);
    assert_eq!(plain.stdout, "a: 1\n");
    assert_eq!(
        tls.asked(),
        [
            "GET http://charts.example/index.yaml",
            "GET http://charts.example/app-1.31.4.tgz"
        ]
    );
    user.run("chart values app --repo https://charts.example")
        .ends(0);
    let asked = tls.asked();
    assert_eq!(asked[0], "CONNECT charts.example:443");
    assert!(asked.contains(&"GET /index.yaml".to_owned()), "{asked:?}");
    let user = user.var("NO_PROXY", "charts.example");
    user.run("chart values app --repo https://charts.example")
        .ends(1);
    assert_eq!(tls.asked(), [""; 0]);
}
