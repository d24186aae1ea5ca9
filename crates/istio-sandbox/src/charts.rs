//! The chart repository of the embedded world: the stand-in charts, packaged, over plain HTTP.

use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use flate2::{Compression, GzBuilder};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, task::JoinSet};

/// The version the files themselves say; packaging puts the asked one in its place.
pub(crate) const WRITTEN: &str = "1.31.4";

macro_rules! chart {
    ($name:literal: $($file:literal),+ $(,)?) => {
        ($name, &[$(($file, include_str!(concat!("../charts/", $name, "/", $file)))),+])
    };
}

type Files = &'static [(&'static str, &'static str)];

const CHARTS: [(&str, Files); 3] = [
    chart!("base": "Chart.yaml", "values.yaml", "templates/crds.yaml", "templates/reader.yaml", "templates/validator.yaml"),
    chart!("istiod": "Chart.yaml", "values.yaml", "templates/config.yaml", "templates/deployment.yaml",
        "templates/rbac.yaml", "templates/reader.yaml", "templates/service.yaml", "templates/values.yaml",
        "templates/webhooks.yaml", "templates/zzz_values.yaml"),
    chart!("gateway": "Chart.yaml", "values.yaml", "templates/_names.tpl", "templates/deployment.yaml",
        "templates/rbac.yaml", "templates/service.yaml"),
];

/// What the repository serves, by path.
#[derive(Debug)]
pub(crate) struct Repository {
    pages: BTreeMap<String, Bytes>,
}

impl Repository {
    /// The stand-in charts under each of the Istio versions asked for.
    pub(crate) fn new(versions: &[String]) -> std::io::Result<Self> {
        let mut pages = BTreeMap::new();
        let mut index = String::from("apiVersion: v1\nentries:\n");
        for (name, files) in CHARTS {
            index += &format!("  {name}:\n");
            for version in versions {
                let archive = package(name, files, version)?;
                let file = format!("{name}-{version}.tgz");
                let digest = hex::encode(Sha256::digest(&archive));
                index += &format!(
                    "    - apiVersion: v2\n      name: {name}\n      version: {version}\n      appVersion: {version}\n      \
                     digest: {digest}\n      created: \"2026-01-01T00:00:00Z\"\n      urls: [{file}]\n"
                );
                pages.insert(format!("/{file}"), archive.into());
            }
        }
        index += "generated: \"2026-01-01T00:00:00Z\"\n";
        pages.insert("/index.yaml".into(), index.into());
        Ok(Self { pages })
    }

    /// Serves on loopback until the tasks are dropped.
    pub(crate) async fn serve(
        self,
        at: SocketAddr,
        tasks: &mut JoinSet<()>,
    ) -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind(at).await?;
        let at = listener.local_addr()?;
        tasks.spawn(Arc::new(self).accept(listener));
        Ok(at)
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut clients = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let pages = self.clone();
            clients.spawn(async move {
                let answer = service_fn(|request| {
                    std::future::ready(Ok::<_, Infallible>(pages.answer(&request)))
                });
                // A client that goes away is no failure of ours.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), answer)
                    .await;
            });
            while clients.try_join_next().is_some() {}
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let found = self.pages.get(request.uri().path());
        let mut response = Response::new(Full::new(found.cloned().unwrap_or_default()));
        if found.is_none() {
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
        response
    }
}

/// A chart archive that is the same bytes whenever it is made.
fn package(name: &str, files: Files, version: &str) -> std::io::Result<Vec<u8>> {
    let gzip = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::default());
    let mut tar = tar::Builder::new(gzip);
    for (path, text) in files {
        // Templates carry no version of their own.
        let text = if path.starts_with("templates/") {
            (*text).to_owned()
        } else {
            text.replace(WRITTEN, version)
        };
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        tar.append_data(&mut header, format!("{name}/{path}"), text.as_bytes())?;
    }
    tar.into_inner()?.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use serde_json::{Value, json};

    use super::*;
    use helm_engine as chart;

    fn unpack(archive: &[u8]) -> BTreeMap<String, String> {
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(archive));
        tar.entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut text = String::new();
                entry.read_to_string(&mut text).unwrap();
                (entry.path().unwrap().display().to_string(), text)
            })
            .collect()
    }

    #[test]
    fn every_file_of_the_folder_is_packaged() {
        for (name, files) in CHARTS {
            let folder = format!("{}/charts/{name}", env!("CARGO_MANIFEST_DIR"));
            let templates = std::fs::read_dir(format!("{folder}/templates"))
                .unwrap()
                .count();
            assert_eq!(files.len(), templates + 2, "{name}");
        }
    }

    fn render(name: &str, values: Value) -> Vec<Value> {
        let folder = format!("{}/charts/{name}", env!("CARGO_MANIFEST_DIR"));
        let chart = chart::Chart::from_path(folder.as_ref()).unwrap();
        let release = chart::Release {
            name: "it",
            namespace: "there",
            revision: 1,
            is_upgrade: false,
        };
        let rendered =
            chart::render(&chart, &values, &release, &chart::Capabilities::default()).unwrap();
        rendered.manifests.into_iter().map(|m| m.object).collect()
    }

    fn kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
        objects.iter().find(|o| o["kind"] == kind).unwrap()
    }

    #[test]
    fn every_chart_renders_with_its_defaults_alone() {
        for (name, _) in CHARTS {
            let objects = render(name, Value::Null);
            assert!(
                objects.iter().all(|o| o["metadata"]["name"].is_string()),
                "{name}"
            );
            assert!(!format!("{objects:?}").contains("no value"), "{name}");
        }
    }

    #[test]
    fn istiod_takes_its_settings_under_either_of_their_names() {
        for values in [
            json!({"env": {"ISTIO_MULTIROOT_MESH": "true"}}),
            json!({"pilot": {"env": {"ISTIO_MULTIROOT_MESH": "true"}}}),
        ] {
            let objects = render("istiod", values);
            let env =
                &kind(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"];
            let found = env
                .as_array()
                .unwrap()
                .iter()
                .find(|e| e["name"] == "ISTIO_MULTIROOT_MESH")
                .unwrap();
            assert_eq!(found["value"], "true");
        }
    }

    #[test]
    fn the_gateway_is_labelled_exposed_and_probed_as_asked() {
        let objects = render(
            "gateway",
            json!({
            "name": "istio-eastwestgateway",
            "labels": {"app": "istio-eastwestgateway", "topology.istio.io/network": "n"},
            "env": {"ISTIO_META_REQUESTED_NETWORK_VIEW": "n"},
            "service": {"annotations": {"a": "b"}, "ports": [{"name": "tls", "port": 15443, "targetPort": 15443}]},
            "readinessProbe": {"periodSeconds": 1}}),
        );
        let service = kind(&objects, "Service");
        assert_eq!(
            service["metadata"]["labels"],
            json!({"app": "istio-eastwestgateway", "istio": "eastwestgateway", "topology.istio.io/network": "n"})
        );
        assert_eq!(
            (
                &service["metadata"]["annotations"]["a"],
                service["spec"]["ports"].as_array().unwrap().len()
            ),
            (&json!("b"), 1)
        );
        let pod = &kind(&objects, "Deployment")["spec"]["template"];
        assert_eq!(pod["metadata"]["labels"]["topology.istio.io/network"], "n");
        assert_eq!(
            pod["spec"]["containers"][0]["readinessProbe"],
            json!({"periodSeconds": 1})
        );
        assert_eq!(pod["spec"]["containers"][0]["env"][0]["value"], "n");
    }

    #[test]
    fn archives_are_reproducible_and_carry_the_version_asked_for() {
        assert!(CHARTS[0].1[0].1.contains(WRITTEN) && !WRITTEN.is_empty());
        let (name, files) = CHARTS[1];
        let archive = package(name, files, "1.30.3").unwrap();
        assert_eq!(archive, package(name, files, "1.30.3").unwrap());
        let files = unpack(&archive);
        assert!(files["istiod/Chart.yaml"].contains("version: 1.30.3"));
        assert!(files["istiod/values.yaml"].contains("tag: 1.30.3"));
        let repository = Repository::new(&[WRITTEN.into(), "1.30.3".into()]).unwrap();
        let index: serde_json::Value =
            serde_saphyr::from_slice(&repository.pages["/index.yaml"]).unwrap();
        let entry = &index["entries"]["istiod"][1];
        let served = &repository.pages[&format!("/{}", entry["urls"][0].as_str().unwrap())];
        assert_eq!(&archive, served);
        let digest = hex::encode(Sha256::digest(served));
        assert_eq!(entry["digest"], digest);
    }
}
