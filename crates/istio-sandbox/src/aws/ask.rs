//! A call as the services see it, and what they answer.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{state::State, xml::Xml};

/// An authenticated call.
#[derive(Debug, Clone, Default)]
pub(super) struct Ask {
    /// `elasticloadbalancing`, `eks`, `sts`, `ec2`.
    pub(super) service: String,
    /// Action, as IAM spells it.
    pub(super) action: String,
    /// Region of the signature.
    pub(super) region: String,
    /// Account of the caller.
    pub(super) account: String,
    /// ARN of the caller.
    pub(super) arn: String,
    /// Path, decoded.
    pub(super) path: String,
    /// Parameters: of the form, or of the query.
    pub(super) parameters: BTreeMap<String, String>,
}

/// An error a service answers with: status, code, message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) u16, pub(super) &'static str, pub(super) String);

/// What a service answers: the inside of the result, or an error.
pub(super) type Answer<T> = Result<T, Refusal>;

impl Ask {
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// `Name.member.1`, `Name.member.2`, … or, for EC2, `Name.1`, `Name.2`, …
    pub(super) fn list(&self, name: &str) -> Vec<&str> {
        let dialect = if self.service == "ec2" { "" } else { ".member" };
        (1..)
            .map_while(|n| self.text(&format!("{name}{dialect}.{n}")))
            .collect()
    }

    /// EC2's filters: names with the values any of which fits.
    pub(super) fn filters(&self) -> Vec<(&str, Vec<&str>)> {
        (1..)
            .map_while(|n| {
                let name = self.text(&format!("Filter.{n}.Name"))?;
                let values = (1..)
                    .map_while(|v| self.text(&format!("Filter.{n}.Value.{v}")))
                    .collect();
                Some((name, values))
            })
            .collect()
    }

    /// Whether something with that ARN is in this call's account and region.
    pub(super) fn sees(&self, arn: &str) -> bool {
        super::state::home(arn) == (self.account.as_str(), self.region.as_str())
    }

    /// One page of a list, and the marker of the next.
    pub(super) fn page<T>(
        &self,
        all: Vec<T>,
        marker: &str,
        size: &str,
        limit: usize,
    ) -> Answer<(Vec<T>, Option<String>)> {
        let bad = |what: &str| Refusal(400, "ValidationError", format!("{what} is not valid"));
        let start = match self.text(marker) {
            None => 0,
            Some(text) => read_marker(text).ok_or_else(|| bad(marker))?,
        };
        let size = match self.text(size) {
            None => limit,
            Some(text) => text
                .parse()
                .ok()
                .filter(|n| (1..=limit).contains(n))
                .ok_or_else(|| bad(size))?,
        };
        let more = all.len() > start + size;
        let page = all.into_iter().skip(start).take(size).collect();
        Ok((
            page,
            more.then(|| URL_SAFE_NO_PAD.encode(format!("from {}", start + size))),
        ))
    }
}

fn read_marker(text: &str) -> Option<usize> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    text.strip_prefix("from ")?.parse().ok()
}

/// The three Query services and EKS behind one door.
pub(super) enum Reply {
    /// The whole body of a Query answer.
    Xml(String),
    /// A JSON answer.
    Json(serde_json::Value),
}

/// Let a service answer.
pub(super) fn answer(state: &mut State, ask: &Ask) -> Answer<Reply> {
    let root = format!("{}Response", ask.action);
    match ask.service.as_str() {
        "elasticloadbalancing" => {
            let result = super::elb::answer(state, ask)?;
            Ok(Reply::Xml(
                wrapped(ask, result).document(&root, super::elb::NAMESPACE),
            ))
        }
        "sts" => {
            let result = super::sts::answer(state, ask)?;
            Ok(Reply::Xml(
                wrapped(ask, result).document(&root, super::sts::NAMESPACE),
            ))
        }
        "ec2" => Ok(Reply::Xml(
            super::ec2::answer(state, ask)?.document(&root, super::ec2::NAMESPACE),
        )),
        "eks" => super::eks::answer(state, ask).map(Reply::Json),
        other => Err(Refusal(
            400,
            "InvalidAction",
            format!("the emulator has no service {other}"),
        )),
    }
}

fn wrapped(ask: &Ask, result: Xml) -> Xml {
    let meta = Xml::new().text("RequestId", REQUEST_ID);
    Xml::new()
        .nest(&format!("{}Result", ask.action), result)
        .nest("ResponseMetadata", meta)
}

/// A request id; only its shape matters.
pub(super) const REQUEST_ID: &str = "00000000-0000-4000-8000-000000000000";
