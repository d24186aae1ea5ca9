//! API servers that answer what no API server answers: whatever one member says, a command ends soon, in bounds of memory,
//! with an exit code, and tells of the other members.
//!
//! `cargo test` tries every behaviour with one command; CI's stage `hostile` with all that read.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use crate::kit::{Answer, World, may_be_missing};

/// What answers a path: everything it writes to the connection.
type Behaviour = fn(&str, &mut TcpStream) -> std::io::Result<()>;

/// Each by name.
const BEHAVIOURS: [(&str, Behaviour); 28] = [
    ("a list for an object", |_, s| json(s, "[1,2]")),
    ("a number for an object", |_, s| json(s, "7")),
    ("a text for an object", |_, s| json(s, "\"x\"")),
    ("nothing", |_, s| json(s, "")),
    ("half an object", |_, s| {
        json(s, "{\"items\":[{\"metadata\"")
    }),
    ("a version that is a number", |_, s| {
        json(s, "{\"gitVersion\":7}")
    }),
    ("a version that is none", |_, s| {
        json(s, "{\"gitVersion\":\"latest\"}")
    }),
    ("items that are numbers", |p, s| {
        listed(p, s, "{\"items\":[1]}")
    }),
    ("items that are lists", |p, s| {
        listed(p, s, "{\"items\":[[]]}")
    }),
    ("items that are an object", |p, s| {
        listed(p, s, "{\"items\":{}}")
    }),
    ("items that are a text", |p, s| {
        listed(p, s, "{\"items\":\"x\"}")
    }),
    ("metadata that is a number", |p, s| {
        listed(
            p,
            s,
            "{\"metadata\":7,\"items\":[{\"metadata\":7,\"data\":[],\"spec\":\"x\"}]}",
        )
    }),
    ("labels that are a list", |p, s| {
        listed(
            p,
            s,
            "{\"items\":[{\"metadata\":{\"name\":\"istiod\",\"labels\":[1],\"annotations\":2}}]}",
        )
    }),
    ("names that are numbers", |p, s| {
        listed(
            p,
            s,
            "{\"items\":[{\"metadata\":{\"name\":7,\"uid\":[],\"namespace\":{}}}]}",
        )
    }),
    ("pages in a circle", |p, s| {
        listed(p, s, "{\"metadata\":{\"continue\":\"again\"},\"items\":[]}")
    }),
    ("pages without an end", |p, s| {
        static PAGE: AtomicUsize = AtomicUsize::new(0);
        let page = PAGE.fetch_add(1, Relaxed);
        listed(
            p,
            s,
            &format!("{{\"metadata\":{{\"continue\":\"{page}\"}},\"items\":[]}}"),
        )
    }),
    ("pages that always expire", |p, s| {
        match p.contains("continue=") {
            true => head(s, "410 Gone", "content-length: 2", "{}"),
            false => listed(p, s, "{\"metadata\":{\"continue\":\"a\"},\"items\":[]}"),
        }
    }),
    ("a body without an end", |p, s| {
        match p.starts_with("/version") {
            true => json(s, VERSION),
            false => endless(
                s,
                "200 OK",
                b"{\"items\":[\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            ),
        }
    }),
    ("many small things", |p, s| {
        match p.starts_with("/version") {
            true => json(s, VERSION),
            false => {
                let items = vec!["{}"; 20_000_000].join(",");
                json(s, &format!("{{\"items\":[{items}]}}"))
            }
        }
    }),
    ("an error without an end", |_, s| {
        endless(s, "500 Internal Server Error", b"aaaaaaaaaaaaaaaa")
    }),
    ("a head without an end", |_, s| {
        s.write_all(b"HTTP/1.1 200 OK\r\n")?;
        loop {
            s.write_all(b"x-more: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n")?;
        }
    }),
    ("things within things", |p, s| {
        let deep = "[".repeat(200_000);
        listed(p, s, &format!("{{\"items\":[{{\"spec\":{deep}"))
    }),
    ("no HTTP", |_, s| s.write_all(b"SSH-2.0-OpenSSH_9.6\r\n")),
    ("a closed door", |_, _| Ok(())),
    ("a length that is never filled", |_, s| {
        s.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551615\r\n\r\n{")?;
        wait_for_the_end(s)
    }),
    ("a way round", |_, s| {
        head(
            s,
            "302 Found",
            "location: /version\r\ncontent-length: 0",
            "",
        )
    }),
    ("try again in a thousand years", |_, s| {
        let after = "retry-after: 18446744073709551615\r\ncontent-length: 2";
        head(s, "429 Too Many Requests", after, "{}")
    }),
    ("a drop at a time", |_, s| {
        s.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")?;
        loop {
            s.write_all(b" ")?;
            thread::sleep(Duration::from_millis(50));
        }
    }),
];

const VERSION: &str = "{\"gitVersion\":\"v1.33.0\"}";
/// The most memory a command may take, in MiB, and the longest, in seconds beyond its `--timeout`.
const MEMORY: u64 = 1500;
const TIME: u64 = 12;

fn head(stream: &mut TcpStream, status: &str, headers: &str, body: &str) -> std::io::Result<()> {
    let text = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n\r\n{body}");
    stream.write_all(text.as_bytes())
}

fn json(stream: &mut TcpStream, body: &str) -> std::io::Result<()> {
    let headers = format!(
        "content-type: application/json\r\ncontent-length: {}",
        body.len()
    );
    head(stream, "200 OK", &headers, body)
}

/// The version as it should be, and this for everything else.
fn listed(path: &str, stream: &mut TcpStream, body: &str) -> std::io::Result<()> {
    json(
        stream,
        if path.starts_with("/version") {
            VERSION
        } else {
            body
        },
    )
}

fn endless(stream: &mut TcpStream, status: &str, begin: &[u8]) -> std::io::Result<()> {
    let text = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n\r\n");
    stream.write_all(text.as_bytes())?;
    stream.write_all(begin)?;
    let more = vec![b'a'; 1 << 20];
    loop {
        stream.write_all(&more)?;
    }
}

fn wait_for_the_end(stream: &mut TcpStream) -> std::io::Result<()> {
    std::io::copy(stream, &mut std::io::sink()).map(drop)
}

/// A server on loopback that behaves so, as long as the test runs.
fn server(behaviour: Behaviour) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream, behaviour));
        }
    });
    address
}

fn answer(mut stream: TcpStream, behaviour: Behaviour) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else {
        return;
    };
    while lines
        .next()
        .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
    {}
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    // Whoever has heard enough hangs up.
    let _ = behaviour(&path, &mut stream);
}

/// A kubeconfig as the sandbox's, with eks-3 led elsewhere.
fn kubeconfig(world: &World, number: usize, server: &str) -> String {
    let text = fs::read(&world.endpoints().kubeconfig).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&text).unwrap();
    for cluster in config["clusters"].as_array_mut().unwrap() {
        if cluster["name"] == "eks-3" {
            cluster["cluster"]["server"] = server.into();
        }
    }
    let file = format!("kubeconfig-{number}");
    fs::write(world.user.here().join(&file), config.to_string()).unwrap();
    file
}

/// What one command did with one server.
struct Row {
    what: String,
    code: Option<i32>,
    seconds: f32,
    mebibytes: u64,
}

/// Runs a command, and looks how much memory it takes at most.
fn measured(world: &World, command: Command, what: String) -> (Row, Answer) {
    let begun = Instant::now();
    let running = world.user.spawn(command, &what);
    let most = Arc::new(AtomicUsize::new(0));
    let (pid, peak) = (running.pid(), most.clone());
    let watching = Arc::new(());
    let watched = Arc::downgrade(&watching);
    let watch = thread::spawn(move || {
        while watched.upgrade().is_some() {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
            let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok());
            peak.fetch_max(kib.unwrap_or(0), Relaxed);
            thread::sleep(Duration::from_millis(10));
        }
    });
    let answer = running.end();
    drop(watching);
    watch.join().unwrap();
    let row = Row {
        what,
        code: answer.code,
        seconds: begun.elapsed().as_secs_f32(),
        mebibytes: most.load(Relaxed) as u64 / 1024,
    };
    (row, answer)
}

/// The commands, and how each may end.
const COMMANDS: [(&str, &[i32]); 6] = [
    ("status eks-1 eks-2 eks-3", &[6]),
    ("verify eks-1 eks-2 eks-3", &[4]),
    ("ca status eks-1 eks-2 eks-3", &[6]),
    ("doctor eks-1 eks-2 eks-3", &[6]),
    ("workloads eks-1 eks-2 eks-3", &[6]),
    ("plan eks-1 eks-2 eks-3", &[1, 5, 6, 10]),
];

#[test]
fn whatever_one_member_answers_the_others_are_told_of() {
    if !fs::exists("/proc/self/status").unwrap_or(false) {
        return may_be_missing("/proc");
    }
    let world = World::joined(3);
    let dns = world.endpoints().dns.to_string();
    let commands = match crate::kit::in_full() {
        true => &COMMANDS[..],
        false => &COMMANDS[..1],
    };
    let jobs: Vec<_> = BEHAVIOURS.iter().enumerate().collect();
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(vec![]));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((number, (name, behaviour))) = jobs.get(next.fetch_add(1, Relaxed)) {
                    let file = kubeconfig(&world, *number, &server(*behaviour));
                    for (args, codes) in commands {
                        let args = format!("{args} --kubeconfig {file} --timeout 3s");
                        let mut command = world.user.command(&args);
                        command.env("MESHLINK_DNS", &dns);
                        let (row, answer) = measured(&world, command, format!("{name}: {args}"));
                        let code = row.code.unwrap_or(-1);
                        assert!(codes.contains(&code), "{}: {answer}", row.what);
                        assert!(!answer.stderr.contains("bug"), "{}: {answer}", row.what);
                        let answer = answer.says("eks-3");
                        assert!(row.seconds < (3 + TIME) as f32, "{}: {answer}", row.what);
                        let limit = row.mebibytes < MEMORY;
                        assert!(limit, "{}: {} MiB", row.what, row.mebibytes);
                        rows.lock().unwrap().push(row);
                    }
                }
            });
        }
    });
    report(&rows.into_inner().unwrap());
}

/// One line with the figures.
fn report(rows: &[Row]) {
    let longest = rows
        .iter()
        .max_by(|a, b| a.seconds.total_cmp(&b.seconds))
        .unwrap();
    let largest = rows.iter().max_by_key(|r| r.mebibytes).unwrap();
    let mut text = format!("hostile: {} answers, none hid another member", rows.len());
    let _ = write!(
        text,
        "; longest {:.1} s ({})",
        longest.seconds, longest.what
    );
    let _ = write!(
        text,
        "; largest {} MiB ({})",
        largest.mebibytes, largest.what
    );
    println!("{text}");
}
