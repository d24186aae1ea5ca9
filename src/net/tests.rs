use http_body_util::{BodyExt as _, Empty};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{testing::Recorder, *};

fn network(https: &str, none: &str) -> Network {
    Network::new(Proxies {
        https: Some(https.into()),
        none: Some(none.into()),
        ..Proxies::default()
    })
}

fn is_direct(network: &Network, server: &str) -> bool {
    let proxy = network.proxy(&server.parse().unwrap()).unwrap();
    proxy.is_none()
}

#[test]
fn what_no_proxy_means() {
    for (entry, direct, proxied) in [
        ("", &[][..], &["a.example", "10.0.0.1", "[fd00::1]"][..]),
        ("*", &["a.example", "10.0.0.1", "[fd00::1]:6443"], &[]),
        (
            "example.com",
            &["example.com", "api.EXAMPLE.com", "example.com:6443"],
            &["notexample.com", "example.org"],
        ),
        (".corp", &["api.corp", "a.b.corp:443"], &["notcorp"]),
        ("*.corp", &["api.corp", "a.b.corp:443"], &["notcorp"]),
        (
            "10.0.0.0/8",
            &["10.1.2.3", "10.1.2.3:6443"],
            &["11.1.2.3", "[::a01:203]"],
        ),
        (
            "fd00::/8",
            &["[fd12::1]", "[fd12::1]:6443"],
            &["[fe80::1]", "10.0.0.1"],
        ),
        (
            "192.168.7.7",
            &["192.168.7.7", "192.168.7.7:6443"],
            &["192.168.7.8"],
        ),
        (
            "192.168.7.7:6443",
            &["192.168.7.7:6443"],
            &["192.168.7.7", "192.168.7.8:6443"],
        ),
        (
            "named:6443",
            &["named:6443", "a.named:6443"],
            &["named", "named:443"],
        ),
        ("named:443", &["named", "named:443"], &["named:6443"]),
        ("fd00::7", &["[fd00::7]", "[fd00::7]:6443"], &["[fd00::8]"]),
        ("[fd00::7]", &["[fd00::7]:6443"], &["[fd00::8]"]),
        (
            "[fd00::7]:6443",
            &["[fd00::7]:6443"],
            &["[fd00::7]", "[fd00::8]:6443"],
        ),
        (
            "*:6443",
            &["a.example:6443", "10.0.0.1:6443"],
            &["a.example"],
        ),
        (
            " a.example , named:6443,,10.0.0.0/8",
            &["a.example:6443", "a.example", "named:6443", "10.1.2.3:6443"],
            &["named", "b.example:6443"],
        ),
    ] {
        let network = network("http://proxy:3128", entry);
        for server in direct {
            assert!(
                is_direct(&network, &format!("https://{server}")),
                "{entry}: {server}"
            );
        }
        for server in proxied {
            assert!(
                !is_direct(&network, &format!("https://{server}")),
                "{entry}: {server}"
            );
        }
    }
}

#[test]
fn loopback_is_always_reached_directly() {
    let network = network("http://proxy:3128", "");
    for server in [
        "localhost:6443",
        "127.0.0.1:6443",
        "127.1.2.3",
        "[::1]:6443",
    ] {
        assert!(
            is_direct(&network, &format!("https://{server}")),
            "{server}"
        );
    }
}

#[test]
fn each_scheme_has_its_proxy_and_all_proxy_stands_in() {
    let proxies = Proxies {
        https: Some("one:3128".into()),
        http: None,
        all: Some("socks5h://jo:hush@two:1080".into()),
        none: None,
    };
    assert!(!format!("{proxies:?}").contains("hush"));
    let network = Network::new(proxies);
    let of = |server: &str| {
        let proxy = network.proxy(&server.parse().unwrap()).unwrap();
        proxy.unwrap().to_string()
    };
    assert_eq!(of("https://a.example"), "http://one:3128/");
    assert_eq!(of("http://a.example"), "socks5://jo:hush@two:1080/");
    assert!(!format!("{network:?}").contains("hush"));
}

#[test]
fn what_is_no_proxy_is_told_where_it_matters_and_not_shown() {
    for (value, why) in [
        ("ftp://jo:hush@p", "ftp proxy is not supported"),
        ("http://jo:hu sh@p", "special characters"),
        ("http://", "empty"),
        ("socks4://p", "socks4 proxy is not supported"),
    ] {
        let network = network(value, "a.example");
        assert!(is_direct(&network, "https://a.example"));
        assert!(is_direct(&network, "http://b.example"));
        let error = network.proxy(&"https://b.example".parse().unwrap());
        let text = error.unwrap_err().to_string();
        assert!(
            text.starts_with("HTTPS_PROXY names no usable proxy: "),
            "{text}"
        );
        assert!(text.contains(why) && !text.contains("jo:"), "{text}");
    }
}

const DENIED: &str = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n";

#[tokio::test]
async fn a_proxy_that_forwards_sees_the_whole_url_and_its_login() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
    let mut proxy = Recorder::start(answer).await;
    let network = Network::new(Proxies {
        http: Some(format!("http://u:p%40@{}", proxy.address)),
        ..Proxies::default()
    });
    let request = Request::get("http://charts.invalid/index.yaml").body(Empty::new());
    let answer = network.send(request.unwrap()).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "hi");
    let (line, login) = proxy.next().await;
    assert_eq!(line, "GET http://charts.invalid/index.yaml HTTP/1.1");
    assert_eq!(login.as_deref(), Some("Basic dTpwQA=="));
}

#[tokio::test]
async fn a_server_with_tls_is_reached_through_a_tunnel() {
    let mut proxy = Recorder::start(DENIED).await;
    let network = network(&format!("u:p@{}", proxy.address), "");
    let request = Request::get("https://charts.invalid/index.yaml").body(Empty::<Bytes>::new());
    let error = network.send(request.unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Request(_)), "{error}");
    let (line, login) = proxy.next().await;
    assert_eq!(line, "CONNECT charts.invalid:443 HTTP/1.1");
    assert_eq!(login.as_deref(), Some("Basic dTpw"));
}

/// Plays a SOCKS proxy for one request, and gives the server it was to connect to.
async fn socks(listener: TcpListener) -> (String, u16) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting).await.unwrap();
    let mut methods = vec![0; greeting[1].into()];
    stream.read_exact(&mut methods).await.unwrap();
    stream.write_all(&[5, 0]).await.unwrap();
    let mut head = [0; 5];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[..4], [5, 1, 0, 3], "connect, to a name");
    let mut name = vec![0; head[4].into()];
    stream.read_exact(&mut name).await.unwrap();
    let port = stream.read_u16().await.unwrap();
    stream
        .write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
        .await
        .unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.unwrap());
    }
    assert!(request.starts_with(b"GET / HTTP/1.1\r\n"));
    let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
    stream.write_all(answer).await.unwrap();
    (String::from_utf8(name).unwrap(), port)
}

#[tokio::test]
async fn a_socks_proxy_is_told_name_and_port() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = tokio::spawn(socks(listener));
    let network = Network::new(Proxies {
        all: Some(format!("socks5h://{address}")),
        ..Proxies::default()
    });
    let request = Request::get("http://charts.invalid/").body(Empty::<Bytes>::new());
    let answer = network.send(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 204);
    assert_eq!(asked.await.unwrap(), ("charts.invalid".to_owned(), 80));
}
