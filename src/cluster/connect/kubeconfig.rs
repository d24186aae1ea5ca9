//! Kubeconfig files, read and merged as kubectl does it.

use std::path::{Path, PathBuf};

use base64::Engine;
use kube::config::{AuthInfo, ExecInteractiveMode, KubeConfigOptions, Kubeconfig};

use super::{ConnectOptions, Error, Insecure, is_cleartext};
use crate::{hint::Hint, name::ClusterName};

mod merge;
mod place;

use place::{Lines, List};

/// What a context points to, without any secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContextFacts {
    /// The context's name.
    pub(crate) name: String,
    /// It is the one that kubectl would use.
    pub(crate) current: bool,
    /// The name of its cluster entry.
    pub(crate) cluster: String,
    /// The API server's address.
    pub(crate) server: Option<String>,
    /// The name of its user entry.
    pub(crate) user: Option<String>,
    /// The program that gives credentials, if one does.
    pub(crate) exec: Option<ExecFacts>,
}

/// A credential plugin as the kubeconfig names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExecFacts {
    /// The program.
    pub(crate) command: String,
    /// Its arguments.
    pub(crate) args: Vec<String>,
    /// What it is told in its environment.
    pub(crate) env: Vec<(String, String)>,
    /// How to install it, if the kubeconfig says.
    pub(crate) install_hint: Option<String>,
}

impl ExecFacts {
    fn of(user: &AuthInfo) -> Option<Self> {
        let exec = user.exec.as_ref()?;
        let env = exec.env.iter().flatten();
        Some(Self {
            command: exec.command.clone()?,
            args: exec.args.clone().unwrap_or_default(),
            env: env
                .filter_map(|pair| Some((pair.get("name")?.clone(), pair.get("value")?.clone())))
                .collect(),
            install_hint: exec.install_hint.clone(),
        })
    }

    /// How to get the program.
    pub(super) fn how_to_install(&self) -> Option<Hint> {
        let known = |text: &str| Some(Hint::note(text));
        let program = Path::new(&self.command).file_name()?.to_str()?;
        self.install_hint.as_deref().map(|hint| Hint::note(hint.trim())).or_else(|| match program {
            "aws" => known("name the cluster by its ARN in mesh.yaml, which needs no plugin, or install the AWS CLI"),
            "aws-iam-authenticator" => known("name the cluster by its ARN in mesh.yaml, which needs no plugin"),
            "kubelogin" => known("install kubelogin: https://github.com/Azure/kubelogin"),
            "gke-gcloud-auth-plugin" => Some(Hint::command([
                "gcloud",
                "components",
                "install",
                "gke-gcloud-auth-plugin",
            ])),
            _ => None,
        })
    }
}

/// The kubeconfig: all its files as one.
#[derive(Clone)]
pub(crate) struct Merged {
    files: Vec<PathBuf>,
    config: Kubeconfig,
    lines: Vec<Lines>,
}

/// A context, ready to become a client.
pub(super) struct Found {
    cluster: ClusterName,
    context: String,
    place: String,
    config: Kubeconfig,
    pub(super) server: String,
    pub(super) ca: Option<Vec<u8>>,
    pub(super) exec: Option<ExecFacts>,
    timeout: std::time::Duration,
}

impl std::fmt::Debug for Merged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its users hold credentials.
        f.debug_struct("Kubeconfig")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Merged {
    /// Reads the files, the first one winning. One that is not there is passed over, as long as there is another.
    pub(crate) fn read(files: &[PathBuf]) -> Result<Self, Error> {
        merge::read(files)
    }

    /// Its contexts, in the order they stand there.
    pub(crate) fn contexts(&self) -> Vec<ContextFacts> {
        let facts = self.config.contexts.iter().map(|named| {
            let context = named.context.clone().unwrap_or_default();
            ContextFacts {
                name: named.name.clone(),
                current: self.config.current_context.as_ref() == Some(&named.name),
                server: self
                    .cluster(&context.cluster)
                    .and_then(|cluster| cluster.server.clone()),
                exec: context
                    .user
                    .as_deref()
                    .and_then(|user| ExecFacts::of(self.user(user)?)),
                cluster: context.cluster,
                user: context.user,
            }
        });
        facts.collect()
    }

    /// Every API server it leads to, with the certificates that it is trusted by.
    pub(crate) fn servers(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let clusters = self.config.clusters.iter().filter_map(|named| {
            let cluster = named.cluster.as_ref()?;
            Some((cluster.server.clone()?, authority(cluster).ok()?))
        });
        clusters.collect()
    }

    fn cluster(&self, name: &str) -> Option<&kube::config::Cluster> {
        self.config
            .clusters
            .iter()
            .find(|named| named.name == name)?
            .cluster
            .as_ref()
    }

    fn user(&self, name: &str) -> Option<&AuthInfo> {
        self.config
            .auth_infos
            .iter()
            .find(|named| named.name == name)?
            .auth_info
            .as_ref()
    }

    /// One context with all it needs checked, so that errors name what the user wrote.
    pub(super) fn context(
        &self,
        name: &ClusterName,
        context: &str,
        options: &ConnectOptions,
    ) -> Result<Found, Error> {
        self.clone().settled(name, context, options)
    }

    fn settled(
        mut self,
        name: &ClusterName,
        context: &str,
        options: &ConnectOptions,
    ) -> Result<Found, Error> {
        let known = self.contexts();
        let facts = known
            .iter()
            .find(|facts| facts.name == context)
            .ok_or_else(|| self.unknown(context, &known))?;
        let place = self.place(List::Contexts, context);
        let fail = |reason: String| Error::Context {
            cluster: name.clone(),
            context: context.into(),
            place: place.clone(),
            reason,
        };
        let cluster = self.cluster(&facts.cluster).ok_or_else(|| {
            fail(match facts.cluster.as_str() {
                "" => "it names no cluster".to_owned(),
                cluster => format!("its cluster {cluster:?} is not in the kubeconfig"),
            })
        })?;
        let server = facts.server.clone().filter(|server| !server.is_empty());
        let server = server.ok_or_else(|| {
            let place = self.place(List::Clusters, &facts.cluster);
            fail(format!(
                "its cluster {:?} ({place}) has no server",
                facts.cluster
            ))
        })?;
        let ca = authority(cluster).map_err(fail)?;
        let exec = facts.exec.clone();
        if let Some(user) = facts.user.clone() {
            if self.user(&user).is_none() {
                return Err(fail(format!("its user {user:?} is not in the kubeconfig")));
            }
            self.settle(&user, options.interactive).map_err(fail)?;
        }
        let (cluster, context, timeout) = (name.clone(), context.to_owned(), options.timeout);
        Ok(Found {
            cluster,
            context,
            config: self.config,
            place,
            server,
            ca,
            exec,
            timeout,
        })
    }

    /// A user's credentials the way client-go takes them.
    fn settle(&mut self, name: &str, interactive: bool) -> Result<(), String> {
        let named = self
            .config
            .auth_infos
            .iter_mut()
            .find(|named| named.name == name);
        let Some(user) = named.and_then(|named| named.auth_info.as_mut()) else {
            return Ok(());
        };
        // The file is the newer truth of the two; the token stands in while it cannot be read.
        if let (Some(_), Some(file)) = (&user.token, &user.token_file) {
            match std::fs::read(file) {
                Ok(_) => user.token = None,
                Err(_) => user.token_file = None,
            }
        }
        if let Some(exec) = user.exec.as_mut().filter(|_| !interactive) {
            if exec.interactive_mode == Some(ExecInteractiveMode::Always) {
                return Err(
                    "its credential plugin wants a terminal (interactiveMode: Always)".into(),
                );
            }
            exec.interactive_mode = Some(ExecInteractiveMode::Never);
        }
        Ok(())
    }

    /// File and line of a name; only the files, where the line cannot be told.
    fn place(&self, list: List, name: &str) -> String {
        let found = self.lines.iter().find_map(|lines| lines.find(list, name));
        found.unwrap_or_else(|| self.shown_files())
    }

    fn shown_files(&self) -> String {
        let files = self.files.iter().map(|file| file.display().to_string());
        files.collect::<Vec<_>>().join(", ")
    }

    fn unknown(&self, context: &str, known: &[ContextFacts]) -> Error {
        Error::NoContext {
            context: context.into(),
            files: self.shown_files(),
            known: known.iter().map(|facts| facts.name.clone()).collect(),
        }
    }

    /// That a context is not there.
    pub(crate) fn lacks(&self, context: &str) -> Error {
        self.unknown(context, &self.contexts())
    }
}

/// The CA as PEM: inline first, then its file.
fn authority(cluster: &kube::config::Cluster) -> Result<Option<Vec<u8>>, String> {
    if let Some(data) = cluster
        .certificate_authority_data
        .as_ref()
        .filter(|data| !data.is_empty())
    {
        let pem = base64::engine::general_purpose::STANDARD.decode(data.trim());
        return pem
            .map(Some)
            .map_err(|error| format!("certificate-authority-data is not valid base64: {error}"));
    }
    let Some(file) = cluster
        .certificate_authority
        .as_ref()
        .filter(|file| !file.is_empty())
    else {
        return Ok(None);
    };
    std::fs::read(file)
        .map(Some)
        .map_err(|error| format!("cannot read the CA file {file}: {error}"))
}

impl Found {
    /// What is missing for a connection that nobody can read or change.
    pub(super) fn insecure(&self, options: &ConnectOptions) -> Option<Insecure> {
        let named = |n: &&kube::config::NamedCluster| {
            let contexts = self.config.contexts.iter();
            let mut used = contexts.filter(|c| c.name == self.context);
            used.any(|c| c.context.as_ref().is_some_and(|c| c.cluster == n.name))
        };
        let cluster = self.config.clusters.iter().find(named)?.cluster.as_ref()?;
        if is_cleartext(&self.server) {
            let user = |c: &kube::config::NamedContext| c.context.as_ref()?.user.clone();
            let mut users = self
                .config
                .contexts
                .iter()
                .filter(|c| c.name == self.context);
            let credentials = users.any(|c| user(c).is_some());
            let withheld = credentials && !options.insecure.contains(&self.cluster);
            return Some(Insecure::Cleartext { withheld });
        }
        let unverified = cluster.insecure_skip_tls_verify == Some(true);
        unverified.then_some(Insecure::Unverified)
    }

    /// Leaves out what the users would be let in with.
    pub(super) fn forget_users(&mut self) {
        for named in &mut self.config.auth_infos {
            named.auth_info = Some(AuthInfo::default());
        }
    }

    /// The client's settings.
    pub(super) async fn config(&self) -> Result<kube::Config, Error> {
        let options = KubeConfigOptions {
            context: Some(self.context.clone()),
            ..Default::default()
        };
        let fail = |reason: String| Error::Context {
            cluster: self.cluster.clone(),
            context: self.context.clone(),
            place: self.place.clone(),
            reason,
        };
        let mut config = kube::Config::from_custom_kubeconfig(self.config.clone(), &options)
            .await
            .map_err(|error| fail(error.to_string()))?;
        let written: Option<Result<http::Uri, _>> = self.proxy().map(str::parse);
        let written = written.transpose();
        // Whoever finds out later shows it with its login.
        let known =
            |proxy: &http::Uri| matches!(proxy.scheme_str(), Some("http" | "https" | "socks5"));
        if let Ok(Some(proxy)) = &written
            && !known(proxy)
        {
            return Err(fail(
                "proxy-url: only http, https and socks5 proxies are known".into(),
            ));
        }
        // Only what the kubeconfig says: the proxies of the environment are settled by the caller.
        config.proxy_url = written.map_err(|error| fail(format!("proxy-url: {error}")))?;
        config.connect_timeout = Some(self.timeout);
        config.default_retry = false;
        Ok(config)
    }

    fn proxy(&self) -> Option<&str> {
        let context = self
            .config
            .contexts
            .iter()
            .find(|named| named.name == self.context)?
            .context
            .as_ref()?;
        let cluster = self
            .config
            .clusters
            .iter()
            .find(|named| named.name == context.cluster)?
            .cluster
            .as_ref()?;
        cluster
            .proxy_url
            .as_deref()
            .filter(|proxy| !proxy.is_empty())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(super) struct Files {
        pub(super) dir: tempfile::TempDir,
        pub(super) paths: Vec<PathBuf>,
    }

    pub(super) fn files(contents: &[&str]) -> Files {
        let dir = tempfile::tempdir().unwrap();
        let write = |(n, text): (usize, &&str)| {
            let path = dir.path().join(format!("{n}.yaml"));
            std::fs::write(&path, text).unwrap();
            path
        };
        let paths = contents.iter().enumerate().map(write).collect();
        Files { dir, paths }
    }

    pub(super) const FIRST: &str = "{apiVersion: v1, kind: Config, current-context: '', clusters: [\
        {name: red, cluster: {server: 'https://red-1', tls-server-name: red}}, \
        {name: blue, cluster: {server: 'https://blue', certificate-authority: ca/blue.pem}}], \
        users: [{name: red, user: {token: t1}}], \
        contexts: [{name: red, context: {cluster: red, user: red, namespace: one}}]}";
    pub(super) const SECOND: &str = "{apiVersion: v1, kind: Config, current-context: green, clusters: [\
        {name: red, cluster: {server: 'https://red-2', insecure-skip-tls-verify: true}}, \
        {name: green, cluster: {server: 'https://green', proxy-url: 'http://proxy:1'}}], \
        users: [{name: red, user: {username: a, password: b}}, {name: green, user: {tokenFile: green.token, \
            exec: {apiVersion: client.authentication.k8s.io/v1, command: ./plugin, args: [x], interactiveMode: Never}}}], \
        contexts: [{name: red, context: {cluster: green, user: green}}, {name: green, context: {cluster: green, user: green}}]}";
    pub(super) const THIRD: &str = "{apiVersion: v1, kind: Config, current-context: red, \
        contexts: [{name: blue, context: {cluster: blue, user: ''}}]}";

    fn fail(contents: &[&str], context: &str, interactive: bool) -> String {
        let all = files(contents);
        let options = ConnectOptions {
            kubeconfig: all.paths.clone(),
            interactive,
            ..Default::default()
        };
        let found = Merged::read(&all.paths)
            .and_then(|merged| merged.context(&"eks-1".parse().unwrap(), context, &options));
        let error = found.err().expect("an error").to_string();
        error.replace(&all.dir.path().display().to_string(), "DIR")
    }

    #[test]
    fn errors_say_what_to_change() {
        let always = SECOND.replace("interactiveMode: Never", "interactiveMode: Always");
        let no_user = THIRD.replace("user: ''", "user: nobody");
        for (contents, context, want) in [
            (&[FIRST][..], "rde", r#"no context "rde" in DIR/0.yaml"#),
            (
                &[FIRST, SECOND],
                "x",
                r#"no context "x" in DIR/0.yaml, DIR/1.yaml"#,
            ),
            (
                &["{apiVersion: v1, kind: Config}"],
                "x",
                r#"no context "x" in DIR/0.yaml"#,
            ),
            (
                &[THIRD],
                "blue",
                r#"context "blue" (DIR/0.yaml:1): its cluster "blue" is not in the kubeconfig"#,
            ),
            (
                &[FIRST, THIRD],
                "blue",
                "cannot read the CA file DIR/ca/blue.pem: No such file",
            ),
            (
                &[
                    &no_user,
                    &FIRST.replace(", certificate-authority: ca/blue.pem", ""),
                ],
                "blue",
                r#"its user "nobody" is not"#,
            ),
            (
                &[&always],
                "green",
                "wants a terminal (interactiveMode: Always)",
            ),
            (
                &[&FIRST.replace("name: blue", "name: red")],
                "red",
                r#"line 1 has cluster "red" twice"#,
            ),
            (
                &[&FIRST.replace("server: 'https://red-1', ", "")],
                "red",
                r#"its cluster "red" (DIR/0.yaml:1) has no server"#,
            ),
        ] {
            let text = fail(contents, context, false);
            assert!(text.contains(want), "{text}");
        }
    }

    #[test]
    fn a_broken_file_is_not_quoted() {
        for broken in [
            "users: [{name: a, user: {token: canary}",
            "users: {canary: true}",
            "token: canary\n\t- x",
        ] {
            let text = fail(&[broken], "x", false);
            assert!(
                text.contains("DIR/0.yaml: line ") && !text.contains("canary"),
                "{text}"
            );
        }
        let missing = Merged::read(&["/nonexistent/config".into()])
            .err()
            .unwrap()
            .to_string();
        assert_eq!(missing, "there is no kubeconfig /nonexistent/config");
        assert!(Merged::read(&[]).is_err());
    }

    #[test]
    fn contexts_tell_what_they_point_to() {
        let all = files(&[FIRST, SECOND]);
        let contexts = Merged::read(&all.paths).unwrap().contexts();
        let green = contexts.iter().find(|facts| facts.name == "green").unwrap();
        assert!(green.current);
        assert_eq!(green.server.as_deref(), Some("https://green"));
        let exec = green.exec.as_ref().unwrap();
        assert_eq!(
            exec.command,
            all.dir.path().join("./plugin").display().to_string()
        );
        assert_eq!(exec.args, ["x"]);
    }

    #[tokio::test]
    async fn what_the_file_says_reaches_the_client() {
        let all = files(&[FIRST, SECOND]);
        let options = ConnectOptions {
            kubeconfig: all.paths.clone(),
            ..Default::default()
        };
        let config = |context: &'static str| {
            let found = Merged::read(&all.paths)
                .unwrap()
                .context(&"eks-1".parse().unwrap(), context, &options)
                .unwrap();
            async move { found.config().await.unwrap() }
        };
        let red = config("red").await;
        assert_eq!(
            (red.cluster_url.host(), red.tls_server_name.as_deref()),
            (Some("red-1"), Some("red"))
        );
        let green = config("green").await;
        assert_eq!(green.proxy_url.unwrap().to_string(), "http://proxy:1/");
        assert!(!red.accept_invalid_certs && red.proxy_url.is_none() && !red.default_retry);
    }

    #[test]
    fn a_token_file_is_newer_than_the_token_beside_it() {
        let both = |file: &str| {
            let text = FIRST.replace("token: t1", &format!("token: t1, tokenFile: {file}"));
            let all = files(&[&text]);
            std::fs::write(all.dir.path().join("there"), "t2").unwrap();
            let mut merged = Merged::read(&all.paths).unwrap();
            merged.settle("red", false).unwrap();
            let user = merged.user("red").unwrap();
            (user.token.is_some(), user.token_file.is_some())
        };
        assert_eq!(both("there"), (false, true));
        assert_eq!(both("missing"), (true, false));
    }
}
