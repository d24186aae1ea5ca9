//! Repositories, registries and lock files: answers of a server on loopback, taken from the input one after the other.

#![no_main]

use std::{
    sync::{LazyLock, Mutex},
    time::Duration,
};

use helm_engine::{FetchOptions, Source, fetch, lock::Lock};
use helm_engine_fuzz::{begin, joined, parts};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    runtime::{Builder, Runtime},
};

static ANSWERS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// The server's address, and the runtime it lives in.
static SERVER: LazyLock<(Runtime, String)> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let listener = runtime
        .block_on(TcpListener::bind("127.0.0.1:0"))
        .expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    runtime.spawn(serve(listener));
    (runtime, address)
});

async fn serve(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        let next = ANSWERS.lock().ok().and_then(|mut answers| answers.pop());
        // The first line of an answer is its status and headers; what is left is the body.
        let answer = next.unwrap_or_else(|| b"404".to_vec());
        let end = answer
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap_or(answer.len());
        let (first, body) = (&answer[..end], answer.get(end + 1..).unwrap_or_default());
        let first = String::from_utf8_lossy(first).replace('|', "\r\n");
        let text = format!(
            "HTTP/1.1 {first}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(text.as_bytes()).await;
        let _ = stream.write_all(body).await;
    }
}

libfuzzer_sys::fuzz_target!(
    init: begin("fetch", |seeds| {
        let index = "200 X\nentries:\n  app:\n  - {version: 1.2.0, urls: [app-1.2.0.tgz]}\n  - {version: 1.10.0-rc.1, urls: [x.tgz]}\n";
        seeds.add(joined(&["", "r", index, "200 X\nno archive"]));
        let manifest = format!("200 X\n{{\"layers\": [{{\"mediaType\": \"application/vnd.cncf.helm.chart.content.v1.tar+gzip\", \"digest\": \"sha256:{}\"}}]}}", "a".repeat(64));
        seeds.add(joined(&["", "o", "200 X\n{\"tags\": [\"1.0.0\", \"1.1.0_x\"]}", &manifest, "200 X\nno archive"]));
        seeds.add(joined(&["", "o", "401 X|www-authenticate: Bearer realm=\"http://127.0.0.1:1/t\",service=\"s\"\n", "200 X\n{\"token\": \"t\"}", &manifest]));
        let lock = format!("version: 1\ncharts:\n- {{chart: app, version: 1.2.0, sha256: {}, source: s, images: [a]}}\n", "a".repeat(64));
        seeds.add(joined(&[&lock, "r", index]));
    }),
    |data: &[u8]| {
        let Some([lock, kind, answers]) = parts::<3>(data) else {
            return;
        };
        let path = std::env::temp_dir().join(format!("helm-engine-fuzz-lock-{}", std::process::id()));
        let lock = std::fs::write(&path, lock).ok().and_then(|()| Lock::read(&path).ok());
        if let Some(lock) = &lock {
            let _ = lock.write(&path);
        }
        let (runtime, address) = &*SERVER;
        let source = match kind {
            "r" => Source::Repository(format!("http://{address}")),
            "o" => Source::Oci(format!("oci://{address}/charts")),
            text => {
                let _ = text.parse::<Source>();
                return;
            }
        };
        if let Ok(mut waiting) = ANSWERS.lock() {
            *waiting = answers.split("\n%%\n").map(|answer| answer.replace("127.0.0.1:1", address).into_bytes()).collect();
            waiting.reverse();
        }
        let options = FetchOptions { lock, timeout: Duration::from_secs(5), ..FetchOptions::default() };
        let fetched = runtime.block_on(fetch(&source, "app", "", &options));
        drop(fetched);
    }
);
