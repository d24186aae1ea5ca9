//! `meshlink terraform`: the program behind Terraform's `external` data source.
//!
//! It reads one JSON object of strings from standard input and writes one to standard output; anything else it says
//! goes to standard error. It only reads clusters, never changes them, keeps its own deadline (Terraform has none and
//! stops it with SIGKILL), and returns no secret, because Terraform keeps results in its state in clear.

use std::{
    collections::BTreeMap,
    future::Future,
    io::{self, Read as _},
    path::PathBuf,
    time::Duration,
};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    cli::{
        Frame,
        args::{Sources, Target},
        error::{Exit, Failure, Kind},
        output::{filter, json},
        session::{Selection, Session},
    },
    hint::Hint,
    verify::Verdict,
};

/// How long an answer may take, unless the query says otherwise.
const DEADLINE: Duration = Duration::from_secs(20);
/// More is not a query.
const LIMIT: u64 = 64 * 1024;
/// What a query may hold.
const KEYS: [&str; 8] = [
    "clusters",
    "document",
    "file",
    "kubeconfig",
    "mesh",
    "require_ready",
    "sandbox",
    "timeout",
];

/// What Terraform asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    /// The members; none means all the mesh knows.
    clusters: Vec<String>,
    /// A mesh file's text.
    document: Option<String>,
    file: Option<PathBuf>,
    kubeconfig: Option<PathBuf>,
    mesh: Option<String>,
    /// Not ready is an error.
    require_ready: bool,
    sandbox: bool,
    timeout: Duration,
}

/// What it is told.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Answer {
    mesh: String,
    environment: String,
    verdict: Verdict,
    /// Gateway addresses by cluster.
    gateways: BTreeMap<String, Vec<String>>,
    /// Public-key hash of the root, by cluster.
    roots: BTreeMap<String, Option<String>>,
    /// It did not come within this time.
    late: Option<Duration>,
}

/// The same as Terraform takes it: every value is a string, its own version too.
#[derive(Debug, Serialize, JsonSchema)]
struct Told {
    /// The version of this schema.
    schema_version: String,
    /// `true` if nothing is wrong and every pair is proved.
    ready: String,
    /// Why it is not ready.
    reason: String,
    /// The mesh.
    mesh: String,
    /// `embedded` for the sandbox, else `real`.
    environment: String,
    /// SHA-256 of the public key of the root, if all members publish the same.
    root_sha256: String,
    /// The members, as JSON.
    clusters_json: String,
    /// Gateway addresses by cluster, as JSON.
    gateways_json: String,
    /// The claims, as JSON.
    checks_json: String,
}

/// The schema of the answer.
pub(crate) fn schema() -> (&'static str, Value) {
    ("terraform", json::of::<Told>())
}

impl Answer {
    /// Why the mesh is not ready, if it is not.
    fn not_ready(&self) -> Option<String> {
        if let Some(limit) = self.late {
            let seconds = limit.as_secs_f32();
            return Some(format!("no answer from all clusters within {seconds} s"));
        }
        let failed: Vec<_> = self.verdict.failed().collect();
        let failed = failed.first().map(|c| match failed.len() {
            1 => format!("{}: {}", c.path(), c.evidence),
            n => format!("{}: {} (and {} more)", c.path(), c.evidence, n - 1),
        });
        failed.or_else(|| {
            let (from, to) = self.verdict.unproved()?;
            let text = "no request is known to have been answered since something changed: join again, which proves it";
            Some(format!("proved/{from}/{to}: {text}"))
        })
    }
}

/// Runs it.
pub(crate) async fn run(frame: &Frame) -> Result<Exit, Failure> {
    let input = tokio::task::spawn_blocking(|| {
        let mut text = String::new();
        io::stdin()
            .take(LIMIT)
            .read_to_string(&mut text)
            .map(|_| text)
    });
    let input = async { input.await.unwrap_or_else(|e| Err(io::Error::other(e))) };
    let result = exchange(input, |query| look(query, frame)).await?;
    frame.screen.print(&filter::json(&result.to_string()))?;
    Ok(Exit::Done)
}

/// The protocol: a query in, a result out, within the query's own time.
async fn exchange<F>(
    input: impl Future<Output = io::Result<String>>,
    look: impl FnOnce(Query) -> F,
) -> Result<Value, Failure>
where
    F: Future<Output = Result<Answer, Failure>>,
{
    let text = tokio::time::timeout(DEADLINE, input)
        .await
        .map_err(|_| {
            Failure::usage("nothing came on standard input: this command is for Terraform to run")
        })?
        .map_err(|e| Failure::usage(format!("standard input cannot be read: {e}")))?;
    let query = Query::read(&text).map_err(|why| {
        Failure::usage(why).hint(Hint::shell(
            r#"echo '{"clusters":"eks-1,eks-2"}' | meshlink terraform"#,
        ))
    })?;
    let (limit, required) = (query.timeout, query.require_ready);
    let answer = match tokio::time::timeout(limit, look(query)).await {
        Ok(answer) => answer?,
        Err(_) => Answer {
            late: Some(limit),
            ..Answer::default()
        },
    };
    match answer.not_ready() {
        Some(reason) if required => Err(Failure::from_causes(
            Kind::NotInTime,
            vec!["the mesh is not ready".into(), reason],
        )
        .hint(Hint::meshlink(["status"]))),
        _ => Ok(result(&answer)),
    }
}

impl Query {
    fn read(text: &str) -> Result<Self, String> {
        let object: Map<String, Value> = serde_json::from_str(text)
            .map_err(|e| format!("standard input is not one JSON object: {e}"))?;
        let mut given = BTreeMap::new();
        for (key, value) in object {
            if !KEYS.contains(&key.as_str()) {
                return Err(format!(
                    "the query holds {key:?}; it may hold: {}",
                    KEYS.join(", ")
                ));
            }
            match value {
                Value::String(text) => drop(given.insert(key, text)),
                Value::Null => {}
                _ => return Err(format!("{key} in the query is not a string")),
            }
        }
        let mut take = |key: &str| given.remove(key).filter(|text| !text.trim().is_empty());
        let words = |text: String| {
            text.split([',', ' ', '\n'])
                .filter(|w| !w.is_empty())
                .map(str::to_owned)
                .collect()
        };
        Ok(Self {
            clusters: take("clusters").map(words).unwrap_or_default(),
            document: take("document"),
            file: take("file").map(PathBuf::from),
            kubeconfig: take("kubeconfig").map(PathBuf::from),
            mesh: take("mesh"),
            require_ready: flag("require_ready", take("require_ready"))?,
            sandbox: flag("sandbox", take("sandbox"))?,
            timeout: take("timeout").map_or(Ok(DEADLINE), |text| time(&text))?,
        })
    }

    fn target(&self) -> Result<Target, Failure> {
        let mesh = self.mesh.as_deref().map(str::parse).transpose();
        Ok(Target {
            file: self.file.clone(),
            document: self.document.clone(),
            mesh: mesh.map_err(|e: crate::name::Error| Failure::usage(e.to_string()))?,
            sandbox: self.sandbox,
            kubeconfig: self.kubeconfig.clone(),
            // A member that says nothing must leave time to tell of the others.
            timeout: self.timeout / 2,
            insecure_cluster: Vec::new(),
            sources: Sources::default(),
        })
    }
}

fn flag(key: &str, text: Option<String>) -> Result<bool, String> {
    match text.as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(format!(
            "{key} in the query is {other:?}: write \"true\" or \"false\""
        )),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let bad = || format!("timeout in the query is {text:?}: write it like \"20s\" or \"2m\"");
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| bad())?;
    Duration::try_from(parsed)
        .ok()
        .filter(|t| !t.is_zero())
        .ok_or_else(bad)
}

/// Reads the mesh, and nothing else.
async fn look(query: Query, frame: &Frame) -> Result<Answer, Failure> {
    let session = Session::open(Selection::Some(&query.clusters), &query.target()?, frame).await?;
    let link = &session.link;
    let reading = link.read().await?;
    let verdict = link.judge(&reading).await;
    let mut verdict = verdict.with_strangers(link.mesh(), &session.strangers);
    frame.hints.settle_verdict(&mut verdict);
    let seen = || {
        reading
            .observed
            .clusters
            .iter()
            .map(|(name, seen)| (name.to_string(), seen))
    };
    Ok(Answer {
        mesh: link.mesh.id.to_string(),
        environment: link.environment_name(),
        gateways: seen()
            .map(|(name, seen)| (name, seen.gateway.addresses.clone()))
            .collect(),
        roots: seen()
            .map(|(name, seen)| {
                (
                    name,
                    (seen.published_roots.len() == 1).then(|| seen.published_roots[0].clone()),
                )
            })
            .collect(),
        verdict,
        late: None,
    })
}

/// Every value is a string: Terraform takes no other.
fn result(answer: &Answer) -> Value {
    let reason = answer.not_ready();
    let root = answer.roots.values().flatten().next().filter(|first| {
        answer
            .roots
            .values()
            .all(|root| root.as_ref() == Some(*first))
    });
    json!(Told {
        schema_version: json::VERSION.to_string(),
        ready: reason.is_none().to_string(),
        reason: reason.unwrap_or_default(),
        mesh: answer.mesh.clone(),
        environment: answer.environment.clone(),
        root_sha256: root.cloned().unwrap_or_default(),
        clusters_json: json!(answer.verdict.clusters).to_string(),
        gateways_json: json!(answer.gateways).to_string(),
        checks_json: json!(answer.verdict.checks).to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{Check, Claim, Outcome};

    fn answer(outcome: Outcome) -> Answer {
        let check = Check {
            id: Claim::Synced,
            from: "eks-1".into(),
            to: Some("eks-2".into()),
            outcome,
            evidence: "istiod-0 says timeout".into(),
            hints: vec![],
        };
        let proved = |from: &str, to: &str| Check {
            id: Claim::Proved,
            from: from.into(),
            to: Some(to.into()),
            outcome: Outcome::Ok,
            ..check.clone()
        };
        let proofs = [proved("eks-1", "eks-2"), proved("eks-2", "eks-1")];
        Answer {
            mesh: "mesh".into(),
            environment: "real".into(),
            verdict: Verdict {
                clusters: vec!["eks-1".into(), "eks-2".into()],
                checks: [vec![check], proofs.into()].concat(),
                ..Verdict::default()
            },
            gateways: [("eks-1".to_owned(), vec!["a.elb.test".to_owned()])].into(),
            roots: [
                ("eks-1".to_owned(), Some("ab".to_owned())),
                ("eks-2".to_owned(), Some("ab".to_owned())),
            ]
            .into(),
            late: None,
        }
    }

    async fn ask(text: &str, outcome: Outcome) -> Result<Value, Failure> {
        exchange(async { Ok(text.to_owned()) }, |_| async {
            Ok(answer(outcome))
        })
        .await
    }

    #[tokio::test]
    async fn the_result_is_one_flat_object_of_strings() {
        let result = ask(r#"{"clusters":"eks-1,eks-2"}"#, Outcome::Ok)
            .await
            .unwrap();
        assert!(
            result.as_object().unwrap().values().all(Value::is_string),
            "{result}"
        );
        assert_eq!(
            (&result["ready"], &result["reason"]),
            (&json!("true"), &json!(""))
        );
        assert_eq!(result["gateways_json"], r#"{"eks-1":["a.elb.test"]}"#);
        assert_eq!(result["root_sha256"], "ab");
        assert!(!result.to_string().contains('\n'));
    }

    #[tokio::test]
    async fn not_ready_is_a_result_unless_ready_was_required() {
        let result = ask("{}", Outcome::Failed).await.unwrap();
        assert_eq!(result["ready"], "false");
        assert_eq!(
            result["reason"],
            "synced/eks-1/eks-2: istiod-0 says timeout"
        );
        let failure = ask(r#"{"require_ready":"true"}"#, Outcome::Failed)
            .await
            .unwrap_err();
        assert_eq!(failure.kind, Kind::NotInTime);
        assert_eq!(
            failure.errors[0].causes[1],
            "synced/eks-1/eks-2: istiod-0 says timeout"
        );
    }

    #[tokio::test]
    async fn bad_queries_are_refused_with_what_to_write() {
        for (text, want) in [
            ("", "not one JSON object"),
            ("[]", "not one JSON object"),
            ("{} {}", "not one JSON object"),
            ("null", "not one JSON object"),
            (
                r#"{"clusters":["a"]}"#,
                "clusters in the query is not a string",
            ),
            (r#"{"timeout":20}"#, "timeout in the query is not a string"),
            (r#"{"timeout":"soon"}"#, "write it like"),
            (r#"{"timeout":"0s"}"#, "write it like"),
            (r#"{"require_ready":"yes"}"#, "\"true\" or \"false\""),
            (
                r#"{"cluster":"a"}"#,
                "it may hold: clusters, document, file",
            ),
        ] {
            let failure = ask(text, Outcome::Ok).await.unwrap_err();
            assert_eq!(failure.kind, Kind::Usage, "{text}");
            assert!(
                failure.errors[0].causes[0].contains(want),
                "{text}: {failure:?}"
            );
            assert!(!failure.errors[0].hints.is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_keeps_its_own_deadline() {
        let never = |_| std::future::pending();
        let result = exchange(async { Ok(r#"{"timeout":"3s"}"#.to_owned()) }, never)
            .await
            .unwrap();
        assert_eq!(result["ready"], "false");
        assert_eq!(result["reason"], "no answer from all clusters within 3 s");
        let failure = exchange(std::future::pending(), never).await.unwrap_err();
        assert_eq!(failure.kind, Kind::Usage);
    }

    #[test]
    fn names_may_be_separated_as_people_do() {
        let query =
            Query::read(r#"{"clusters":" eks-1, eks-2\neks-3 ","mesh":null,"timeout":"1m"}"#)
                .unwrap();
        assert_eq!(query.clusters, ["eks-1", "eks-2", "eks-3"]);
        assert_eq!((query.mesh, query.timeout), (None, Duration::from_secs(60)));
    }
}
