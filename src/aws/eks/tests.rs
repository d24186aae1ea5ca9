//! Names, facts and tokens against an emulated AWS.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{describe::clusters, entry::grant, *};
use crate::{
    aws::call::Cause,
    aws::tests::kit::{client, served},
    sandbox::aws::{
        Cluster, Fault, FaultKind, Role,
        testing::{ACCOUNT, REGION, now, state},
    },
};

async fn ask(aws: &Aws, text: &str) -> Result<Facts, Error> {
    match resolve(aws, &Identity::default(), text, &BTreeMap::new(), &[]).await? {
        Resolved::Eks(facts) => Ok(*facts),
        Resolved::Context(name) => panic!("a context: {name}"),
    }
}

fn cause(error: Error) -> Cause {
    match error {
        Error::Call { source, .. } => source.cause,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn every_way_to_name_a_cluster_finds_it() {
    let (shared, _server, aws) = served(state()).await;
    for text in [
        "eks-1",
        "eu-west-1/eks-1",
        "arn:aws:eks:eu-west-1:111122223333:cluster/eks-1",
    ] {
        let facts = ask(&aws, text).await.unwrap();
        assert_eq!(facts.endpoint, "https://api.eks-1.test");
        assert_eq!(
            (facts.account.as_str(), facts.auth_mode),
            (ACCOUNT, AuthMode::Both)
        );
        assert!(facts.public && facts.private && !facts.auto_mode);
    }
    assert_eq!(shared.lock().count("eks:DescribeCluster", 200), 3);
}

#[tokio::test]
async fn a_token_is_one_the_api_server_takes_and_knows_no_endpoint_override() {
    let (shared, server, aws) = served(state()).await;
    let facts = ask(&aws, "eks-1").await.unwrap();
    let token = TokenSource::new(&facts, now).token().await.unwrap();
    let speaker = shared.lock().speaker(token.secret(), "eks-1").unwrap();
    assert_eq!(speaker.arn, "arn:aws:iam::111122223333:user/me");
    assert!(
        server.url().starts_with("http://127.0.0.1"),
        "an override was in force"
    );
}

#[tokio::test]
async fn a_role_in_another_account_is_taken_on_with_its_external_id() {
    let mut state = state();
    let role = "arn:aws:iam::444455556666:role/mesh";
    state.roles.insert(
        role.into(),
        Role {
            external_id: Some("x1".into()),
            trusted: vec![ACCOUNT.into()],
        },
    );
    let arn = format!("arn:aws:eks:{REGION}:444455556666:cluster/eks-2");
    state
        .clusters
        .push(Cluster::new(&arn, "https://api.eks-2.test", "Q0E="));
    let (shared, _server, aws) = served(state).await;
    let who = Identity {
        role_arn: Some(role.into()),
        external_id: Some("x1".into()),
        ..Default::default()
    };
    let place = Place {
        name: "eks-2".into(),
        region: REGION.into(),
        account: None,
    };
    let facts = describe(&aws, &who, &place).await.unwrap();
    let token = TokenSource::new(&facts, now).token().await.unwrap();
    let speaker = shared.lock().speaker(token.secret(), "eks-2").unwrap();
    assert_eq!(
        speaker.arn,
        "arn:aws:sts::444455556666:assumed-role/mesh/meshlink"
    );

    let who = Identity {
        external_id: Some("guess".into()),
        ..who
    };
    let error = cause(describe(&aws, &who, &place).await.unwrap_err());
    assert!(matches!(error, Cause::Denied(_)), "{error:?}");
}

#[tokio::test]
async fn the_wrong_region_says_what_is_there_instead() {
    let (_shared, _server, aws) = served(state()).await;
    let error = ask(&aws, "eks-9").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no EKS cluster eks-9 in eu-west-1 (there are: eks-1)"
    );
    assert!(error.hint().unwrap().to_string().contains("REGION/eks-9"));
    let error = ask(&aws, "us-east-1/eks-1").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no EKS cluster eks-1 in us-east-1"
    );
    let error = ask(&aws, "arn:aws:eks:eu-west-1:999999999999:cluster/eks-1")
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("but these credentials see arn:aws:eks:eu-west-1:111122223333"),
        "{error}"
    );
}

#[tokio::test]
async fn a_cluster_that_cannot_be_used_yet_says_how_to_wait() {
    let mut state = state();
    state.clusters[0].status = "CREATING".into();
    let (shared, _server, aws) = served(state).await;
    let error = ask(&aws, "eks-1").await.unwrap_err();
    assert_eq!(
        error.hint().unwrap().to_string(),
        "aws eks wait cluster-active --name eks-1 --region eu-west-1"
    );
    shared.lock().clusters[0].status = "UPDATING".into();
    ask(&aws, "eks-1").await.unwrap();
}

#[tokio::test]
async fn credentials_that_do_not_work_say_so() {
    let (shared, server, _aws) = served(state()).await;
    let refused = |error: Error| (error.hint().unwrap().to_string(), cause(error));
    let (hint, cause) = refused(
        ask(&client(&server, "AKID", "guess"), "eks-1")
            .await
            .unwrap_err(),
    );
    assert_eq!(hint, "aws sts get-caller-identity");
    assert!(matches!(cause, Cause::BadCredentials(_)), "{cause:?}");
    let expiry = now() - Duration::from_secs(1);
    shared.lock().keys.get_mut("AKID").unwrap().expires = Some(expiry);
    let (hint, cause) = refused(
        ask(&client(&server, "AKID", "secret"), "eks-1")
            .await
            .unwrap_err(),
    );
    assert_eq!(hint, "aws sso login");
    assert!(matches!(cause, Cause::Expired(_)), "{cause:?}");
}

#[tokio::test]
async fn a_missing_right_is_named() {
    let mut state = state();
    state.denied.insert("eks:DescribeCluster".into());
    let (_shared, _server, aws) = served(state).await;
    let error = ask(&aws, "eks-1").await.unwrap_err();
    assert_eq!(
        error.hint().unwrap().to_string(),
        "allow eks:DescribeCluster (meshlink aws policy prints the whole policy)"
    );
}

#[tokio::test]
async fn broken_answers_are_asked_for_again() {
    let mut state = state();
    state
        .faults
        .push(Fault::times("eks:Describe", FaultKind::Cut, 1));
    state
        .faults
        .push(Fault::times("eks:Describe", FaultKind::Garbled, 1));
    state.faults.push(Fault::times(
        "eks:Describe",
        FaultKind::Error(503, "ServiceUnavailableException", "busy"),
        1,
    ));
    let (shared, _server, aws) = served(state).await;
    assert_eq!(ask(&aws, "eks-1").await.unwrap().name, "eks-1");
    assert_eq!(shared.lock().calls.len(), 4);
}

#[tokio::test]
async fn a_run_that_begins_throttled_waits_its_turn() {
    let mut state = state();
    state
        .faults
        .push(Fault::times("eks:", FaultKind::Throttled, 2));
    let (shared, _server, aws) = served(state).await;
    let told = Arc::new(Mutex::new(vec![]));
    let heard = told.clone();
    let aws = aws.telling(move |text| heard.lock().unwrap().push(text.to_owned()));
    assert_eq!(ask(&aws, "eks-1").await.unwrap().name, "eks-1");
    assert_eq!(shared.lock().count("eks:DescribeCluster", 429), 2);
    // Once, however often it is asked again in the meantime.
    let told = told.lock().unwrap();
    let [text] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert!(
        text.starts_with("pending: eks:DescribeCluster in eu-west-1: throttled; retrying, ")
            && text.ends_with(" s so far, at most 90 times"),
        "{text}"
    );
}

#[tokio::test]
async fn the_commands_that_let_us_in_fit_the_cluster() {
    let mut state = state();
    state.clusters[0].auth_mode = "CONFIG_MAP".into();
    let (_shared, _server, aws) = served(state).await;
    let facts = ask(&aws, "eks-1").await.unwrap();
    let commands = grant(&facts, &caller(&facts.session).await.unwrap());
    assert_eq!(
        commands.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "aws eks update-cluster-config --name eks-1 --region eu-west-1 --access-config authenticationMode=API_AND_CONFIG_MAP",
            "aws eks create-access-entry --cluster-name eks-1 --region eu-west-1 --principal-arn arn:aws:iam::111122223333:user/me",
            "aws eks associate-access-policy --cluster-name eks-1 --region eu-west-1 --principal-arn arn:aws:iam::111122223333:user/me --access-scope type=cluster --policy-arn arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy",
        ]
    );
}

#[tokio::test]
async fn a_long_list_of_clusters_is_read_page_by_page() {
    let mut state = state();
    for n in 0..230 {
        let arn = format!("arn:aws:eks:{REGION}:{ACCOUNT}:cluster/more-{n}");
        state
            .clusters
            .push(Cluster::new(&arn, "https://x.test", ""));
    }
    let (shared, _server, aws) = served(state).await;
    let session = aws.session(&Identity::default(), None).await.unwrap();
    assert_eq!(clusters(&session).await.unwrap().len(), 231);
    assert_eq!(shared.lock().count("eks:ListClusters", 200), 3);
}
