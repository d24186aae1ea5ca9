//! Tokens and rules, as clients with little rights meet them.

use k8s_openapi::api::authentication::v1::TokenRequest;
use kube::config::AuthInfo;

use super::*;

/// A client over TLS with a token instead of the admin's.
async fn with_token(api: &Api, served: &Served, token: &str) -> Client {
    let mut config = Kubeconfig::from_yaml(&api.kubeconfig(&served.url, "one", "admin")).unwrap();
    config.auth_infos[0].auth_info = Some(AuthInfo {
        token: Some(token.to_owned().into()),
        ..AuthInfo::default()
    });
    let config = kube::Config::from_custom_kubeconfig(config, &Default::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

async fn make(client: &Client, path: &str, body: Value) {
    let request = http::Request::post(path).header("content-type", "application/json");
    client
        .request::<Value>(request.body(body.to_string().into_bytes()).unwrap())
        .await
        .unwrap();
}

/// A reader account with a role for services only.
async fn reader(client: &Client) {
    make(
        client,
        "/api/v1/namespaces/default/serviceaccounts",
        json!({"metadata": {"name": "reader"}}),
    )
    .await;
    let rules = json!([{"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list"]}]);
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    make(
        client,
        &format!("{rbac}/clusterroles"),
        json!({"metadata": {"name": "reader"}, "rules": rules}),
    )
    .await;
    make(
        client,
        &format!("{rbac}/clusterrolebindings"),
        json!({"metadata": {"name": "reader"},
        "roleRef": {"kind": "ClusterRole", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}]}),
    )
    .await;
}

async fn secret_token(secrets: &kube::Api<Secret>, name: &str) -> String {
    let filled = |secret: Option<&Secret>| {
        secret.is_some_and(|s| s.data.as_ref().is_some_and(|d| d.contains_key("token")))
    };
    let secret = kube::runtime::wait::await_condition(secrets.clone(), name, filled)
        .await
        .unwrap()
        .unwrap();
    String::from_utf8(secret.data.unwrap()["token"].0.clone()).unwrap()
}

#[tokio::test]
async fn an_account_may_what_its_rules_say_until_its_secret_is_gone() {
    let api = api();
    let admin = api.client();
    reader(&admin).await;
    let secrets: kube::Api<Secret> = spaced(&admin, "default");
    let secret = json!({"metadata": {"name": "reader-token", "annotations": {"kubernetes.io/service-account.name": "reader"}},
        "type": "kubernetes.io/service-account-token"});
    secrets
        .create(&PostParams::default(), &of(secret))
        .await
        .unwrap();
    let token = secret_token(&secrets, "reader-token").await;
    let served = api.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let client = with_token(&api, &served, &token).await;

    let services: kube::Api<Service> = kube::Api::all(client.clone());
    assert_eq!(
        services
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    let theirs: kube::Api<Secret> = kube::Api::all(client.clone());
    let refused = code(theirs.list(&ListParams::default()).await.unwrap_err());
    assert_eq!(
        refused,
        (
            403,
            "secrets is forbidden: User \"system:serviceaccount:default:reader\" cannot list \
        resource \"secrets\" in API group \"\" at the cluster scope"
                .into()
        )
    );
    let theirs: kube::Api<Secret> = spaced(&client, "default");
    let refused = code(theirs.get("reader-token").await.unwrap_err());
    assert_eq!(
        refused.1,
        "secrets \"reader-token\" is forbidden: User \"system:serviceaccount:default:reader\" cannot get \
        resource \"secrets\" in API group \"\" in the namespace \"default\""
    );
    client.apiserver_version().await.unwrap();

    secrets
        .delete("reader-token", &DeleteParams::default())
        .await
        .unwrap();
    assert_eq!(
        code(services.list(&ListParams::default()).await.unwrap_err()),
        (401, "Unauthorized".into())
    );
}

#[tokio::test]
async fn tokens_end_with_their_time_and_with_their_account() {
    let now = Arc::new(std::sync::atomic::AtomicI64::new(1_800_000_000));
    let seconds = now.clone();
    let clock: Clock = Arc::new(move || {
        jiff::Timestamp::from_second(seconds.load(std::sync::atomic::Ordering::Relaxed)).unwrap()
    });
    let api = Api::new(ApiOptions::new("one", clock)).unwrap();
    let admin = api.client();
    reader(&admin).await;
    let accounts: kube::Api<ServiceAccount> = spaced(&admin, "default");
    let ask = |seconds: i64| {
        of::<TokenRequest>(json!({"spec": {"audiences": [], "expirationSeconds": seconds}}))
    };
    let short = accounts
        .create_token_request("reader", &PostParams::default(), &ask(10))
        .await
        .unwrap_err();
    assert_eq!(code(short).0, 422);
    let granted = accounts
        .create_token_request("reader", &PostParams::default(), &ask(600))
        .await
        .unwrap();
    let token = granted.status.unwrap().token.unwrap();
    assert_eq!(api.counters().token_requests(), 2);
    let user = |api: &Api| api.0.state().user_of(&token).map(|u| u.name);
    assert_eq!(
        user(&api).as_deref(),
        Some("system:serviceaccount:default:reader")
    );
    now.fetch_add(600, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(user(&api), None, "its time is over");
    now.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    assert!(user(&api).is_some());
    accounts
        .delete("reader", &DeleteParams::default())
        .await
        .unwrap();
    assert_eq!(user(&api), None, "its account is gone");
    accounts
        .create(
            &PostParams::default(),
            &of(json!({"metadata": {"name": "reader"}})),
        )
        .await
        .unwrap();
    assert_eq!(
        user(&api),
        None,
        "another account of the same name is another account"
    );
    let forged = format!("{}x", &token[..token.len() - 1]);
    assert_eq!(api.0.state().user_of(&forged), None);
}

#[tokio::test]
async fn rules_as_a_table() {
    let api = api();
    let admin = api.client();
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let rules = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods/log", "*/status"], "verbs": ["*"]},
        {"apiGroups": ["apps"], "resources": ["*"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["cacerts"], "verbs": ["get", "create"]},
    ]);
    make(
        &admin,
        &format!("{rbac}/namespaces/default/roles"),
        json!({"metadata": {"name": "r"}, "rules": rules}),
    )
    .await;
    make(
        &admin,
        &format!("{rbac}/namespaces/default/rolebindings"),
        json!({"metadata": {"name": "r"},
        "roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "Group", "name": "devs"}]}),
    )
    .await;
    let user = UserInfo {
        name: "ann".into(),
        uid: String::new(),
        groups: vec!["devs".into()],
    };
    for (verb, group, resource, name, namespace, allowed) in [
        ("get", "", "pods", "x", "default", true),
        ("list", "", "pods", "", "default", false),
        ("get", "", "pods", "x", "kube-system", false),
        ("get", "", "pods/log", "x", "default", true),
        ("update", "", "services/status", "x", "default", true),
        ("list", "apps", "deployments", "", "default", true),
        ("list", "", "deployments", "", "default", false),
        ("get", "", "secrets", "cacerts", "default", true),
        ("get", "", "secrets", "other", "default", false),
        ("create", "", "secrets", "", "default", false),
        ("get", "", "pods", "x", "", false),
    ] {
        let ask = rbac::Ask {
            verb: verb.into(),
            group: group.into(),
            resource: resource.into(),
            name: name.into(),
            namespace: namespace.into(),
            path: String::new(),
        };
        assert_eq!(api.0.state().may(&user, &ask), allowed, "{ask:?}");
    }
}

#[tokio::test]
async fn strangers_and_guests() {
    let api = api();
    let served = api.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let services = |client: Client| async move {
        let services: kube::Api<Service> = kube::Api::all(client);
        services
            .list(&ListParams::default())
            .await
            .map(|l| l.items.len())
    };
    let stranger = with_token(&api, &served, "k8s-aws-v1.abc").await;
    assert_eq!(code(services(stranger.clone()).await.unwrap_err()).0, 401);
    api.on_token(Arc::new(|token| {
        let guest = UserInfo {
            name: "arn:aws:iam::1:role/r".into(),
            groups: vec!["system:masters".into()],
            ..UserInfo::default()
        };
        token.starts_with("k8s-aws-v1.").then_some(guest)
    }));
    assert_eq!(services(stranger).await.unwrap(), 1);

    let mut config = Kubeconfig::from_yaml(&api.kubeconfig(&served.url, "one", "admin")).unwrap();
    config.auth_infos[0].auth_info = Some(AuthInfo::default());
    let config = kube::Config::from_custom_kubeconfig(config, &Default::default())
        .await
        .unwrap();
    let anonymous = Client::try_from(config).unwrap();
    anonymous.apiserver_version().await.unwrap();
    let (refused, message) = code(services(anonymous).await.unwrap_err());
    assert_eq!(refused, 403);
    assert!(message.contains("User \"system:anonymous\" cannot list resource \"services\""));
}

#[tokio::test]
async fn a_rule_for_a_name_allows_a_list_of_that_name() {
    let api = api();
    let admin = api.client();
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["kube-root-ca.crt"], "verbs": ["list"]}]);
    make(
        &admin,
        &format!("{rbac}/roles"),
        json!({"metadata": {"name": "r"}, "rules": rules}),
    )
    .await;
    make(
        &admin,
        &format!("{rbac}/rolebindings"),
        json!({"metadata": {"name": "r"},
        "roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "ann"}]}),
    )
    .await;
    let ann = |token: &str| {
        (token == "ann").then(|| UserInfo {
            name: "ann".into(),
            ..UserInfo::default()
        })
    };
    api.on_token(Arc::new(ann));
    let served = api.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let maps: kube::Api<ConfigMap> = spaced(&with_token(&api, &served, "ann").await, "default");
    let one = ListParams::default().fields("metadata.name=kube-root-ca.crt");
    assert_eq!(maps.list(&one).await.unwrap().items.len(), 1);
    let (refused, message) = code(
        maps.list(&ListParams::default().fields("metadata.name=other"))
            .await
            .unwrap_err(),
    );
    assert_eq!(refused, 403);
    assert!(
        message.starts_with("configmaps \"other\" is forbidden: User \"ann\" cannot list"),
        "{message}"
    );
    assert_eq!(
        code(maps.list(&ListParams::default()).await.unwrap_err()).0,
        403
    );
}

#[tokio::test]
async fn a_server_that_changes_its_authority_is_known_by_both_in_between() {
    let api = api();
    let served = api.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let old = api.kubeconfig(&served.url, "one", "admin");
    let answers = |config: String| async move {
        let config = Kubeconfig::from_yaml(&config).unwrap();
        let config = kube::Config::from_custom_kubeconfig(config, &Default::default())
            .await
            .unwrap();
        let client = Client::try_from(config).unwrap();
        client.apiserver_version().await.is_ok()
    };
    let told = |api: &Api| {
        let map = api.store().get("configmaps", "default", "kube-root-ca.crt");
        map.unwrap()["data"]["ca.crt"].as_str().unwrap().to_owned()
    };
    assert!(answers(old.clone()).await);
    api.change_authority(Authority::Append).unwrap();
    let both = api.kubeconfig(&served.url, "one", "admin");
    assert!(answers(old.clone()).await && answers(both.clone()).await);
    assert_eq!(told(&api), api.ca_pem());
    assert_eq!(told(&api).matches("BEGIN").count(), 2);
    api.change_authority(Authority::Sign).unwrap();
    assert!(!answers(old.clone()).await, "it signs with the newest");
    assert!(answers(both.clone()).await);
    api.change_authority(Authority::RollBack).unwrap();
    assert!(answers(old.clone()).await, "and back");
    api.change_authority(Authority::Sign).unwrap();
    api.change_authority(Authority::Retire).unwrap();
    let new = api.kubeconfig(&served.url, "one", "admin");
    assert!(answers(new).await && answers(both).await && !answers(old).await);
    assert_eq!(told(&api).matches("BEGIN").count(), 1);
}

#[tokio::test]
async fn a_bound_token_ends_with_its_secret_and_is_granted_for_no_longer_than_allowed() {
    let api = api();
    let admin = api.client();
    reader(&admin).await;
    make(
        &admin,
        "/api/v1/namespaces/default/secrets",
        json!({"metadata": {"name": "anchor"}}),
    )
    .await;
    let accounts: kube::Api<ServiceAccount> = spaced(&admin, "default");
    api.grant_at_most(7200);
    let ask = |name: &str| {
        of::<TokenRequest>(
            json!({"spec": {"audiences": [], "expirationSeconds": 86_400,
            "boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": name}}}),
        )
    };
    let posted = PostParams::default();
    let [none, anchor] = ["none", "anchor"].map(ask);
    let missing = accounts.create_token_request("reader", &posted, &none);
    assert_eq!(code(missing.await.unwrap_err()).0, 404);
    let granted = accounts.create_token_request("reader", &posted, &anchor);
    let granted = granted.await.unwrap();
    assert_eq!(granted.spec.unwrap().expiration_seconds, Some(7200));
    let token = granted.status.unwrap().token.unwrap();
    let accepted = || api.0.state().user_of(&token).is_some();
    assert!(accepted());
    let secrets: kube::Api<Secret> = spaced(&admin, "default");
    secrets
        .delete("anchor", &DeleteParams::default())
        .await
        .unwrap();
    assert!(!accepted(), "what it was bound to is gone");
    make(
        &admin,
        "/api/v1/namespaces/default/secrets",
        json!({"metadata": {"name": "anchor"}}),
    )
    .await;
    assert!(!accepted(), "another of the same name is another");
}
