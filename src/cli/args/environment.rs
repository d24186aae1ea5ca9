//! The environment, read once into plain data.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    aws,
    link::{Folders, Logins},
    net::Proxies,
};

/// The variables of our own. No other file names one.
pub(crate) mod variable {
    pub(crate) const CHARTS: &str = "MESHLINK_CHARTS";
    pub(crate) const COMPLETE: &str = "MESHLINK_COMPLETE";
    /// For tests: where to die or to fail. A release does not look at it.
    pub(crate) const CRASH: &str = "MESHLINK_CRASH";
    pub(crate) const DNS: &str = "MESHLINK_DNS";
    pub(crate) const FILE: &str = "MESHLINK_FILE";
    pub(crate) const GATEWAY_VALUES: &str = "MESHLINK_GATEWAY_VALUES";
    pub(crate) const ISTIOD_VALUES: &str = "MESHLINK_ISTIOD_VALUES";
    pub(crate) const ISTIO_VERSION: &str = "MESHLINK_ISTIO_VERSION";
    pub(crate) const MANIFESTS: &str = "MESHLINK_MANIFESTS";
    pub(crate) const MESH: &str = "MESHLINK_MESH";
    pub(crate) const OFFLINE: &str = "MESHLINK_OFFLINE";
    pub(crate) const PASSPHRASE_FILE: &str = "MESHLINK_PASSPHRASE_FILE";

    /// Those a user may set, as the manual explains them.
    pub(crate) const ALL: [(&str, &str); 11] = [
        (FILE, "the mesh file, as --file"),
        (MESH, "the name of the mesh, as --mesh"),
        (CHARTS, "where the charts come from, as --charts and --repo"),
        (ISTIO_VERSION, "the version of Istio, as --istio-version"),
        (OFFLINE, "never fetch charts over the network, as --offline"),
        (
            PASSPHRASE_FILE,
            "a file with the passphrase of the root keys in the vault",
        ),
        (
            ISTIOD_VALUES,
            "values for the istiod chart, as --istiod-values",
        ),
        (
            GATEWAY_VALUES,
            "values for the gateway chart, as --gateway-values",
        ),
        (
            MANIFESTS,
            "a folder with templates that replace those of meshlink's own objects",
        ),
        (
            DNS,
            "name servers to ask instead of the system's: addresses, separated by commas",
        ),
        (COMPLETE, "set by a shell that asks for completions"),
    ];
}

/// What the variables of our own say, where there is no flag for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Own {
    /// A shell asks for completions.
    pub(crate) completes: bool,
    /// Where a test wants the process to die or to fail.
    pub(crate) crash: Option<String>,
    /// Name servers to ask.
    pub(crate) dns: Option<String>,
    /// Templates that replace those of our own objects.
    pub(crate) manifests: Option<PathBuf>,
    /// A file with the passphrase of the root keys in the vault.
    pub(crate) passphrase: Option<PathBuf>,
}

/// What the machine says. Everything else receives what it needs from here.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    vars: BTreeMap<String, String>,
    /// What the variables of our own say.
    pub(crate) own: Own,
}

/// Folders that hold a sandbox apart from the user's own meshes.
const SANDBOX: &str = "meshlink-sandbox";
const REAL: &str = "meshlink";

impl Environment {
    /// Reads it.
    #[expect(clippy::disallowed_methods, reason = "the one place where it enters")]
    pub(crate) fn read() -> Self {
        let vars = std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Self::from_vars(vars)
    }

    /// From given variables; empty ones count as absent.
    pub(crate) fn from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Self {
        let vars: BTreeMap<String, String> = vars
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let own = Own {
            completes: vars.contains_key(variable::COMPLETE),
            crash: vars.get(variable::CRASH).cloned(),
            dns: vars.get(variable::DNS).cloned(),
            manifests: vars.get(variable::MANIFESTS).map(PathBuf::from),
            passphrase: vars.get(variable::PASSPHRASE_FILE).map(PathBuf::from),
        };
        Self { vars, own }
    }

    /// One variable, where it is set and not empty.
    pub(crate) fn var(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str)
    }

    /// All of them, for a program of the user's that is given some by name.
    pub(crate) fn variables(&self) -> BTreeMap<String, String> {
        self.vars.clone()
    }

    /// The proxies, by the names most programs share; either case.
    pub(crate) fn proxies(&self) -> Proxies {
        let var = |name: &str| {
            self.var(name)
                .or_else(|| self.var(&name.to_ascii_lowercase()))
        };
        Proxies {
            https: var("HTTPS_PROXY").map(Into::into),
            http: var("HTTP_PROXY").map(Into::into),
            all: var("ALL_PROXY").map(Into::into),
            none: var("NO_PROXY").map(Into::into),
        }
    }

    /// What it says about AWS.
    pub(crate) fn aws(&self) -> aws::Env {
        aws::Env::from_vars(self.vars.clone())
    }

    /// Where logins for charts are: Docker's, those of Helm's registries, those of its repositories.
    pub(crate) fn logins(&self) -> Logins {
        let at = |name: &str| self.var(name).map(PathBuf::from);
        let docker = at("DOCKER_CONFIG").or_else(|| Some(self.home()?.join(".docker")));
        let helm = at("HELM_CONFIG_HOME")
            .or_else(|| Some(self.base("XDG_CONFIG_HOME", ".config")?.join("helm")));
        let below = |file: &str| helm.as_ref().map(|folder| folder.join(file));
        let helms = at("HELM_REGISTRY_CONFIG").or_else(|| below("registry/config.json"));
        let dockers = docker.map(|folder| folder.join("config.json"));
        Logins {
            registries: helms.into_iter().chain(dockers).collect(),
            repositories: at("HELM_REPOSITORY_CONFIG").or_else(|| below("repositories.yaml")),
        }
    }

    /// Where charts are kept that were fetched for no mesh in particular.
    pub(crate) fn cache(&self) -> Option<PathBuf> {
        Some(self.base("XDG_CACHE_HOME", ".cache")?.join(REAL))
    }

    /// The home folder. One that is not absolute would be another in each folder, and its vault with it.
    pub(crate) fn home(&self) -> Option<&Path> {
        self.var("HOME").map(Path::new).filter(|h| h.is_absolute())
    }

    /// The kubeconfig files, first wins: the flag, `$KUBECONFIG`, or the usual place.
    pub(crate) fn kubeconfig(&self, flag: Option<&Path>) -> Vec<PathBuf> {
        if let Some(path) = flag {
            return vec![path.into()];
        }
        if let Some(list) = self.var("KUBECONFIG") {
            return std::env::split_paths(list)
                .filter(|path| !path.as_os_str().is_empty())
                .collect();
        }
        self.home()
            .map(|home| home.join(".kube/config"))
            .into_iter()
            .collect()
    }

    /// Where the things of all meshes are; `None` without a home folder.
    pub(crate) fn folders(&self, sandbox: bool) -> Option<Folders> {
        let name = if sandbox { SANDBOX } else { REAL };
        Some(Folders {
            keys: self.base("XDG_DATA_HOME", ".local/share")?.join(name),
            state: self.base("XDG_STATE_HOME", ".local/state")?.join(name),
            cache: self.base("XDG_CACHE_HOME", ".cache")?.join(name),
        })
    }

    /// The folder a running sandbox can be found by.
    #[cfg(feature = "sandbox")]
    pub(crate) fn sandbox_state(&self) -> Option<PathBuf> {
        Some(self.base("XDG_STATE_HOME", ".local/state")?.join(SANDBOX))
    }

    /// A base folder; the specification says to ignore one that is not absolute.
    fn base(&self, name: &str, below_home: &str) -> Option<PathBuf> {
        let given = self
            .var(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        given.or_else(|| Some(self.home()?.join(below_home)))
    }

    /// Whether the terminal shows more than ASCII.
    pub(crate) fn is_utf8(&self) -> bool {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .find_map(|name| self.var(name));
        locale.is_some_and(|locale| {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        })
    }

    /// Whether someone asked for no colours, or the terminal has none.
    pub(crate) fn is_colourless(&self) -> bool {
        self.var("NO_COLOR").is_some() || self.is_dumb()
    }

    /// Whether the terminal cannot move its cursor.
    pub(crate) fn is_dumb(&self) -> bool {
        self.var("TERM").is_none_or(|term| term == "dumb")
    }

    /// The width someone asked for.
    pub(crate) fn columns(&self) -> Option<usize> {
        self.var("COLUMNS")?
            .parse()
            .ok()
            .filter(|columns| *columns >= 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(vars: &[(&str, &str)]) -> Environment {
        Environment::from_vars(vars.iter().map(|(k, v)| ((*k).into(), (*v).into())))
    }

    #[test]
    fn places_follow_the_base_folders_and_hold_the_sandbox_apart() {
        let mesh = "shop".parse().unwrap();
        let env = env(&[
            ("HOME", "/home/u"),
            ("XDG_DATA_HOME", "/data"),
            ("XDG_STATE_HOME", "relative"),
        ]);
        let real = env.folders(false).unwrap();
        assert_eq!(real.cache, Path::new("/home/u/.cache/meshlink"));
        let real = real.places(&mesh);
        assert_eq!(real.vault, Path::new("/data/meshlink/shop"));
        assert_eq!(
            real.journal(),
            Path::new("/home/u/.local/state/meshlink/shop/journal.jsonl")
        );
        let sandbox = env.folders(true).unwrap().places(&mesh);
        assert_eq!(sandbox.vault, Path::new("/data/meshlink-sandbox/shop"));
        assert!(Environment::default().folders(false).is_none());
    }

    #[test]
    fn kubeconfig_from_the_flag_the_variable_or_the_usual_place() {
        let both = env(&[("HOME", "/h"), ("KUBECONFIG", "/a::/b")]);
        assert_eq!(both.kubeconfig(Some(Path::new("c"))), [Path::new("c")]);
        assert_eq!(both.kubeconfig(None), [Path::new("/a"), Path::new("/b")]);
        assert_eq!(
            env(&[("HOME", "/h")]).kubeconfig(None),
            [Path::new("/h/.kube/config")]
        );
    }

    #[test]
    fn proxies_in_either_case() {
        let proxies = env(&[
            ("https_proxy", "http://p:1"),
            ("NO_PROXY", ".x"),
            ("no_proxy", ".y"),
        ])
        .proxies();
        assert_eq!(proxies.https.as_deref(), Some("http://p:1"));
        assert_eq!(proxies.none.as_deref(), Some(".x"));
        assert_eq!(proxies.http, None);
    }

    #[test]
    fn what_the_terminal_can_do() {
        assert!(env(&[("LANG", "C.UTF-8")]).is_utf8());
        assert!(!env(&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")]).is_utf8());
        assert!(env(&[("TERM", "xterm"), ("NO_COLOR", "1")]).is_colourless());
        assert!(!env(&[("TERM", "xterm"), ("NO_COLOR", "")]).is_colourless());
        assert!(env(&[]).is_dumb());
    }
}
