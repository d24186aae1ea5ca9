//! What the real control plane does on its own: accounts and root certificates for namespaces, tokens for
//! Secrets, CRDs that come to be served.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    kind::Kind,
    state::{Later, State},
    store::key,
    write::{Target, WriteOptions},
};

const TOKEN_SECRET: &str = "kubernetes.io/service-account-token";

impl State {
    /// Namespaces and objects every cluster is born with.
    pub(crate) fn bootstrap(&mut self) {
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            self.make("namespaces", "", json!({"metadata": {"name": name}}));
        }
        let service = json!({
            "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
            "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443, "targetPort": 6443}]},
        });
        self.make("services", "default", service);
        for role in super::rbac::born_roles() {
            self.make("clusterroles.rbac.authorization.k8s.io", "", role);
        }
        for binding in super::rbac::born_bindings() {
            self.make("clusterrolebindings.rbac.authorization.k8s.io", "", binding);
        }
    }

    fn make(&mut self, resource: &str, namespace: &str, object: Value) {
        let Some(kind) = self.kinds.by_resource(resource) else {
            return;
        };
        let options = WriteOptions {
            manager: "kube-controller-manager".into(),
            ..WriteOptions::default()
        };
        // What is there already is as good.
        let _ = self.create(&Target::object(&kind, namespace, ""), object, &options);
    }

    pub(crate) fn after_write(&mut self, kind: &Arc<Kind>, object: &Arc<Value>) {
        let (namespace, name) = key(object);
        match kind.kind.as_str() {
            "Namespace" if object["metadata"].get("deletionTimestamp").is_none() => {
                self.make(
                    "serviceaccounts",
                    &name,
                    json!({"metadata": {"name": "default"}}),
                );
                self.make("configmaps", &name, self.root_certificates());
            }
            "CustomResourceDefinition" if kind.crd.is_none() => {
                if established(object) {
                    self.kinds.serve_crd(object);
                } else {
                    self.later.push(Later::Establish(name));
                }
            }
            "Secret" if object["type"] == TOKEN_SECRET && object["data"].get("token").is_none() => {
                self.later.push(Later::Token { namespace, name });
            }
            _ => {}
        }
    }

    fn root_certificates(&self) -> Value {
        json!({"metadata": {"name": "kube-root-ca.crt", "annotations": {
            "kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver \
                when using internal endpoints such as the internal service IP or kubernetes.default.svc. \
                No other usage is guaranteed across distributions of Kubernetes clusters."}},
            "data": {"ca.crt": self.ca_pem}})
    }

    /// Hands other authorities to everybody who trusts the server: in every namespace, and with every account's token.
    pub(crate) fn publish_authorities(&mut self, bundle: String) {
        self.ca_pem = bundle;
        let maps = self.objects.list("configmaps", None);
        let maps = maps.filter(|map| map["metadata"]["name"] == "kube-root-ca.crt");
        for map in maps.cloned().collect::<Vec<_>>() {
            let mut map = (*map).clone();
            map["data"]["ca.crt"] = self.ca_pem.as_str().into();
            self.objects.put("configmaps", map);
        }
        let secrets = self.objects.list("secrets", None);
        let filled = secrets.filter(|s| account_of(s).is_some() && s["data"]["token"].is_string());
        for secret in filled.cloned().collect::<Vec<_>>() {
            let mut secret = (*secret).clone();
            secret["data"]["ca.crt"] = STANDARD.encode(&self.ca_pem).into();
            self.objects.put("secrets", secret);
        }
    }

    pub(crate) fn after_remove(&mut self, kind: &Kind, object: &Value) {
        let (namespace, name) = key(object);
        match kind.kind.as_str() {
            "CustomResourceDefinition" if kind.crd.is_none() => self.kinds.forget_crd(object),
            "ServiceAccount" => self.remove_token_secrets(&namespace, &name),
            _ => {}
        }
    }

    fn remove_token_secrets(&mut self, namespace: &str, account: &str) {
        let Some(kind) = self.kinds.by_resource("secrets") else {
            return;
        };
        let secrets = self.objects.list("secrets", Some(namespace));
        let theirs = secrets
            .filter(|s| account_of(s) == Some(account))
            .map(|s| key(s).1);
        for name in theirs.collect::<Vec<_>>() {
            self.remove(&kind, namespace, &name);
        }
    }

    /// Does what was put off.
    pub(crate) fn catch_up(&mut self, later: &Later) {
        match later {
            Later::Establish(name) => self.establish(name),
            Later::Token { namespace, name } => self.fill_token(namespace, name),
        }
    }

    fn establish(&mut self, name: &str) {
        let resource = "customresourcedefinitions.apiextensions.k8s.io";
        let Some(found) = self.objects.get(resource, "", name) else {
            return;
        };
        let mut crd = (**found).clone();
        let now = self.now();
        let condition = |kind: &str, reason: &str, message: &str| json!({"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now});
        let storage = crd["spec"]["versions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|v| v["storage"] == true);
        let stored = storage.map_or(Value::Null, |v| v["name"].clone());
        crd["status"] = json!({
            "conditions": [
                condition("NamesAccepted", "NoConflicts", "no conflicts found"),
                condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
            ],
            "acceptedNames": crd["spec"]["names"], "storedVersions": [stored],
        });
        self.kinds.serve_crd(&crd);
        self.objects.put(resource, crd);
    }

    fn fill_token(&mut self, namespace: &str, name: &str) {
        let Some(found) = self.objects.get("secrets", namespace, name) else {
            return;
        };
        let mut secret = (**found).clone();
        let account = account_of(&secret).unwrap_or_default().to_owned();
        let Some(owner) = self
            .objects
            .get("serviceaccounts", namespace, &account)
            .cloned()
        else {
            // As the real controller does with a Secret of an account that is not there.
            let kind = self.kinds.by_resource("secrets");
            kind.map(|kind| self.remove(&kind, namespace, name));
            return;
        };
        let token = self.keys.secret_token(namespace, &secret, &owner);
        secret["metadata"]["annotations"]["kubernetes.io/service-account.uid"] =
            owner["metadata"]["uid"].clone();
        if !secret["data"].is_object() {
            secret["data"] = json!({});
        }
        secret["data"]["ca.crt"] = STANDARD.encode(&self.ca_pem).into();
        secret["data"]["namespace"] = STANDARD.encode(namespace).into();
        secret["data"]["token"] = STANDARD.encode(token).into();
        self.objects.put("secrets", secret);
    }
}

fn established(crd: &Value) -> bool {
    let conditions = crd.pointer("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Established" && c["status"] == "True")
}

/// The account a token Secret belongs to.
pub(crate) fn account_of(secret: &Value) -> Option<&str> {
    (secret["type"] == TOKEN_SECRET)
        .then(|| secret["metadata"]["annotations"]["kubernetes.io/service-account.name"].as_str())
        .flatten()
}
