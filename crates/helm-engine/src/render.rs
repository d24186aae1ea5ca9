//! A chart and values to objects.

use std::{borrow::Cow, collections::BTreeMap, rc::Rc};

use serde_json::Value;

use super::{
    Chart, Error, Fault, Hook, Manifest, manifest,
    template::{
        Engine, Outside, Set,
        budget::Budget,
        failure,
        memo::Memo,
        semver,
        value::{Files, KubeVersion, Map, Value as Dynamic},
    },
    values,
};

/// The stack a rendering gets: templates may call each other deeply.
const STACK: usize = 256 << 20;

/// The most text the templates of a chart, and of those inside it, may have: trees made of it take ten times as much.
const TEMPLATES: usize = 16 << 20;

/// The release a chart is rendered for: what templates see as `.Release`.
#[derive(Debug, Clone, Copy)]
pub struct Release<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its revision, from 1.
    pub revision: u32,
    /// Whether an earlier revision exists.
    pub is_upgrade: bool,
}

impl<'a> Release<'a> {
    /// The first revision of a release, as `helm template` and `helm install` render it.
    pub fn install(name: &'a str, namespace: &'a str) -> Self {
        Self {
            name,
            namespace,
            revision: 1,
            is_upgrade: false,
        }
    }
}

/// What templates may know of the cluster: what they see as `.Capabilities`.
#[derive(Debug, Clone)]
pub struct Capabilities {
    /// Its version, such as `v1.34.2-eks-1`.
    pub kube_version: String,
    /// The API versions it serves, such as `apps/v1`; with kinds as `apps/v1/Deployment` where known.
    pub api_versions: Vec<String>,
}

impl Default for Capabilities {
    /// A recent Kubernetes with its built-in APIs.
    fn default() -> Self {
        let groups = [
            "v1",
            "admissionregistration.k8s.io/v1",
            "apiextensions.k8s.io/v1",
            "apps/v1",
            "authentication.k8s.io/v1",
            "authorization.k8s.io/v1",
            "autoscaling/v2",
            "autoscaling/v1",
            "batch/v1",
            "certificates.k8s.io/v1",
            "coordination.k8s.io/v1",
            "discovery.k8s.io/v1",
            "events.k8s.io/v1",
            "flowcontrol.apiserver.k8s.io/v1",
            "networking.k8s.io/v1",
            "node.k8s.io/v1",
            "policy/v1",
            "rbac.authorization.k8s.io/v1",
            "resource.k8s.io/v1",
            "scheduling.k8s.io/v1",
            "storage.k8s.io/v1",
        ];
        Self {
            kube_version: "v1.36.0".to_owned(),
            api_versions: groups.map(str::to_owned).to_vec(),
        }
    }
}

/// Answers `lookup`: API version, kind, namespace and name to an object, a list, or an empty map.
type Lookup<'l> = dyn Fn(&str, &str, &str, &str) -> Result<Value, String> + Sync + 'l;

/// What lies outside a rendering. Without it a chart that asks for the time or for randomness is refused,
/// so that rendering twice gives the same text.
#[derive(Default)]
pub struct Options<'l> {
    /// Answers `lookup`: API version, kind, namespace and name to an object, a list, or an empty map. Without it
    /// every answer is empty.
    pub lookup: Option<&'l Lookup<'l>>,
    /// What `now` answers, in seconds since 1970.
    pub now: Option<i64>,
    /// Whether templates may make random text, keys and certificates. Certificates need [`Options::now`] too.
    pub allow_random: bool,
}

/// What came out of a chart.
#[derive(Debug, Clone, Default)]
pub struct Rendered {
    /// Objects in Helm's order of installation.
    pub manifests: Vec<Manifest>,
    /// Objects that are run at certain moments instead.
    pub hooks: Vec<Hook>,
    /// `NOTES.txt`, executed.
    pub notes: String,
    /// What the chart's user should know, such as values its schema does not allow.
    pub warnings: Vec<String>,
    /// The text of all of it, where it was rendered and not put together.
    pub(crate) record: String,
}

impl Rendered {
    /// All objects as one text, as Helm records it; hooks are not in it.
    pub fn text(&self) -> Cow<'_, str> {
        if self.record.is_empty() {
            manifest::text(&self.manifests).into()
        } else {
            (&self.record).into()
        }
    }

    /// Objects, then hooks, as `helm template` prints them; with `--include-crds` where the chart is given whose
    /// resource definitions come first.
    ///
    /// ```
    /// use helm_engine::{Capabilities, Chart, File, Release, render};
    /// let chart = Chart::from_files(
    ///     vec![
    ///         File::new("Chart.yaml", "name: shop\nversion: 1.0.0\n"),
    ///         File::new("templates/a.yaml", "kind: Service\nmetadata: {name: a}\n"),
    ///         File::new("crds/order.yaml", "kind: CustomResourceDefinition\n"),
    ///     ],
    ///     "an example",
    /// )?;
    /// let release = Release::install("shop", "default");
    /// let rendered = render(&chart, &serde_json::json!({}), &release, &Capabilities::default())?;
    /// let service = "---\n# Source: shop/templates/a.yaml\nkind: Service\nmetadata: {name: a}\n";
    /// assert_eq!(rendered.template_text(None), service);
    /// assert!(rendered.template_text(Some(&chart)).starts_with("---\n# Source: shop/crds/order.yaml\n"));
    /// # Ok::<(), helm_engine::Error>(())
    /// ```
    pub fn template_text(&self, with_crds_of: Option<&Chart>) -> String {
        let mut objects = String::new();
        for crd in with_crds_of.map(Chart::crds).unwrap_or_default() {
            let (name, text) = (&crd.name, String::from_utf8_lossy(&crd.data));
            let chart = with_crds_of.map(Chart::name).unwrap_or_default();
            objects += &format!("---\n# Source: {chart}/{name}\n{text}\n");
        }
        objects += &self.text();
        let hooks: String = self
            .hooks
            .iter()
            .map(|hook| manifest::text(std::slice::from_ref(&hook.manifest)))
            .collect();
        format!("{}\n{hooks}", objects.trim())
    }
}

/// Renders a chart with the user's values, as [`render_with`] with nothing outside.
pub fn render(
    chart: &Chart,
    values: &Value,
    release: &Release<'_>,
    capabilities: &Capabilities,
) -> Result<Rendered, Error> {
    render_with(chart, values, release, capabilities, &Options::default())
}

/// Renders a chart with the user's values (a map, or null for none), and answers to what it asks of the world.
///
/// The same input gives the same text, to the byte. Runs on a thread of its own with a large stack, and blocks until it
/// is done. What a chart may use is bounded: steps, text, values, depth, the size of its templates. A value that the
/// chart's schema does not allow is one of [`Rendered::warnings`] and no error; who wants Helm's strictness refuses
/// where there is one.
///
/// # Errors
/// [`Error::Template`] with file, line, column and the value it depends on, also where the chart itself refuses by
/// `fail` or `required`; [`Error::Document`] if what was rendered is no object; [`Error::Values`] if values do not fit
/// together; [`Error::Package`] if the chart is not for this Kubernetes version.
///
/// ```
/// use helm_engine::{Capabilities, Chart, Error, File, Options, Release, render_with};
/// let template = "kind: ConfigMap\nmetadata: {name: a}\ndata: {at: {{ now | date \"2006-01-02\" | quote }}}\n";
/// let head = File::new("Chart.yaml", "name: shop\nversion: 1.0.0\n");
/// let chart = Chart::from_files(vec![head, File::new("templates/a.yaml", template)], "an example")?;
/// let (values, release) = (serde_json::json!({}), Release::install("shop", "default"));
///
/// let options = Options { now: Some(86_400), ..Options::default() };
/// let rendered = render_with(&chart, &values, &release, &Capabilities::default(), &options)?;
/// assert_eq!(rendered.manifests[0].object["data"]["at"], "1970-01-02");
///
/// // Without a time there is no answer to give.
/// let refused = render_with(&chart, &values, &release, &Capabilities::default(), &Options::default());
/// assert!(matches!(refused, Err(Error::Template(fault)) if fault.file == "shop/templates/a.yaml"));
/// # Ok::<(), helm_engine::Error>(())
/// ```
pub fn render_with(
    chart: &Chart,
    values: &Value,
    release: &Release<'_>,
    capabilities: &Capabilities,
    options: &Options<'_>,
) -> Result<Rendered, Error> {
    // Templates nest as deep as they like up to a limit that no ordinary stack would hold.
    let work = || render_here(chart, values, release, capabilities, options);
    std::thread::scope(|scope| {
        let refused = |reason: &str| Error::Package {
            chart: chart.name().to_owned(),
            file: "templates".to_owned(),
            reason: reason.to_owned(),
        };
        let thread = std::thread::Builder::new()
            .name("render".to_owned())
            .stack_size(STACK);
        let handle = thread
            .spawn_scoped(scope, work)
            .map_err(|error| refused(&error.to_string()))?;
        handle
            .join()
            .unwrap_or_else(|_| Err(refused("rendering stopped unexpectedly")))
    })
}

fn render_here(
    chart: &Chart,
    values: &Value,
    release: &Release<'_>,
    capabilities: &Capabilities,
    options: &Options<'_>,
) -> Result<Rendered, Error> {
    let invalid = |reason: String| Error::Values {
        origin: chart.name().to_owned(),
        reason,
    };
    let user = match values {
        Value::Null => serde_json::Map::new(),
        Value::Object(map) => map.clone(),
        _ => return Err(invalid("they are not a map".to_owned())),
    };
    check_version(chart, capabilities)?;
    let chart = &super::package::enabled(chart, &user)?;
    let merged = values::coalesce(chart, &user)?;
    let merged = Value::Object(merged);
    let mut advice = super::schema::warnings(chart, &merged);
    let merged = Dynamic::from_json(&merged, &Budget::default()).map_err(invalid)?;

    let release = Map::from([
        ("Name", release.name.into()),
        ("Namespace", release.namespace.into()),
        ("IsUpgrade", release.is_upgrade.into()),
        ("IsInstall", (!release.is_upgrade).into()),
        ("Revision", i64::from(release.revision).into()),
        ("Service", "Helm".into()),
    ]);
    let shared = Shared {
        release: Dynamic::Map(release),
        capabilities: Dynamic::Map(capability_map(capabilities)),
    };
    let mut templates = BTreeMap::new();
    gather(chart, chart.name(), true, merged, &shared, &mut templates)?;
    let (files, mut memo) = execute(chart, templates, options)?;

    let notes_name = format!("{}/templates/NOTES.txt", chart.name());
    let notes = files
        .iter()
        .find(|(name, _)| *name == notes_name)
        .map(|(_, text)| text.clone())
        .unwrap_or_default();
    let files: Vec<_> = files
        .into_iter()
        .filter(|(name, _)| !name.ends_with("NOTES.txt"))
        .collect();
    let collected = manifest::collect(&files, &mut memo)?;
    let manifest::Collected {
        manifests,
        hooks,
        warnings,
        text: record,
    } = collected;
    advice.extend(warnings);
    Ok(Rendered {
        manifests,
        hooks,
        notes,
        warnings: advice,
        record,
    })
}

fn check_version(chart: &Chart, capabilities: &Capabilities) -> Result<(), Error> {
    let wanted = &chart.metadata.kube_version;
    if wanted.is_empty() {
        return Ok(());
    }
    let refused = |reason: String| Error::Package {
        chart: chart.name().to_owned(),
        file: "Chart.yaml".to_owned(),
        reason,
    };
    let range = semver::Range::parse(wanted).map_err(&refused)?;
    let cluster =
        semver::parse(&kube_version(&capabilities.kube_version).normal).map_err(&refused)?;
    if range.holds(&cluster) {
        return Ok(());
    }
    Err(refused(format!(
        "chart requires kubeVersion: {wanted} which is incompatible with Kubernetes {}",
        capabilities.kube_version
    )))
}

fn kube_version(text: &str) -> KubeVersion {
    let version = if text.starts_with('v') {
        text.to_owned()
    } else {
        format!("v{text}")
    };
    let core: String = version[1..]
        .chars()
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .collect();
    let mut parts = core.split('.').map(str::to_owned);
    let [major, minor, patch] = [0, 1, 2].map(|_| {
        parts
            .next()
            .filter(|part| !part.is_empty())
            .unwrap_or_else(|| "0".to_owned())
    });
    KubeVersion {
        version,
        normal: format!("v{major}.{minor}.{patch}"),
        major,
        minor,
    }
}

fn capability_map(capabilities: &Capabilities) -> Map {
    // Which Helm charts are told they run under; charts use it to choose between Helm 2, 3 and 4.
    let helm = Map::from([
        ("Version", "v4.3.1".into()),
        ("GitCommit", "".into()),
        ("GitTreeState", "clean".into()),
        ("GoVersion", "".into()),
    ]);
    Map::from([
        (
            "KubeVersion",
            Dynamic::KubeVersion(Rc::new(kube_version(&capabilities.kube_version))),
        ),
        (
            "APIVersions",
            Dynamic::Versions(Rc::new(capabilities.api_versions.clone())),
        ),
        ("HelmVersion", Dynamic::Map(helm)),
    ])
}

struct Shared {
    release: Dynamic,
    capabilities: Dynamic,
}

/// A template's text, and the map its chart's templates share.
struct Source {
    text: String,
    top: Map,
    base: String,
}

/// Collects the templates of a chart and of the charts inside it, each with its own values.
fn gather(
    chart: &Chart,
    path: &str,
    root: bool,
    values: Dynamic,
    shared: &Shared,
    all: &mut BTreeMap<String, Source>,
) -> Result<Dynamic, Error> {
    let files = chart
        .files
        .iter()
        .map(|file| (file.name.clone(), Rc::from(file.data.as_slice())))
        .collect();
    let below = Map::default();
    let top = Map::from([
        ("Chart", Dynamic::Map(chart.metadata.for_templates(root))),
        ("Files", Dynamic::Files(Rc::new(Files(files)))),
        ("Release", shared.release.clone()),
        ("Capabilities", shared.capabilities.clone()),
        ("Values", values.clone()),
        ("Subcharts", Dynamic::Map(below.clone())),
    ]);
    for inner in &chart.dependencies {
        let section = match &values {
            Dynamic::Map(values) => values.find(inner.name()),
            _ => None,
        };
        let section = section
            .filter(|section| matches!(section, Dynamic::Map(_)))
            .unwrap_or_else(|| Dynamic::Map(Map::default()));
        let inner_top = gather(
            inner,
            &format!("{path}/charts/{}", inner.name()),
            false,
            section,
            shared,
            all,
        )?;
        below.insert(inner.name(), inner_top);
    }
    for file in &chart.templates {
        let base_name = file.name.rsplit('/').next().unwrap_or_default();
        if chart.is_library() && !base_name.starts_with('_') {
            continue;
        }
        let text = String::from_utf8(file.data.clone()).map_err(|error| Error::Package {
            chart: chart.name().to_owned(),
            file: file.name.clone(),
            reason: error.to_string(),
        })?;
        all.insert(
            format!("{path}/{}", file.name),
            Source {
                text,
                top: top.clone(),
                base: format!("{path}/templates"),
            },
        );
    }
    Ok(Dynamic::Map(top))
}

/// Parses and executes in Helm's order: deeper paths first, and backwards by name.
fn execute(
    chart: &Chart,
    templates: BTreeMap<String, Source>,
    options: &Options<'_>,
) -> Result<(Vec<(String, String)>, Memo), Error> {
    let length: usize = templates.values().map(|source| source.text.len()).sum();
    if length > TEMPLATES {
        return Err(Error::Package {
            chart: chart.name().to_owned(),
            file: "templates".to_owned(),
            reason: format!("the templates are larger than {TEMPLATES} bytes in total"),
        });
    }
    let mut order: Vec<(&String, &Source)> = templates.iter().collect();
    order.sort_by(|(a, _), (b, _)| (b.matches('/').count(), b).cmp(&(a.matches('/').count(), a)));
    let mut set = Set::default();
    for (name, source) in &order {
        set.add(name, &source.text).map_err(|broken| Fault {
            chart: chart.name().to_owned(),
            file: (*name).clone(),
            line: broken.line,
            column: broken.column,
            reason: broken.reason,
            refused: false,
            expression: String::new(),
            value: None,
            via: Vec::new(),
        })?;
    }
    let set = Rc::new(set);
    let lookup = options
        .lookup
        .map(|lookup| move |a: &str, b: &str, c: &str, d: &str| lookup(a, b, c, d));
    let outside = Outside {
        lookup: lookup
            .as_ref()
            .map(|lookup| lookup as &dyn Fn(&str, &str, &str, &str) -> Result<Value, String>),
        now: options.now,
        random: options.allow_random,
    };
    let engine = Engine::new(&outside);
    let mut files = Vec::new();
    for (name, source) in order {
        if name.rsplit('/').next().unwrap_or_default().starts_with('_') {
            continue;
        }
        source.top.insert(
            "Template",
            Dynamic::Map(Map::from([
                ("Name", name.as_str().into()),
                ("BasePath", source.base.as_str().into()),
            ])),
        );
        let Some(template) = set.find(name) else {
            continue;
        };
        let text = engine
            .execute(&set, template, Dynamic::Map(source.top.clone()))
            .map_err(|error| failure(chart.name(), name, error))?;
        let text = match memchr::memmem::find(text.as_bytes(), b"<no value>") {
            Some(_) => text.replace("<no value>", ""),
            None => text,
        };
        files.push((name.clone(), text));
    }
    // The shared maps may hold each other; emptied, they can be freed.
    for source in templates.values() {
        for (key, _) in source.top.pairs() {
            source.top.remove(&key);
        }
    }
    files.sort();
    Ok((files, engine.memo.into_inner()))
}

#[cfg(test)]
mod tests;
