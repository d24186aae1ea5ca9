//! What each kind of work writes, in small.

use std::collections::BTreeSet;

use super::*;

/// What somebody is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Work {
    Join,
    Leave,
    Verify,
    Renew,
    Rotate,
}

impl Work {
    pub(super) fn any(dice: &mut Dice) -> Self {
        let all = [
            Self::Join,
            Self::Join,
            Self::Leave,
            Self::Verify,
            Self::Renew,
            Self::Rotate,
            Self::Rotate,
        ];
        all[usize::try_from(dice.below(7)).unwrap()]
    }
}

/// How far a member has come in a change of root.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
enum Stage {
    Old,
    Both,
    Signing,
    New,
}

fn map(name: &str) -> Ref {
    Ref::namespaced(&Kind::CONFIG_MAP, "istio-system", name)
}

fn object(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data,
        "metadata": {"name": name, "namespace": "istio-system"}})
}

/// A member's `cacerts`: what it signs under, and what it trusts.
pub(super) fn cacerts(signs: &str, trusts: &[&str]) -> Value {
    object("cacerts", json!({"signs": signs, "trusts": trusts}))
}

pub(super) fn claim(root: &str) -> Value {
    object("meshlink-root", json!({"root": root}))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

async fn find(cluster: &Cluster, name: &str) -> Result<Option<Value>, cluster::Error> {
    let place = map(name);
    persist(|| cluster.find(&place)).await
}

async fn create(cluster: &Cluster, object: &Value) -> Result<(), cluster::Error> {
    persist(|| cluster.create(object)).await.map(drop)
}

async fn delete(cluster: &Cluster, name: &str) -> Result<(), cluster::Error> {
    let (place, how) = (map(name), Delete::background());
    persist(|| cluster.delete(&place, &how)).await.map(drop)
}

impl Operator {
    /// One run of what it is about.
    pub(super) async fn change(&mut self, clusters: &[Cluster], run: u64) -> Result<(), Error> {
        let mut change = None;
        for cluster in clusters {
            let told = find(cluster, "meshlink-root-next").await?;
            change = change.or(told.map(|t| (text(&t["data"]["from"]), text(&t["data"]["to"]))));
        }
        match (self.work, change) {
            (Work::Rotate, change) => self.rotate(clusters, run, change).await,
            (Work::Verify, _) => self.probe(clusters).await,
            // Meanwhile members neither come nor go, and nothing else is renewed.
            (_, Some(_)) => Ok(()),
            (Work::Renew, None) => self.renew(clusters).await,
            (Work::Join, None) => {
                self.join(clusters).await?;
                self.probe(clusters).await
            }
            (Work::Leave, None) => {
                for cluster in clusters {
                    self.pause(6).await;
                    delete(cluster, "cacerts").await?;
                    delete(cluster, "meshlink-root").await?;
                }
                Ok(())
            }
        }
    }

    async fn join(&mut self, clusters: &[Cluster]) -> Result<(), Error> {
        let mut root = format!("root of {}", self.number);
        for cluster in clusters {
            if let Some(claim) = find(cluster, "meshlink-root").await? {
                root = text(&claim["data"]["root"]);
            }
        }
        for cluster in clusters {
            self.pause(6).await;
            create(cluster, &claim(&root)).await?;
        }
        for cluster in clusters {
            self.pause(6).await;
            create(cluster, &cacerts(&root, &[&root])).await?;
        }
        Ok(())
    }

    /// A probe that is brought everywhere and taken away.
    async fn probe(&mut self, clusters: &[Cluster]) -> Result<(), Error> {
        for cluster in clusters {
            self.pause(6).await;
            create(cluster, &object("probe", json!({"root": "x"}))).await?;
        }
        for cluster in clusters {
            self.pause(6).await;
            delete(cluster, "probe").await?;
        }
        Ok(())
    }

    /// A new intermediate under the same root, with a throw-away root beside it for a while.
    async fn renew(&mut self, clusters: &[Cluster]) -> Result<(), Error> {
        for cluster in clusters {
            for spare in [true, false] {
                self.pause(6).await;
                let Some(mut live) = find(cluster, "cacerts").await? else {
                    return Ok(());
                };
                let trusts = live["data"]["trusts"].as_array_mut().unwrap();
                trusts.retain(|root| *root != "spare");
                if spare {
                    trusts.push("spare".into());
                }
                cluster.replace(&live).await?;
            }
        }
        Ok(())
    }

    /// A new root, from wherever whoever was there before has left it.
    async fn rotate(
        &mut self,
        clusters: &[Cluster],
        run: u64,
        change: Option<(String, String)>,
    ) -> Result<(), Error> {
        let mut roots = BTreeSet::new();
        for cluster in clusters {
            let claim = find(cluster, "meshlink-root").await?;
            roots.insert(claim.map(|claim| text(&claim["data"]["root"])));
            if find(cluster, "cacerts").await?.is_none() {
                return Ok(());
            }
        }
        let (from, to) = match (change, roots.first()) {
            (Some(change), _) => change,
            (None, Some(Some(root))) if roots.len() == 1 => (root.clone(), format!("root {run}")),
            _ => return Ok(()),
        };
        let told = object("meshlink-root-next", json!({"from": from, "to": to}));
        for cluster in clusters {
            self.pause(6).await;
            if stage(cluster, &from, &to).await?.0 < Stage::New {
                create(cluster, &told).await?;
            }
        }
        let phases = [Stage::Both, Stage::Signing, Stage::New];
        let each = |stage| clusters.iter().map(move |cluster| (stage, cluster));
        let turns: Vec<_> = match self.rules.phased {
            true => phases.into_iter().flat_map(each).collect(),
            false => clusters
                .iter()
                .flat_map(|cluster| phases.map(|stage| (stage, cluster)))
                .collect(),
        };
        for (wanted, cluster) in turns {
            self.pause(6).await;
            let (at, live) = stage(cluster, &from, &to).await?;
            if at < wanted {
                let mut next = match wanted {
                    Stage::Old | Stage::Both => cacerts(&from, &[&from, &to]),
                    Stage::Signing => cacerts(&to, &[&from, &to, "spare"]),
                    Stage::New => cacerts(&to, &[&to]),
                };
                next["metadata"] = live["metadata"].clone();
                cluster.replace(&next).await?;
            }
        }
        for cluster in clusters {
            self.pause(6).await;
            let bound = find(cluster, "meshlink-root").await?;
            if bound.is_none_or(|bound| bound["data"]["root"] != to.as_str()) {
                delete(cluster, "meshlink-root").await?;
                create(cluster, &claim(&to)).await?;
            }
        }
        for cluster in clusters {
            self.pause(6).await;
            delete(cluster, "meshlink-root-next").await?;
        }
        Ok(())
    }
}

async fn stage(cluster: &Cluster, from: &str, to: &str) -> Result<(Stage, Value), cluster::Error> {
    let live = find(cluster, "cacerts").await?.unwrap_or_default();
    let trusts = live["data"]["trusts"].as_array();
    let trusts = |root: &str| trusts.is_some_and(|all| all.iter().any(|r| *r == root));
    let at = match live["data"]["signs"] == to {
        true if trusts(from) => Stage::Signing,
        true => Stage::New,
        false if trusts(to) => Stage::Both,
        false => Stage::Old,
    };
    Ok((at, live))
}
