//! What the AWS side costs, in one run: EKS tokens beside the AWS CLI's, fifty load balancers under one account's
//! limit, how soon a healthy target is noticed, and `meshlink terraform` on a mesh of embedded clusters.
//!
//! `cargo run --release --features measure --example bench-aws -- MESHLINK [AWS]`: MESHLINK is the program whose `terraform` is timed, AWS
//! the CLI to compare with, `aws` unless given. Takes about a minute; nothing leaves this machine.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints and may stop at anything odd"
)]

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use aws_credential_types::Credentials;
use meshlink::{
    measure,
    sandbox::aws::{Clock, Health, NewBalancer, Server, Shared, State, Zone, serve},
};

const KEYS: (&str, &str) = ("AKIDEXAMPLE", "example/secret");
const ACCOUNT: &str = "111122223333";
const REGION: &str = "eu-west-1";
const BALANCERS: usize = 50;

#[expect(clippy::disallowed_methods, reason = "a program of its own")]
fn main() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut args = std::env::args().skip(1);
    let meshlink = args
        .next()
        .unwrap_or_else(|| "target/debug/meshlink".into());
    let aws = args.next().unwrap_or_else(|| "aws".into());
    tokens(&aws);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(fifty());
    runtime.block_on(reaction());
    terraform(&meshlink);
}

#[expect(clippy::disallowed_methods, reason = "a program of its own")]
fn now() -> SystemTime {
    jiff::Timestamp::now().into()
}

/// Neither side makes a call: a token is a signature.
fn tokens(aws: &str) {
    let keys = Credentials::new(KEYS.0, KEYS.1, None, None, "bench");
    let ours = median((0..2000).map(|_| measure::eks_token(&keys, now()).unwrap()));
    println!("token         {:>9.3} ms, no process (goal 1 ms)", ms(ours));
    let theirs: Option<Vec<_>> = (0..5).map(|_| cli(aws)).collect();
    let Some(theirs) = theirs else {
        println!("              {aws} eks get-token cannot be run here");
        return;
    };
    let peak = theirs.iter().map(|(_, peak)| *peak).max().unwrap_or(0);
    let theirs = median(theirs.into_iter().map(|(time, _)| time));
    println!(
        "              {:>9.3} ms and {} MB by {aws} eks get-token, {:.0} times as long",
        ms(theirs),
        peak / 1024,
        theirs.as_secs_f64() / ours.as_secs_f64()
    );
}

/// Time and peak memory in kB of the CLI's way; `None` if it does not run.
fn cli(aws: &str) -> Option<(Duration, u64)> {
    let args = "eks get-token --cluster-name eks-1 --region eu-west-1";
    let start = Instant::now();
    let mut child = Command::new(aws)
        .args(args.split(' '))
        .env("AWS_ACCESS_KEY_ID", KEYS.0)
        .env("AWS_SECRET_ACCESS_KEY", KEYS.1)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdout(Stdio::null())
        .spawn()
        .ok()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let kb = line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(kb.unwrap_or(0));
        match child.try_wait().unwrap() {
            Some(status) => return status.success().then(|| (start.elapsed(), peak)),
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// An AWS with so many load balancers, each with a target that becomes healthy after a while.
async fn cloud(balancers: usize, healthy: Duration) -> (Shared, Server, Vec<String>) {
    let mut state = State::new(Clock::new(now));
    state.admit(
        KEYS.0,
        KEYS.1,
        &format!("arn:aws:iam::{ACCOUNT}:user/bench"),
    );
    for n in 0..balancers {
        let zone = Zone {
            name: format!("{REGION}a"),
            ..Zone::default()
        };
        let arn = state.make_balancer(NewBalancer {
            partition: "aws".into(),
            account: ACCOUNT.into(),
            region: REGION.into(),
            name: format!("k8s-lb-{n}"),
            zones: vec![zone],
            ..NewBalancer::default()
        });
        let group = state.make_group(&arn, &format!("lb-{n}"), 15443, 15443, "ip");
        let story = vec![
            (Duration::ZERO, Health::CHECKING),
            (healthy, Health::HEALTHY),
        ];
        state.register(&group, "10.0.0.1", 15443, &format!("{REGION}a"), story);
    }
    let names = state.balancers.iter().map(|b| b.dns_name.clone()).collect();
    let shared = Shared::new(state);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = serve(listener, shared.clone()).unwrap();
    (shared, server, names)
}

async fn watch(server: &Server, name: &str) -> Duration {
    let keys = Credentials::new(KEYS.0, KEYS.1, None, None, "bench");
    let url = server.url();
    let watched = measure::load_balancer(&url, &keys, ACCOUNT, name);
    watched.await.unwrap()
}

/// All at once, in one account, whose calls are limited as AWS limits them.
async fn fifty() {
    let (shared, server, names) = cloud(BALANCERS, Duration::from_secs(10)).await;
    let start = Instant::now();
    futures::future::join_all(names.iter().map(|name| watch(&server, name))).await;
    let spent = start.elapsed().as_secs_f64();
    let state = shared.lock();
    let throttled = state.calls.iter().filter(|c| c.status != 200).count();
    println!(
        "watch         {BALANCERS} load balancers until healthy: {} calls in {spent:.0} s, {throttled} throttled at 10 a second (goal 0)",
        state.calls.len()
    );
}

/// From the moment a target is healthy until it is told.
async fn reaction() {
    let healthy = Duration::from_millis(7300);
    let (_shared, server, names) = cloud(1, healthy).await;
    let waited = watch(&server, &names[0]).await;
    println!(
        "reaction      {:>9.3} s after it is healthy (goal one poll interval: {} s)",
        waited.saturating_sub(healthy).as_secs_f64(),
        measure::poll_interval().as_secs()
    );
}

/// A mesh of embedded clusters in a process of their own.
fn terraform(meshlink: &str) {
    let home = std::env::temp_dir().join(format!("bench-aws-{}", std::process::id()));
    fs::create_dir_all(&home).unwrap();
    let command = |args: &str| {
        let mut command = Command::new(meshlink);
        command
            .args(args.split(' '))
            .env_clear()
            .env("HOME", &home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    };
    let mut sandbox = command("sandbox --clusters 2").spawn().unwrap();
    let told = home.join(".local/state/meshlink-sandbox/sandbox.json");
    while !told.exists() && sandbox.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let joined = command("join eks-1 eks-2 --sandbox").status().unwrap();
    assert!(joined.success(), "not joined");
    let ask = |_| timed(|| answer(&mut command("terraform")));
    let took = median((0..15).map(ask));
    println!(
        "terraform     {:>9.0} ms on two embedded clusters, by {meshlink} (goal 300 ms)",
        ms(took)
    );
    end(&mut sandbox, &home);
}

fn answer(command: &mut Command) {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let query = br#"{"clusters":"eks-1,eks-2","sandbox":"true"}"#;
    child.stdin.take().unwrap().write_all(query).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(r#""ready":"true""#), "{text}");
}

fn end(sandbox: &mut Child, home: &Path) {
    sandbox.kill().unwrap();
    sandbox.wait().unwrap();
    fs::remove_dir_all(home).unwrap();
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<_> = times.collect();
    times.sort();
    times[times.len() / 2]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
