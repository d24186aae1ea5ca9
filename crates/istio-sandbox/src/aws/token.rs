//! EKS tokens, judged as an API server's authenticator does: by sending the question on, here to ourselves.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    sign::{self, Scope, Signed},
    state::State,
};

/// How long a token is good, whatever `X-Amz-Expires` says.
const LIFE: Duration = Duration::from_secs(15 * 60);
/// The parameters a token's URL may have.
const PARAMETERS: [&str; 9] = [
    "Action",
    "Version",
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
];

/// Who a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speaker {
    /// Account.
    pub account: String,
    /// ARN of the user or role session.
    pub arn: String,
}

impl State {
    /// Who an EKS token speaks for, if it is one for this cluster and good now; else why not.
    pub fn speaker(&self, token: &str, cluster: &str) -> Result<Speaker, &'static str> {
        let url = open(token)?;
        let (host, query) = split(&url)?;
        let parameters = parameters(query)?;
        let get = |name: &str| parameters.get(name).map_or("", String::as_str);
        if get("Action") != "GetCallerIdentity" || get("X-Amz-Algorithm") != "AWS4-HMAC-SHA256" {
            return Err("not a question to STS about the caller");
        }
        let scope = Scope::new(
            get("X-Amz-Credential"),
            get("X-Amz-SignedHeaders"),
            get("X-Amz-Signature"),
        );
        let scope = scope.ok_or("no credential scope")?;
        if !is_sts(host, &scope.region) {
            return Err("not a public STS endpoint of the signature's region");
        }
        if !scope.signed_headers.iter().any(|h| h == "x-k8s-aws-id") {
            return Err("the cluster's name is not signed");
        }
        self.in_time(get("X-Amz-Date"), get("X-Amz-Expires"))?;
        let key = self.keys.get(&scope.key).ok_or("unknown access key")?;
        if key.session.as_deref().unwrap_or_default() != get("X-Amz-Security-Token") {
            return Err("another session token than the key's");
        }
        if key.expires.is_some_and(|end| end <= self.clock.now()) {
            return Err("the key has expired");
        }
        let headers = BTreeMap::from([
            ("host".to_owned(), host.to_owned()),
            ("x-k8s-aws-id".to_owned(), cluster.to_owned()),
        ]);
        let unsigned: Vec<&str> = query
            .split('&')
            .filter(|p| !p.starts_with("X-Amz-Signature="))
            .collect();
        let unsigned = unsigned.join("&");
        let request = Signed {
            method: "GET",
            path: "/",
            query: &unsigned,
            headers: &headers,
            body: b"",
        };
        if !scope.fits(&request, get("X-Amz-Date"), &key.secret) {
            return Err("the signature does not fit: another secret, or another cluster");
        }
        if !self.enters(cluster, &key.arn) {
            return Err("nobody with an access entry");
        }
        Ok(Speaker {
            account: key.account.clone(),
            arn: key.arn.clone(),
        })
    }

    /// Whether a principal has an access entry; a cluster without any lets everybody in.
    pub fn enters(&self, cluster: &str, arn: &str) -> bool {
        let entries = self
            .clusters
            .iter()
            .filter(|c| c.name() == cluster)
            .flat_map(|c| &c.entries);
        let entries: Vec<&String> = entries.collect();
        // Of a role's session the entry names the role: `…:sts::1:assumed-role/ROLE/SESSION`.
        let role = arn
            .split(":assumed-role/")
            .nth(1)
            .and_then(|rest| rest.split('/').next());
        let is = |entry: &&String| {
            entry.as_str() == arn || role.is_some_and(|role| entry.ends_with(&format!("/{role}")))
        };
        entries.is_empty() || entries.iter().any(is)
    }

    fn in_time(&self, stamp: &str, expires: &str) -> Result<(), &'static str> {
        let expires: u64 = expires.parse().map_err(|_| "no expiry")?;
        if expires > 900 {
            return Err("an expiry beyond fifteen minutes");
        }
        let made = sign::time(stamp).ok_or("no date")?;
        let now = self.clock.now();
        if made > now + Duration::from_secs(300) {
            return Err("from the future");
        }
        if made + LIFE < now {
            Err("older than fifteen minutes")
        } else {
            Ok(())
        }
    }
}

fn open(token: &str) -> Result<String, &'static str> {
    if token.len() > 4096 {
        return Err("longer than 4096 bytes");
    }
    let text = token
        .strip_prefix("k8s-aws-v1.")
        .ok_or("not an EKS token")?;
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| "not base64")?;
    String::from_utf8(bytes).map_err(|_| "not a URL")
}

fn split(url: &str) -> Result<(&str, &str), &'static str> {
    let rest = url.strip_prefix("https://").ok_or("not https")?;
    let (host, rest) = rest.split_once('/').ok_or("no path")?;
    Ok((host, rest.strip_prefix('?').ok_or("a path beyond /")?))
}

fn parameters(query: &str) -> Result<BTreeMap<String, String>, &'static str> {
    let mut all = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()).into_owned() {
        if !PARAMETERS.contains(&name.as_str()) {
            return Err("a parameter that has no business here");
        }
        if all.insert(name, value).is_some() {
            return Err("a parameter given twice");
        }
    }
    Ok(all)
}

fn is_sts(host: &str, region: &str) -> bool {
    let suffix = host.strip_prefix(&format!("sts.{region}."));
    suffix.is_some_and(|s| {
        [
            "amazonaws.com",
            "amazonaws.com.cn",
            "amazonaws.eu",
            "c2s.ic.gov",
            "sc2s.sgov.gov",
            "cloud.adc-e.uk",
            "csp.hci.ic.gov",
        ]
        .contains(&s)
    })
}
