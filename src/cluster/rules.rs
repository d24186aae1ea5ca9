//! The rules that hold for whoever asks, in one answer where a review of each right is many.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};

use super::{Access, Cluster, Error, Verb, wire::Call};

/// A namespace of this name has no bindings, so that what holds there holds everywhere.
const NOWHERE: &str = "meshlink-nowhere";

/// What an API server says of the rules that hold for an account.
#[derive(Debug)]
pub(crate) struct Rules {
    /// By namespace; of no namespace, what holds in all.
    by: BTreeMap<Option<String>, Vec<Value>>,
    /// The rules are all there are: nobody but RBAC decides here.
    pub(crate) whole: bool,
    /// The rules as text: equal rules read alike.
    pub(crate) said: String,
}

impl Cluster {
    /// The rules that hold for us where these rights are wanted.
    pub(crate) async fn rules_for(&self, wanted: &[Access]) -> Result<Rules, Error> {
        let mut rules = Rules {
            by: wanted
                .iter()
                .map(|a| (a.namespace.clone(), vec![]))
                .collect(),
            whole: true,
            said: String::new(),
        };
        for (namespace, found) in &mut rules.by {
            let within = namespace.as_deref().unwrap_or(NOWHERE);
            let (all, whole) = self.rules_in(within).await?;
            rules.whole &= whole;
            *found = all;
            let mut said: Vec<_> = found.iter().map(Value::to_string).collect();
            said.sort();
            rules.said += &format!("{within}: {}\n", said.join("\n"));
        }
        Ok(rules)
    }

    /// The rules that hold for us in a namespace, those for all of the cluster among them; and whether these are all.
    pub(crate) async fn rules_in(&self, namespace: &str) -> Result<(Vec<Value>, bool), Error> {
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace}});
        let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
        let call = Call {
            body: Some(&review),
            ..Call::new(Method::POST, path)
        };
        let failed = |source| self.failed(Verb::Review, "its own rules", source);
        let (_, mut answer) = self.call(call).await.map_err(failed)?;
        let status = &mut answer["status"];
        let whole = status["incomplete"] == false;
        match status["resourceRules"].take() {
            Value::Array(all) => Ok((all, whole)),
            _ => Ok((vec![], whole)),
        }
    }
}

impl Rules {
    /// Whether they allow all of this.
    pub(crate) fn cover(&self, wanted: &[Access]) -> bool {
        let one = |access: &Access| {
            let rules = self.by.get(&access.namespace);
            rules.into_iter().flatten().any(|rule| allows(rule, access))
        };
        wanted.iter().all(one)
    }
}

fn allows(rule: &Value, access: &Access) -> bool {
    let list = |key: &str| rule[key].as_array().map(Vec::as_slice).unwrap_or_default();
    let has = |key: &str, one: &str| list(key).iter().any(|v| v == "*" || v == one);
    let names = list("resourceNames");
    let named = names.is_empty()
        || access
            .name
            .as_ref()
            .is_some_and(|n| names.iter().any(|v| v == n.as_str()));
    has("verbs", &access.verb)
        && has("apiGroups", &access.group)
        && has("resources", &access.resource)
        && named
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(rule: Value) -> Rules {
        Rules {
            by: BTreeMap::from([(None, vec![rule]), (Some("a".into()), vec![])]),
            whole: true,
            said: String::new(),
        }
    }

    #[test]
    fn a_rule_allows_what_it_names_and_no_more() {
        let read =
            rules(json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}));
        let get = |verb: &str, group: &str, resource: &str| Access::new(verb, group, resource);
        assert!(read.cover(&[get("get", "", "pods"), get("list", "", "pods")]));
        for other in [
            get("watch", "", "pods"),
            get("get", "apps", "pods"),
            get("get", "", "secrets"),
            get("get", "", "pods/log"),
            get("get", "", "pods").within("a"),
        ] {
            assert!(
                !read.cover(&[get("get", "", "pods"), other.clone()]),
                "{other}"
            );
        }
        let all = rules(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        assert!(all.cover(&[get("watch", "x.io", "things")]));
        let one = rules(
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["istio"]}),
        );
        assert!(one.cover(&[get("get", "", "configmaps").named("istio")]));
        assert!(!one.cover(&[get("get", "", "configmaps").named("other")]));
        assert!(
            !one.cover(&[get("get", "", "configmaps")]),
            "not all of them"
        );
    }
}
