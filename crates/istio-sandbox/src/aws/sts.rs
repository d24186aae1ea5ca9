//! Security Token Service: who is calling, and roles to take on.

use std::time::Duration;

use super::{
    ask::{Answer, Ask, Refusal},
    state::{Key, State},
    xml::Xml,
};

pub(super) const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

pub(super) fn answer(state: &mut State, ask: &Ask) -> Answer<Xml> {
    match ask.action.as_str() {
        "GetCallerIdentity" => Ok(Xml::new()
            .text("Arn", &ask.arn)
            .text("UserId", "AIDAEMULATED")
            .text("Account", &ask.account)),
        "AssumeRole" => assume_role(state, ask),
        other => Err(Refusal(
            400,
            "InvalidAction",
            format!("Could not find operation {other}"),
        )),
    }
}

fn assume_role(state: &mut State, ask: &Ask) -> Answer<Xml> {
    let arn = ask.text("RoleArn").unwrap_or_default();
    let session = ask.text("RoleSessionName").unwrap_or_default();
    let denied = || {
        let (user, role) = (&ask.arn, arn);
        Refusal(
            403,
            "AccessDenied",
            format!(
                "User: {user} is not authorized to perform: sts:AssumeRole on resource: {role}"
            ),
        )
    };
    let role = state.roles.get(arn).ok_or_else(denied)?;
    let known = role
        .external_id
        .as_deref()
        .is_none_or(|id| ask.text("ExternalId") == Some(id));
    if !known || !role.trusted.contains(&ask.account) {
        return Err(denied());
    }
    let account = arn.split(':').nth(4).unwrap_or_default().to_owned();
    let partition = arn.split(':').nth(1).unwrap_or("aws").to_owned();
    let name = arn.rsplit('/').next().unwrap_or_default().to_owned();
    let expires = state.clock.now() + Duration::from_secs(3600);
    let id = format!("ASIA{}", state.serial(arn).to_uppercase());
    let (secret, token) = (state.serial("secret"), state.serial("session"));
    let as_session = format!("arn:{partition}:sts::{account}:assumed-role/{name}/{session}");
    let key = Key {
        secret: secret.clone(),
        session: Some(token.clone()),
        account,
        arn: as_session.clone(),
        expires: Some(expires),
    };
    state.keys.insert(id.clone(), key);
    let stamp = jiff::Timestamp::try_from(expires)
        .map(|t| t.to_string())
        .unwrap_or_default();
    let credentials = Xml::new()
        .text("AccessKeyId", &id)
        .text("SecretAccessKey", secret)
        .text("SessionToken", token)
        .text("Expiration", stamp);
    let user = Xml::new()
        .text("Arn", as_session)
        .text("AssumedRoleId", format!("AROA:{session}"));
    Ok(Xml::new()
        .nest("AssumedRoleUser", user)
        .nest("Credentials", credentials))
}
