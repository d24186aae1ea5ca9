//! For unit tests: a proxy on loopback that says what it was asked.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};

/// The first line of a request, and the login it brought.
pub(crate) type Asked = (String, Option<String>);

/// Answers every request with the same text.
pub(crate) struct Recorder {
    pub(crate) address: String,
    asked: mpsc::UnboundedReceiver<Asked>,
    task: JoinHandle<()>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Recorder {
    pub(crate) async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (log, asked) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer, log.clone()));
            }
        });
        Self {
            address,
            asked,
            task,
        }
    }

    /// The next request.
    pub(crate) async fn next(&mut self) -> Asked {
        self.asked.recv().await.unwrap()
    }
}

async fn serve(mut stream: TcpStream, answer: &str, log: mpsc::UnboundedSender<Asked>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let login = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("proxy-authorization")
            .then(|| value.to_owned())
    });
    // Nobody may be interested any more.
    let _ = log.send((head.lines().next().unwrap().to_owned(), login));
    let _ = stream.write_all(answer.as_bytes()).await;
}
