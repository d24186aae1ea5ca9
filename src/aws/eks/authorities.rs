//! The CA of an EKS cluster's API server that takes the place of the present one, and when.
//!
//! EKS appends a successor to what clients are told to trust, and has it sign only when it is activated: by the owner, or by
//! EKS itself near the end of the present one.

use aws_sdk_eks::{
    primitives::DateTime,
    types::{CertificateAuthorityDistributionStatus, CertificateAuthoritySigningStatus},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;

use super::Place;
use crate::aws::{Aws, Identity, call, env::Service};

/// A CA that signs nothing yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Successor {
    /// Its certificate, as PEM; empty where EKS does not say.
    pub pem: Vec<u8>,
    /// From when on EKS activates it by itself.
    pub first: Option<Timestamp>,
    /// By when it has, whatever happened.
    pub last: Option<Timestamp>,
}

/// The successor of a cluster's CA, if it has one. It is not asked for where nobody may.
pub(crate) async fn successor(
    aws: &Aws,
    who: &Identity,
    place: &Place,
) -> Result<Option<Successor>, call::Error> {
    let Some(session) = aws.session(who, Some(&place.region)).await else {
        return Ok(None);
    };
    let (eks, name) = (session.eks(), place.name.as_str());
    // Two at most: there is no second page.
    let request = || eks.list_certificate_authorities().cluster_name(name).send();
    let listed = session.call(Service::Eks, "ListCertificateAuthorities", request);
    let all = listed.await?.certificate_authorities.unwrap_or_default();
    let waits = all.into_iter().find(|ca| {
        let leaves =
            ca.distribution_status == Some(CertificateAuthorityDistributionStatus::Deleting);
        let unused = ca.signing_status == Some(CertificateAuthoritySigningStatus::NotUsed);
        // One that has signed before is what was, and not what comes.
        unused && !leaves && ca.activated_at.is_none()
    });
    let Some(id) = waits.and_then(|ca| ca.id) else {
        return Ok(None);
    };
    let request = || {
        let asked = eks.describe_certificate_authority().cluster_name(name);
        asked.certificate_authority_id(&id).send()
    };
    let described = session.call(Service::Eks, "DescribeCertificateAuthority", request);
    let Some(ca) = described.await?.certificate_authority else {
        return Ok(None);
    };
    let events = ca.scheduled_events;
    let at = |date: Option<DateTime>| date.and_then(|d| Timestamp::from_second(d.secs()).ok());
    Ok(Some(Successor {
        pem: ca
            .data
            .and_then(|data| STANDARD.decode(data).ok())
            .unwrap_or_default(),
        first: at(events.as_ref().and_then(|e| e.first_auto_activation)),
        last: at(events.as_ref().and_then(|e| e.final_auto_activation)),
    }))
}
