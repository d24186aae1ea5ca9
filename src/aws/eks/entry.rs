//! Who we are to AWS, and the commands that let us into a cluster.

use super::{AuthMode, Facts, Place, describe};
use crate::{
    aws::{Aws, Identity, Session, arn::Arn, call, env::Service},
    hint::{Hint, word},
};

/// Who AWS says we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Account.
    pub account: String,
    /// ARN; of an assumed role this is the session, not the role.
    pub arn: String,
}

/// Ask STS who we are. Needs no grant.
pub(crate) async fn caller(session: &Session) -> Result<Caller, call::Error> {
    let request = || session.sts().get_caller_identity().send();
    let answer = session
        .call(Service::Sts, "GetCallerIdentity", request)
        .await?;
    Ok(Caller {
        account: answer.account.unwrap_or_default(),
        arn: answer.arn.unwrap_or_default(),
    })
}

impl Caller {
    /// The principal an access entry names, as a shell word: for an assumed role its ARN must be looked up,
    /// because the session's ARN leaves out the role's path.
    fn principal(&self) -> String {
        let role = self.arn.parse::<Arn>().ok().and_then(|arn| {
            let role = arn
                .resource
                .strip_prefix("assumed-role/")?
                .split('/')
                .next()?;
            Some(role.to_owned())
        });
        match role {
            Some(role) => {
                let role = word(&role);
                format!("\"$(aws iam get-role --role-name {role} --query Role.Arn --output text)\"")
            }
            None => word(&self.arn),
        }
    }
}

/// The commands that make the caller an administrator of the cluster, for a 401: all of them can be pasted.
pub(crate) fn grant(cluster: &Facts, caller: &Caller) -> Vec<Hint> {
    let Facts {
        name,
        region,
        partition,
        ..
    } = cluster;
    let (name, region, principal) = (word(name), word(region), caller.principal());
    let mut commands = Vec::new();
    if cluster.auth_mode == AuthMode::ConfigMap {
        commands.push(Hint::shell(format!(
            "aws eks update-cluster-config --name {name} --region {region} --access-config authenticationMode=API_AND_CONFIG_MAP"
        )));
    }
    commands.push(Hint::shell(format!("aws eks create-access-entry --cluster-name {name} --region {region} --principal-arn {principal}")));
    commands.push(Hint::shell(format!(
        "aws eks associate-access-policy --cluster-name {name} --region {region} --principal-arn {principal} \
         --access-scope type=cluster --policy-arn arn:{partition}:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"
    )));
    commands
}

/// How a cluster kept us out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Barrier {
    /// It does not know us: 401.
    Unknown,
    /// It knows us and refuses: 403.
    Forbidden,
    /// Nothing answers.
    Silent,
}

/// The commands that let us into a cluster; none where AWS does not tell enough.
pub(crate) async fn ways_in(
    aws: &Aws,
    who: &Identity,
    place: &Place,
    barrier: Barrier,
) -> Vec<Hint> {
    let Ok(facts) = describe(aws, who, place).await else {
        return Vec::new();
    };
    if barrier == Barrier::Silent {
        return outside(&facts).into_iter().collect();
    }
    let Ok(caller) = caller(&facts.session).await else {
        return Vec::new();
    };
    let mut commands = grant(&facts, &caller);
    if barrier == Barrier::Forbidden {
        // Whoever is known has an entry; what it lacks is the policy.
        commands.drain(..commands.len() - 1);
    }
    commands
}

/// What opens an API server that may not be meant to be reached from here.
fn outside(facts: &Facts) -> Option<Hint> {
    let Facts {
        name,
        region,
        public_cidrs,
        ..
    } = facts;
    let all = public_cidrs.iter().any(|c| c == "0.0.0.0/0");
    if facts.public && all {
        return None;
    }
    let mut cidrs = public_cidrs.clone();
    cidrs.retain(|_| facts.public);
    cidrs.push("YOUR_ADDRESS/32".into());
    let why = match facts.public {
        true => "its public endpoint admits only some",
        false => "its endpoint is private: or run where its VPC can be reached",
    };
    Some(Hint::to_fill_in(&format!(
        "aws eks update-cluster-config --name {name} --region {region} --resources-vpc-config endpointPublicAccess=true,publicAccessCidrs={}   # {why}",
        cidrs.join(",")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_session_is_looked_up_and_a_user_is_named() {
        let caller = |arn: &str| Caller {
            account: "1".into(),
            arn: arn.into(),
        };
        assert_eq!(
            caller("arn:aws:iam::1:user/me").principal(),
            "arn:aws:iam::1:user/me"
        );
        assert_eq!(
            caller("arn:aws:sts::1:assumed-role/AWSReservedSSO_Admin_12/me@home").principal(),
            "\"$(aws iam get-role --role-name AWSReservedSSO_Admin_12 --query Role.Arn --output text)\""
        );
    }
}
