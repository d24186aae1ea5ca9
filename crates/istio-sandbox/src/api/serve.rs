//! One request, from its bytes to its answer: faults, who, what, may they, do it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, header, request::Parts};
use http_body_util::BodyExt;
use hyper::body::Body;
use serde_json::{Value, json};
use tower::BoxError;

use super::{
    Server,
    delete::DeleteOptions,
    discovery,
    faults::{self, Fault},
    forward,
    hooks::UserInfo,
    patch::Patch,
    protobuf,
    rbac::Ask,
    read::{in_version, whole_list},
    reply::{self, Reply, Shape, json_reply},
    request::{Query, ResourcePath, Route},
    state::State,
    status::Failure,
    token,
    watch::watch,
    write::{Target, WriteOptions},
};

/// Whether requests through this door are counted and struck by faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// As any client comes in.
    Front,
    /// As those come in who play the cluster itself.
    Backstage,
}

/// One request with everything known about it.
struct Asked {
    parts: Parts,
    query: Query,
    route: Route,
    verb: &'static str,
    user: UserInfo,
}

/// An answer, with the time it was given at: clients tell by it whether their clocks are right.
pub(crate) async fn handle<B>(
    server: Arc<Server>,
    door: Door,
    request: Request<B>,
) -> Result<Reply, BoxError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut reply = respond(server.clone(), door, request).await?;
    let date = server.state().date();
    if let Ok(date) = HeaderValue::from_str(&date) {
        reply.headers_mut().insert(header::DATE, date);
    }
    Ok(reply)
}

async fn respond<B>(server: Arc<Server>, door: Door, request: Request<B>) -> Result<Reply, BoxError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let route = Route::parse(parts.uri.path());
    let verb = match &route {
        Route::Resource(path) => path.verb(&parts, &query),
        Route::Other => "get",
    };
    let fault = if door == Door::Front {
        front(&server, &route, verb, &parts)
    } else {
        None
    };
    match fault {
        Some(Fault::Status(code, wait)) => return Ok(reply::failure(&faults::status(code, wait))),
        Some(Fault::Reset) => return Err(reset()),
        Some(Fault::Stall) => std::future::pending::<()>().await,
        Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
        Some(Fault::ResetAfter | Fault::Truncate(_)) | None => {}
    }
    let body = body.collect().await.map_err(Into::into)?.to_bytes();
    let user = server.state().authenticate(&parts.headers);
    let answer = match user {
        Ok(user) => {
            answer(
                &server,
                Asked {
                    parts,
                    query,
                    route,
                    verb,
                    user,
                },
                &body,
            )
            .await
        }
        Err(refused) => Err(refused),
    };
    server.catch_up_later();
    let answer = answer.unwrap_or_else(|refused| reply::failure(&refused));
    match fault {
        Some(Fault::ResetAfter) => Err(reset()),
        Some(Fault::Truncate(bytes)) => Ok(reply::truncated(answer, bytes).await?),
        _ => Ok(answer),
    }
}

fn reset() -> BoxError {
    std::io::Error::new(
        std::io::ErrorKind::ConnectionReset,
        "connection reset by peer",
    )
    .into()
}

/// Counts a request and says what strikes it.
fn front(server: &Server, route: &Route, verb: &str, parts: &Parts) -> Option<Fault> {
    let agent = parts.headers.get(header::USER_AGENT);
    let agent = agent.and_then(|a| a.to_str().ok()).unwrap_or_default();
    let path = parts.uri.path();
    if server.faults.away() {
        return Some(Fault::Reset);
    }
    match route {
        Route::Resource(path) => {
            let ruled = path.ruled();
            let resource = if path.group.is_empty() {
                ruled
            } else {
                format!("{ruled}.{}", path.group)
            };
            server.counters.count(agent, verb, &resource);
        }
        Route::Other => server.counters.count(agent, verb, path),
    }
    server.faults.strike(verb, path)
}

async fn answer(server: &Arc<Server>, mut asked: Asked, body: &Bytes) -> Result<Reply, Failure> {
    let Route::Resource(path) = asked.route.clone() else {
        let state = server.state();
        let path = asked.parts.uri.path();
        state.authorize(
            &asked.user,
            &Ask {
                verb: "get".into(),
                path: path.into(),
                ..Ask::default()
            },
        )?;
        return state.discover(path, &asked.parts.headers, &server.version);
    };
    let forwarding = path.subresource == "portforward";
    let reply = resource(server, &asked, &path, body)?;
    if forwarding {
        return forward::upgrade(server, &path, &mut asked.parts, &asked.query).await;
    }
    Ok(reply)
}

fn resource(
    server: &Arc<Server>,
    asked: &Asked,
    path: &ResourcePath,
    body: &Bytes,
) -> Result<Reply, Failure> {
    let mut state = server.state();
    state.authorize(&asked.user, &asked.ask(path))?;
    if asked.verb == "create" && discovery::is_review(&path.group, &path.plural) {
        let review = decoded(&asked.parts.headers, body)?;
        let answer = state.review(&path.plural, &path.namespace, &asked.user, review);
        return answer
            .map(|answer| json_reply(201, &answer))
            .ok_or_else(Failure::no_such_path);
    }
    let kind = state
        .kinds
        .find(&path.group, &path.version, &path.plural)
        .ok_or_else(|| state.kinds.unknown(&path.group))?;
    if path.namespace.is_empty() && kind.namespaced && !path.name.is_empty() {
        return Err(Failure::no_such_path());
    }
    let shape = Shape::accepted(&asked.parts.headers);
    let target = Target {
        kind: kind.clone(),
        namespace: path.namespace.clone(),
        name: path.name.clone(),
        subresource: path.subresource.clone(),
    };
    served(&target)?;
    match asked.verb {
        "list" => state.list(&kind, &path.namespace, &asked.query, shape),
        "watch" => watched(server, &state, &target, &asked.query, shape),
        "get" if path.subresource == "log" => state.log(&target, &asked.query),
        "get" | "create" if path.subresource == "portforward" => state.read(&target, shape),
        "get" => state.read(&target, shape),
        "delete" | "deletecollection" => state.delete_reply(&target, asked, body),
        _ => state.write_reply(&target, asked, body, shape),
    }
}

/// Whether the kind has the part of an object that is asked for.
fn served(target: &Target) -> Result<(), Failure> {
    let kind = &target.kind;
    let there = match (target.subresource.as_str(), kind.kind.as_str()) {
        ("", _) => true,
        ("status", _) => kind.status,
        ("scale", _) => kind.scale,
        ("log" | "portforward", "Pod") | ("token", "ServiceAccount") => true,
        ("finalize", "Namespace") | ("eviction", "Pod") => true,
        _ => false,
    };
    if there {
        Ok(())
    } else {
        Err(Failure::no_such_path())
    }
}

fn watched(
    server: &Arc<Server>,
    state: &State,
    target: &Target,
    query: &Query,
    shape: Shape,
) -> Result<Reply, Failure> {
    if target.name.is_empty() {
        return watch(server, state, &target.kind, &target.namespace, query, shape);
    }
    let only = query.with_field("metadata.name", &target.name);
    watch(server, state, &target.kind, &target.namespace, &only, shape)
}

impl Asked {
    fn ask(&self, path: &ResourcePath) -> Ask {
        Ask {
            verb: self.verb.into(),
            group: path.group.clone(),
            resource: path.ruled(),
            // A namespace itself is asked about within itself, as the real server does.
            namespace: if path.plural == "namespaces" {
                path.name.clone()
            } else {
                path.namespace.clone()
            },
            name: if path.name.is_empty() {
                self.named().into()
            } else {
                path.name.clone()
            },
            path: String::new(),
        }
    }

    /// The one name a list or watch is limited to: a right to that object is then enough.
    fn named(&self) -> &str {
        let mut fields = self.query.text("fieldSelector").split(',');
        let name = fields.find_map(|field| field.strip_prefix("metadata.name="));
        name.unwrap_or_default().trim_start_matches('=')
    }

    fn write_options(&self) -> WriteOptions {
        let agent = self
            .parts
            .headers
            .get(header::USER_AGENT)
            .and_then(|a| a.to_str().ok())
            .unwrap_or("unknown");
        let manager = match self.query.text("fieldManager") {
            "" if self.applies() => String::new(),
            "" => agent.split('/').next().unwrap_or_default().to_owned(),
            manager => manager.to_owned(),
        };
        WriteOptions {
            manager,
            dry_run: self.query.text("dryRun") == "All",
            strict: self.query.text("fieldValidation") == "Strict",
        }
    }

    fn media(&self) -> &str {
        let media = self
            .parts
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|m| m.to_str().ok())
            .unwrap_or_default();
        media.split(';').next().unwrap_or_default().trim()
    }

    fn applies(&self) -> bool {
        self.media() == "application/apply-patch+yaml"
    }
}

impl State {
    fn authenticate(&self, headers: &HeaderMap) -> Result<UserInfo, Failure> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Ok(token::anonymous());
        };
        let bearer = value.to_str().ok().and_then(|v| v.strip_prefix("Bearer "));
        bearer
            .and_then(|token| self.user_of(token.trim()))
            .ok_or_else(Failure::unauthorized)
    }

    fn log(&self, target: &Target, query: &Query) -> Result<Reply, Failure> {
        self.live(target)?;
        let container = Some(query.text("container")).filter(|c| !c.is_empty());
        Ok(reply::text(
            200,
            self.hooks.log(&target.namespace, &target.name, container),
        ))
    }

    fn write_reply(
        &mut self,
        target: &Target,
        asked: &Asked,
        body: &Bytes,
        shape: Shape,
    ) -> Result<Reply, Failure> {
        let options = asked.write_options();
        let new = self.live(target).is_err();
        let value = decoded(&asked.parts.headers, body)?;
        let object = match asked.verb {
            "create" if target.subresource == "token" => {
                return Ok(json_reply(201, &self.token_request(target, value)?));
            }
            "create" if target.subresource == "eviction" => {
                self.delete(
                    &Target {
                        subresource: String::new(),
                        ..target.clone()
                    },
                    &DeleteOptions::default(),
                )?;
                return Ok(json_reply(
                    201,
                    &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}),
                ));
            }
            "create" if target.name.is_empty() => self.create(target, value, &options)?,
            "update" if !target.name.is_empty() => self.update(target, value, &options)?,
            "patch" if !target.name.is_empty() => {
                self.patch(target, &asked.patch(value)?, &options)?
            }
            _ => return Err(Failure::method()),
        };
        let code = if new { 201 } else { 200 };
        let object = self.view(target, &in_version(&target.kind, &object));
        Ok(json_reply(
            code,
            &*shape.one(&target.kind, &object, (self.clock)()),
        ))
    }

    fn delete_reply(
        &mut self,
        target: &Target,
        asked: &Asked,
        body: &Bytes,
    ) -> Result<Reply, Failure> {
        let options = delete_options(asked, body)?;
        if !target.name.is_empty() {
            let deleted = self.delete(target, &options)?;
            return Ok(json_reply(200, &deleted.body(&target.kind)));
        }
        let query = &asked.query;
        let selector = super::select::Selector::parse(
            query.text("labelSelector"),
            query.text("fieldSelector"),
        )?;
        let gone = self.selected(&target.kind, &target.namespace, &selector);
        for object in &gone {
            let (namespace, name) = super::store::key(object);
            let one = Target {
                namespace,
                name,
                ..target.clone()
            };
            match self.delete(&one, &options) {
                Err(failure) if failure.code != 404 => return Err(failure),
                _ => {}
            }
        }
        let mut metadata = serde_json::Map::new();
        metadata.insert(
            "resourceVersion".into(),
            self.objects.version().to_string().into(),
        );
        Ok(whole_list(&target.kind, metadata, &gone))
    }
}

impl Asked {
    fn patch(&self, value: Value) -> Result<Patch, Failure> {
        match self.media() {
            "application/json-patch+json" => Ok(Patch::Json(value)),
            "application/merge-patch+json" => Ok(Patch::Merge(value)),
            "application/strategic-merge-patch+json" => Ok(Patch::Strategic(value)),
            "application/apply-patch+yaml" => Ok(Patch::Apply {
                config: value,
                force: self.query.flag("force"),
            }),
            _ => Err(
                Failure::new(415, "UnsupportedMediaType", "415: Unsupported Media Type").vague(),
            ),
        }
    }
}

fn unsupported(accepted: &str) -> Failure {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: {accepted}"
    );
    Failure::new(415, "UnsupportedMediaType", message)
}

fn decoded(headers: &HeaderMap, body: &Bytes) -> Result<Value, Failure> {
    let media = headers
        .get(header::CONTENT_TYPE)
        .and_then(|m| m.to_str().ok())
        .unwrap_or_default();
    if media.contains("protobuf") {
        return protobuf::decode(body)
            .ok_or_else(|| unsupported("application/json, application/yaml"));
    }
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    if media.contains("yaml") {
        let text = String::from_utf8_lossy(body);
        return serde_saphyr::from_str(&text)
            .map_err(|e| Failure::bad_request(format!("error decoding YAML: {e}")));
    }
    let error = serde_json::from_slice::<Value>(body)
        .err()
        .map(|e| e.to_string())
        .unwrap_or_default();
    Err(Failure::bad_request(format!(
        "the object provided is unrecognized: {error}"
    )))
}

fn delete_options(asked: &Asked, body: &Bytes) -> Result<DeleteOptions, Failure> {
    let body = if body.is_empty() {
        Value::Null
    } else {
        decoded(&asked.parts.headers, body)?
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let query = &asked.query;
    let policy = text(&body["propagationPolicy"])
        .unwrap_or_else(|| query.text("propagationPolicy").to_owned());
    let orphan = body["orphanDependents"] == true;
    Ok(DeleteOptions {
        uid: text(&body["preconditions"]["uid"]),
        version: text(&body["preconditions"]["resourceVersion"]),
        policy: if orphan { "Orphan".into() } else { policy },
        grace: body["gracePeriodSeconds"]
            .as_i64()
            .or_else(|| query.text("gracePeriodSeconds").parse().ok()),
        dry_run: query.text("dryRun") == "All" || body["dryRun"][0] == "All",
    })
}
