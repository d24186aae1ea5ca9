//! Kubeconfig users that run a program for an EKS token: read what it would do, and do it here.

/// What such a program would mint a token for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Minted {
    /// Cluster name or id.
    pub id: String,
    /// Region, if the arguments or its environment say so.
    pub region: Option<String>,
    /// Profile.
    pub profile: Option<String>,
    /// Role to assume.
    pub role_arn: Option<String>,
    /// External id for it.
    pub external_id: Option<String>,
}

impl Minted {
    /// As whom to ask.
    pub(crate) fn identity(&self) -> crate::aws::Identity {
        let Self {
            profile,
            role_arn,
            external_id,
            ..
        } = self.clone();
        crate::aws::Identity {
            profile,
            role_arn,
            external_id,
        }
    }
}

/// Read `aws eks get-token …` or `aws-iam-authenticator token …`; `None` for any other program.
pub(crate) fn native(command: &str, args: &[String], env: &[(String, String)]) -> Option<Minted> {
    let program = command.rsplit(['/', '\\']).next().unwrap_or(command);
    let program = program.strip_suffix(".exe").unwrap_or(program);
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let known = match program {
        "aws" => words.windows(2).any(|pair| pair == ["eks", "get-token"]),
        "aws-iam-authenticator" | "heptio-authenticator-aws" => words.contains(&"token"),
        _ => false,
    };
    let option = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| value(&words, name))
            .map(str::to_owned)
    };
    let variable = |name: &str| env.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone());
    known.then_some(())?;
    Some(Minted {
        id: option(&["--cluster-name", "--cluster-id", "-i"])?,
        region: option(&["--region"])
            .or_else(|| variable("AWS_REGION"))
            .or_else(|| variable("AWS_DEFAULT_REGION")),
        profile: option(&["--profile"]).or_else(|| variable("AWS_PROFILE")),
        role_arn: option(&["--role-arn", "--role", "-r"]),
        external_id: option(&["--external-id", "-e"]),
    })
}

/// The value of `--name VALUE` or `--name=VALUE`.
fn value<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words
        .iter()
        .enumerate()
        .find_map(|(at, word)| match word.strip_prefix(name)? {
            "" => words.get(at + 1).copied(),
            rest => rest.strip_prefix('='),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(command: &str, args: &str) -> Option<Minted> {
        let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        native(command, &args, &[("AWS_PROFILE".into(), "work".into())])
    }

    #[test]
    fn what_the_usual_programs_are_told() {
        let aws = read(
            "/usr/local/bin/aws",
            "--region eu-west-1 eks get-token --cluster-name eks-1 --output json",
        );
        let want = Minted {
            id: "eks-1".into(),
            region: Some("eu-west-1".into()),
            profile: Some("work".into()),
            ..Default::default()
        };
        assert_eq!(aws, Some(want));
        let other = read(
            "aws-iam-authenticator",
            "token -i eks-1 --role=arn:aws:iam::1:role/r",
        )
        .unwrap();
        assert_eq!(
            (other.id.as_str(), other.role_arn.as_deref()),
            ("eks-1", Some("arn:aws:iam::1:role/r"))
        );
        assert_eq!(read("aws", "sts get-caller-identity"), None);
        assert_eq!(read("gke-gcloud-auth-plugin", ""), None);
        assert_eq!(read("aws", "eks get-token"), None, "no cluster named");
    }
}
