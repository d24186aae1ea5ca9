//! Bearer tokens: the admin's, and those of service accounts as signed JWTs.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
        UnparsedPublicKey,
    },
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use super::{hooks::UserInfo, state::State};

/// Who signs bound tokens, and for whom they are unless asked otherwise.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// The cluster's own keys. Made at start and never written anywhere.
pub(crate) struct Keys {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    kid: String,
    admin: String,
}

impl Keys {
    pub(crate) fn new() -> Result<Self, aws_lc_rs::error::Unspecified> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        let kid = URL_SAFE_NO_PAD.encode(<sha2::Sha256 as sha2::Digest>::digest(
            pair.public_key().as_ref(),
        ));
        let mut admin = [0_u8; 32];
        aws_lc_rs::rand::fill(&mut admin)?;
        Ok(Self {
            pair,
            random: SystemRandom::new(),
            kid,
            admin: URL_SAFE_NO_PAD.encode(admin),
        })
    }

    /// The token that may do everything.
    pub(crate) fn admin(&self) -> &str {
        &self.admin
    }

    fn sign(&self, claims: &Value) -> String {
        let head = json!({"alg": "ES256", "kid": self.kid});
        let text = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(head.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        // A signature that cannot be made leaves a token nobody accepts.
        let signature = self.pair.sign(&self.random, text.as_bytes());
        let signature = signature
            .map(|s| URL_SAFE_NO_PAD.encode(s))
            .unwrap_or_default();
        format!("{text}.{signature}")
    }

    fn claims(&self, token: &str) -> Option<Value> {
        let (text, signature) = token.rsplit_once('.')?;
        let (_, claims) = text.split_once('.')?;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref());
        key.verify(text.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?)
            .ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    }

    /// The token of an account's Secret: it ends with the Secret.
    pub(crate) fn secret_token(&self, namespace: &str, secret: &Value, account: &Value) -> String {
        let (name, uid) = (&account["metadata"]["name"], &account["metadata"]["uid"]);
        self.sign(&json!({
            "iss": LEGACY_ISSUER,
            "kubernetes.io/serviceaccount/namespace": namespace,
            "kubernetes.io/serviceaccount/secret.name": secret["metadata"]["name"],
            "kubernetes.io/serviceaccount/service-account.name": name,
            "kubernetes.io/serviceaccount/service-account.uid": uid,
            "sub": subject(namespace, name),
        }))
    }

    /// A token with an end, bound to the account and perhaps to another object.
    pub(crate) fn bound_token(
        &self,
        account: &Value,
        bound: Option<(&str, Value)>,
        audiences: &Value,
        life: Life,
    ) -> String {
        let meta = &account["metadata"];
        let namespace = meta["namespace"].as_str().unwrap_or_default();
        let mut about = json!({"namespace": namespace, "serviceaccount": {"name": meta["name"], "uid": meta["uid"]}});
        if let Some((kind, object)) = bound {
            about[kind.to_lowercase()] = object;
        }
        self.sign(&json!({
            "aud": audiences, "exp": life.until, "iat": life.from, "iss": ISSUER, "jti": life.id,
            "kubernetes.io": about, "nbf": life.from, "sub": subject(namespace, &meta["name"]),
        }))
    }
}

/// When a bound token counts, in seconds.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) from: i64,
    pub(crate) until: i64,
    pub(crate) id: String,
}

fn subject(namespace: &str, name: &Value) -> String {
    format!(
        "system:serviceaccount:{namespace}:{}",
        name.as_str().unwrap_or_default()
    )
}

impl State {
    /// Who a bearer token belongs to, if it counts at this moment.
    pub(crate) fn user_of(&self, token: &str) -> Option<UserInfo> {
        if token == self.keys.admin() {
            return Some(admin());
        }
        match self.keys.claims(token) {
            Some(claims) if claims["iss"] == LEGACY_ISSUER => self.by_secret(&claims, token),
            Some(claims) => self.by_claims(&claims),
            None => self.hooks.user_of(token).map(authenticated),
        }
    }

    fn by_secret(&self, claims: &Value, token: &str) -> Option<UserInfo> {
        let claim = |name: &str| claims[format!("kubernetes.io/serviceaccount/{name}")].as_str();
        let namespace = claim("namespace")?;
        let secret = self
            .objects
            .get("secrets", namespace, claim("secret.name")?)?;
        let stored = STANDARD.decode(secret["data"]["token"].as_str()?).ok()?;
        let leaving = secret["metadata"].get("deletionTimestamp").is_some();
        (stored == token.as_bytes() && !leaving).then_some(())?;
        self.account(
            namespace,
            claim("service-account.name")?,
            claim("service-account.uid")?,
        )
    }

    fn by_claims(&self, claims: &Value) -> Option<UserInfo> {
        let now = (self.clock)().as_second();
        let counts = claims["exp"].as_i64()? > now && claims["nbf"].as_i64()? <= now;
        let audience = claims["aud"].as_array()?.iter().any(|a| a == ISSUER);
        (counts && audience).then_some(())?;
        let about = &claims["kubernetes.io"];
        let namespace = about["namespace"].as_str()?;
        for (kind, resource) in [("secret", "secrets"), ("pod", "pods")] {
            if let Some(bound) = about.get(kind) {
                let object = self
                    .objects
                    .get(resource, namespace, bound["name"].as_str()?)?;
                (object["metadata"]["uid"] == bound["uid"]).then_some(())?;
            }
        }
        let account = &about["serviceaccount"];
        self.account(
            namespace,
            account["name"].as_str()?,
            account["uid"].as_str()?,
        )
    }

    fn account(&self, namespace: &str, name: &str, uid: &str) -> Option<UserInfo> {
        let account = self.objects.get("serviceaccounts", namespace, name)?;
        let same = account["metadata"]["uid"] == uid
            && account["metadata"].get("deletionTimestamp").is_none();
        same.then(|| service_account(namespace, name, uid))
    }
}

/// The one who may do everything.
pub(crate) fn admin() -> UserInfo {
    let groups = ["system:masters", "system:authenticated"]
        .map(Into::into)
        .to_vec();
    UserInfo {
        name: "kubernetes-admin".into(),
        uid: String::new(),
        groups,
    }
}

/// One who came without a token.
pub(crate) fn anonymous() -> UserInfo {
    UserInfo {
        name: "system:anonymous".into(),
        uid: String::new(),
        groups: vec!["system:unauthenticated".into()],
    }
}

fn service_account(namespace: &str, name: &str, uid: &str) -> UserInfo {
    UserInfo {
        name: format!("system:serviceaccount:{namespace}:{name}"),
        uid: uid.to_owned(),
        groups: vec![
            "system:serviceaccounts".into(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".into(),
        ],
    }
}

fn authenticated(mut user: UserInfo) -> UserInfo {
    let group = "system:authenticated".to_owned();
    if !user.groups.contains(&group) {
        user.groups.push(group);
    }
    user
}
