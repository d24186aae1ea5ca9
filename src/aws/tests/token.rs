//! Tokens signed here, as the one who is to believe them judges them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use istio_sandbox::aws::{Clock, State};

use crate::aws::eks::mint;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

fn state() -> State {
    let mut state = State::new(Clock::new(now));
    state.admit("AKID", "secret", "arn:aws:iam::111122223333:user/me");
    state
}

fn token(id: &str, secret: &str, at: SystemTime) -> String {
    let keys = Credentials::new("AKID", secret, None, None, "test");
    mint(id, "eu-west-1", &keys, at)
        .unwrap()
        .secret()
        .to_owned()
}

#[test]
fn our_token_is_good_for_its_cluster_for_fifteen_minutes() {
    let state = state();
    let speaker = state
        .speaker(&token("eks-1", "secret", now()), "eks-1")
        .unwrap();
    assert_eq!(speaker.arn, "arn:aws:iam::111122223333:user/me");
    let old = token("eks-1", "secret", now() - Duration::from_secs(15 * 60));
    assert!(state.speaker(&old, "eks-1").is_ok());
    let older = token("eks-1", "secret", now() - Duration::from_secs(15 * 60 + 1));
    assert_eq!(
        state.speaker(&older, "eks-1"),
        Err("older than fifteen minutes")
    );
}

#[test]
fn only_principals_with_an_entry_enter() {
    let mut state = state();
    let arn = "arn:aws:eks:eu-west-1:111122223333:cluster/eks-1";
    state
        .clusters
        .push(istio_sandbox::aws::Cluster::new(arn, "", ""));
    let token = token("eks-1", "secret", now());
    state.clusters[0].entries = vec!["arn:aws:iam::111122223333:user/other".into()];
    assert_eq!(
        state.speaker(&token, "eks-1"),
        Err("nobody with an access entry")
    );
    state.clusters[0]
        .entries
        .push("arn:aws:iam::111122223333:user/me".into());
    assert!(state.speaker(&token, "eks-1").is_ok());
    let session = "arn:aws:sts::111122223333:assumed-role/mesh/x";
    assert!(!state.enters("eks-1", session));
    state.clusters[0]
        .entries
        .push("arn:aws:iam::111122223333:role/path/mesh".into());
    assert!(state.enters("eks-1", session));
}

#[test]
fn anything_else_is_refused() {
    let state = state();
    let good = token("eks-1", "secret", now());
    let forged = |from: &str, to: &str| {
        let coded = good.strip_prefix("k8s-aws-v1.").unwrap();
        let url = String::from_utf8(URL_SAFE_NO_PAD.decode(coded).unwrap()).unwrap();
        let url = url.replace(from, to);
        format!("k8s-aws-v1.{}", URL_SAFE_NO_PAD.encode(url))
    };
    assert!(state.speaker(&good, "eks-2").is_err(), "another cluster");
    for (token, why) in [
        (token("eks-1", "guess", now()), "does not fit"),
        ("eyJhbGciOi".into(), "not an EKS token"),
        (
            forged(
                "https://sts.eu-west-1.amazonaws.com",
                "https://sts.eu-west-1.evil.com",
            ),
            "public STS",
        ),
        (forged("https://", "http://"), "not https"),
        (forged("/?", "/x?"), "beyond /"),
        (
            forged("X-Amz-Expires=60", "X-Amz-Expires=901"),
            "fifteen minutes",
        ),
        (format!("{}{}", good, "A".repeat(4096)), "4096"),
        (forged("&Version", "&Extra=1&Version"), "no business"),
        (
            forged("&Version", "&Action=GetCallerIdentity&Version"),
            "twice",
        ),
    ] {
        let refused = state.speaker(&token, "eks-1").unwrap_err();
        assert!(refused.contains(why), "{refused}, not {why}");
    }
}
