//! Signed calls to a Query service (EC2), without its SDK.

use std::time::SystemTime;

use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};

use super::{
    call::{Cause, Error, Walk, by_code, deepest},
    env::Service,
    session::Session,
    xml::Element,
};
use crate::net::Network;

/// The largest answer that is read.
pub(super) const LARGEST: usize = 64 << 20;
/// The API version whose names the answers use.
const VERSION: &str = "2016-11-15";

/// Ask EC2: one action, all pages.
pub(crate) async fn ec2(
    session: &Session,
    action: &'static str,
    parameters: &[(String, String)],
    now: impl Fn() -> SystemTime,
) -> Result<Vec<Element>, Error> {
    let mut pages = Vec::new();
    let mut next: Option<String> = None;
    let mut walk = Walk::default();
    loop {
        let body = form(action, parameters, next.as_deref());
        let credentials = session.credentials(action, Service::Ec2).await?;
        let page = session
            .attempts(Service::Ec2, action, || {
                let request = signed(session, &credentials, &body, now());
                async { read(send(session.network(), request?).await?) }
            })
            .await?;
        next = page.text(&["nextToken"]).map(str::to_owned);
        pages.push(page);
        let Some(token) = &next else {
            return Ok(pages);
        };
        walk.on(token)
            .map_err(|cause| session.failed(Service::Ec2, action, cause))?;
    }
}

fn form(action: &str, parameters: &[(String, String)], next: Option<&str>) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("Action", action)
        .append_pair("Version", VERSION);
    form.extend_pairs(parameters);
    if let Some(token) = next {
        form.append_pair("NextToken", token);
    }
    form.finish()
}

fn signed(
    session: &Session,
    credentials: &aws_credential_types::Credentials,
    body: &str,
    now: SystemTime,
) -> Result<http::Request<Full<Bytes>>, Cause> {
    let unsigned = |why: String| Cause::Refused("unsigned".into(), why);
    let url = format!("{}/", session.endpoint(Service::Ec2).trim_end_matches('/'));
    let uri: http::Uri = url
        .parse()
        .map_err(|e| unsigned(format!("endpoint {url}: {e}")))?;
    let host = uri.authority().map(ToString::to_string).unwrap_or_default();
    let kind = "application/x-www-form-urlencoded; charset=utf-8";
    let mut request = http::Request::post(&uri)
        .header("host", &host)
        .header("content-type", kind)
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .map_err(|e| unsigned(e.to_string()))?;
    let identity = credentials.clone().into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(session.region())
        .name("ec2")
        .time(now)
        .settings(SigningSettings::default())
        .build()
        .map_err(|e| unsigned(e.to_string()))?;
    let headers = [("host", host.as_str()), ("content-type", kind)];
    let signable = SignableRequest::new(
        "POST",
        &url,
        headers.into_iter(),
        SignableBody::Bytes(body.as_bytes()),
    )
    .map_err(|e| unsigned(e.to_string()))?;
    let (instructions, _) = sign(signable, &parameters.into())
        .map_err(|e| unsigned(e.to_string()))?
        .into_parts();
    instructions.apply_to_request_http1x(&mut request);
    Ok(request)
}

async fn send(
    network: &Network,
    request: http::Request<Full<Bytes>>,
) -> Result<(u16, Bytes), Cause> {
    let exchange = async {
        let sent = network.send(request).await;
        let response = sent.map_err(|e| Cause::Unreachable(deepest(&e)))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        let body = body.map_err(|e| Cause::Garbled(e.to_string()))?;
        Ok((status, body.to_bytes()))
    };
    tokio::time::timeout(super::session::ATTEMPT, exchange)
        .await
        .unwrap_or(Err(Cause::Slow))
}

fn read((status, body): (u16, Bytes)) -> Result<Element, Cause> {
    let text = String::from_utf8_lossy(&body);
    if (200..300).contains(&status) {
        return Element::parse(&text).map_err(Cause::Garbled);
    }
    let error = Element::parse(&text).unwrap_or_default();
    let error = error
        .child("Errors")
        .and_then(|e| e.child("Error"))
        .cloned()
        .unwrap_or_default();
    Err(by_code(
        &error.string(&["Code"]),
        &error.string(&["Message"]),
        status,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_broken_answers_are_told_apart() {
        let denied = b"<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message></Error></Errors></Response>";
        assert_eq!(
            read((403, Bytes::from_static(denied))),
            Err(Cause::Denied("no".into()))
        );
        assert!(matches!(
            read((200, Bytes::from_static(b"<R><a>"))),
            Err(Cause::Garbled(_))
        ));
        assert!(matches!(
            read((502, Bytes::from_static(b"<html>"))),
            Err(Cause::Unavailable(_))
        ));
    }
}
