//! The page that tells people what the folder is, in which order it is applied, and what it leaves out.

use std::{collections::BTreeSet, fmt::Write};

use super::files::STAGES;
use crate::{chart, plan::Desired, spec::Mesh};

/// The page; it depends on nothing but the mesh and what it renders to.
pub(super) fn text(mesh: &Mesh, desired: &Desired) -> String {
    let releases = desired.clusters.values().map(|wanted| &wanted.istiod);
    let versions: BTreeSet<_> = releases
        .map(|release| release.chart.chart.metadata.version.as_str())
        .collect();
    let versions: Vec<_> = versions.into_iter().collect();
    let mut text = format!(
        "# Mesh {}\n\n\
         Written by `meshlink render`, with Istio {}. Files that `meshlink-render.json` lists are written anew each time; put changes of\n\
         your own into the mesh file, or into an overlay that takes these folders as its bases. `meshlink render --check` with the\n\
         same arguments ends with 10 where the folder is out of date.\n",
        mesh.id,
        versions.join(" and ")
    );
    order(&mut text, mesh);
    secrets(&mut text, mesh);
    images(&mut text, desired);
    text
}

fn order(text: &mut String, mesh: &Mesh) {
    let _ = write!(
        text,
        "\n## Order\n\n\
         Each member has a folder: {}. In it, each stage needs the one before it to be ready:\n\n\
         | stage | what | ready when |\n| --- | --- | --- |\n\
         | `{}` | namespaces, Istio's resource definitions, accounts of the peers' istiods | the definitions are established |\n\
         | `{}` | the control plane | Deployment istiod is available |\n\
         | `{}` | the east-west gateway, and what opens 15443 on it | Deployment {} is available |\n\n\
         - Argo CD: an Application for each member's folder. Sync waves 1 to 3 are written into the objects. Use server-side apply;\n  \
         webhooks come without `caBundle` and `failurePolicy`, which istiod writes.\n\
         - Flux: a Kustomization for each stage, with `wait: true`, each with `dependsOn` the one before.\n\
         - By hand: `kubectl apply --server-side -k MEMBER/STAGE`, stage by stage.\n",
        mesh.clusters
            .iter()
            .map(|m| format!("`{}`", m.name))
            .collect::<Vec<_>>()
            .join(", "),
        STAGES[0],
        STAGES[1],
        STAGES[2],
        mesh.gateway.name
    );
}

fn secrets(text: &mut String, mesh: &Mesh) {
    let istio = &mesh.istio.namespace;
    let _ = write!(
        text,
        "\n## What is not here\n\n\
         No file holds a key or a token. `meshlink join` with the same mesh file makes what is missing, and proves the mesh at its end;\n\
         it takes over what lies in these files as it is, so the order of the two does not matter, except that istiod must not run\n\
         before its `cacerts` are there. So join first and let GitOps take over, or put `cacerts` there before stage `{}`.\n\n\
         | member | Secret in {istio} | keys | where it comes from |\n| --- | --- | --- | --- |\n",
        STAGES[1]
    );
    for member in &mesh.clusters {
        let _ = writeln!(
            text,
            "| {} | `cacerts` | `ca-cert.pem`, `ca-key.pem`, `cert-chain.pem`, `root-cert.pem` | the mesh's vault, by `meshlink join`; or a secret store that holds the same files |",
            member.name
        );
        for peer in mesh.clusters.iter().filter(|peer| peer.name != member.name) {
            let _ = writeln!(
                text,
                "| {} | the remote secret of {} | `{}` | `meshlink join`, from the token that {} gives its account `meshlink-reader-{}` |",
                member.name, peer.name, peer.name, peer.name, member.name
            );
        }
    }
}

fn images(text: &mut String, desired: &Desired) {
    let wanted = desired.clusters.values();
    let releases = wanted.flat_map(|w| [&w.base, &w.istiod, &w.gateway]);
    let images: BTreeSet<String> = releases.flat_map(|r| chart::images(&r.rendered)).collect();
    *text += "\n## Images\n\n";
    for image in images {
        let _ = writeln!(text, "- `{image}`");
    }
}
