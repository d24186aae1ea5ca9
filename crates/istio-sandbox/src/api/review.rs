//! Reviews and token requests: objects that are asked, not kept.

use serde_json::{Value, json};

use super::{
    discovery,
    hooks::UserInfo,
    rbac::{Ask, masters},
    state::{State, stamp},
    status::Failure,
    token::{ISSUER, Life},
    write::Target,
};

impl State {
    /// Answers a review; `None` if the resource is not one.
    pub(crate) fn review(
        &self,
        plural: &str,
        namespace: &str,
        user: &UserInfo,
        body: Value,
    ) -> Option<Value> {
        let mut review = body;
        let status = match plural {
            "selfsubjectaccessreviews" => verdict(self.why(user, &ask(&review["spec"]))),
            "subjectaccessreviews" | "localsubjectaccessreviews" => {
                verdict(self.why(&subject(&review["spec"]), &ask(&review["spec"])))
            }
            "selfsubjectrulesreviews" => {
                let asked = review["spec"]["namespace"].as_str().unwrap_or(namespace);
                self.rules_review(user, asked)
            }
            "selfsubjectreviews" => json!({"userInfo": shown(user)}),
            "tokenreviews" => {
                self.token_review(review["spec"]["token"].as_str().unwrap_or_default())
            }
            _ => return None,
        };
        if !review["metadata"].is_object() {
            review["metadata"] = json!({});
        }
        let (group, _, kind) = discovery::REVIEWS.iter().find(|(_, p, _)| *p == plural)?;
        review["kind"] = (*kind).into();
        review["apiVersion"] = format!("{group}/v1").into();
        review["metadata"]["creationTimestamp"] = Value::Null;
        review["status"] = status;
        Some(review)
    }

    fn rules_review(&self, user: &UserInfo, namespace: &str) -> Value {
        let all_resources = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
        if masters(user) {
            let all = json!([{"nonResourceURLs": ["*"], "verbs": ["*"]}]);
            return json!({"resourceRules": all_resources, "nonResourceRules": all, "incomplete": false});
        }
        let (paths, resources): (Vec<_>, Vec<_>) = self
            .rules(user, namespace)
            .into_iter()
            .partition(|r| r.get("nonResourceURLs").is_some());
        json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
    }

    fn token_review(&self, token: &str) -> Value {
        match self.user_of(token) {
            Some(user) => {
                json!({"authenticated": true, "user": shown(&user), "audiences": [ISSUER]})
            }
            None => {
                json!({"user": {}, "error": "invalid bearer token"})
            }
        }
    }

    /// Answers `serviceaccounts/token`.
    pub(crate) fn token_request(&mut self, target: &Target, body: Value) -> Result<Value, Failure> {
        let account = self.live(target)?;
        let mut request = body;
        let spec = &mut request["spec"];
        let seconds = spec["expirationSeconds"].as_i64().unwrap_or(3600);
        if seconds < 600 {
            return Err(too_short(seconds));
        }
        if spec["audiences"].as_array().is_none_or(Vec::is_empty) {
            spec["audiences"] = json!([ISSUER]);
        }
        // A real server grants less than was asked for without a word, but for what it answers.
        let seconds = self.longest_token.map_or(seconds, |most| seconds.min(most));
        spec["expirationSeconds"] = seconds.into();
        let bound = self.bound_to(target, &spec["boundObjectRef"])?;
        let now = (self.clock)();
        let life = Life {
            from: now.as_second(),
            until: now.as_second() + seconds,
            id: self.random.uid(),
        };
        let end = jiff::Timestamp::from_second(life.until).unwrap_or(now);
        let bound = bound
            .as_ref()
            .map(|(kind, object)| (kind.as_str(), object.clone()));
        let token = self
            .keys
            .bound_token(&account, bound, &spec["audiences"], life);
        request["status"] = json!({"token": token, "expirationTimestamp": stamp(end)});
        request["metadata"] = json!({"name": target.name, "namespace": target.namespace, "uid": account["metadata"]["uid"], "creationTimestamp": stamp(now)});
        request["kind"] = "TokenRequest".into();
        request["apiVersion"] = "authentication.k8s.io/v1".into();
        Ok(request)
    }

    fn bound_to(
        &self,
        target: &Target,
        reference: &Value,
    ) -> Result<Option<(String, Value)>, Failure> {
        let Some(kind) = reference["kind"].as_str() else {
            return Ok(None);
        };
        let name = reference["name"].as_str().unwrap_or_default();
        let resource = format!("{}s", kind.to_lowercase());
        let Some(found) = self
            .kinds
            .by_resource(&resource)
            .filter(|_| matches!(kind, "Pod" | "Secret"))
        else {
            return Err(Failure::bad_request(format!(
                "cannot bind token for serviceaccount to an object of kind {kind:?}"
            )));
        };
        let object = self.objects.get(&resource, &target.namespace, name);
        let object = object.ok_or_else(|| Failure::not_found(&found, name))?;
        let uid = &object["metadata"]["uid"];
        if reference.get("uid").is_some_and(|wanted| wanted != uid) {
            let why = format!(
                "the UID in the bound object reference ({}) does not match the UID in record",
                reference["uid"]
            );
            return Err(Failure::conflict(&found, name, &why));
        }
        Ok(Some((kind.to_owned(), json!({"name": name, "uid": uid}))))
    }
}

fn too_short(seconds: i64) -> Failure {
    let message =
        format!("Invalid value: {seconds}: may not specify a duration less than 10 minutes");
    let text = format!(
        "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: {message}"
    );
    let cause = json!({"reason": "FieldValueInvalid", "message": message, "field": "spec.expirationSeconds"});
    let mut failure = Failure::new(422, "Invalid", text).causes(vec![cause]);
    failure
        .details
        .insert("group".into(), "authentication.k8s.io".into());
    failure.details.insert("kind".into(), "TokenRequest".into());
    failure
}

fn verdict(why: Option<String>) -> Value {
    match why {
        Some(reason) if reason.is_empty() => json!({"allowed": true}),
        Some(reason) => json!({"allowed": true, "reason": reason}),
        None => json!({"allowed": false}),
    }
}

fn shown(user: &UserInfo) -> Value {
    let mut value = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        value["uid"] = user.uid.as_str().into();
    }
    value
}

fn subject(spec: &Value) -> UserInfo {
    let groups = spec["groups"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    UserInfo {
        name: spec["user"].as_str().unwrap_or_default().to_owned(),
        uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
        groups: groups.map(Into::into).collect(),
    }
}

fn ask(spec: &Value) -> Ask {
    if let Some(path) = spec.get("nonResourceAttributes") {
        let text = |field: &str| path[field].as_str().unwrap_or_default().to_owned();
        return Ask {
            verb: text("verb"),
            path: text("path"),
            ..Ask::default()
        };
    }
    let about = &spec["resourceAttributes"];
    let text = |field: &str| about[field].as_str().unwrap_or_default().to_owned();
    let (resource, sub) = (text("resource"), text("subresource"));
    let resource = if sub.is_empty() {
        resource
    } else {
        format!("{resource}/{sub}")
    };
    Ask {
        verb: text("verb"),
        group: text("group"),
        resource,
        namespace: text("namespace"),
        name: text("name"),
        path: String::new(),
    }
}
