//! Where actors take part: admission of pods, ports of pods, tokens of another issuer.

use std::sync::{Arc, RwLock};

use futures::future::BoxFuture;
use serde_json::Value;
use tokio::io::DuplexStream;

use super::status::Failure;

/// Who a request comes from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UserInfo {
    /// Name, such as `system:serviceaccount:default:reader`.
    pub name: String,
    /// Uid, if the authenticator knows one.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
}

/// Answers for the ports of pods.
pub trait PortForward: Send + Sync {
    /// Opens a connection to a port of a pod, or says why there is none.
    fn open(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> BoxFuture<'static, Result<DuplexStream, String>>;
}

/// May change a pod about to be created in a namespace, or refuse it.
pub type CreatePod = Arc<dyn Fn(&mut Value, &Value) -> Result<(), String> + Send + Sync>;

/// Knows bearer tokens that the cluster did not issue.
pub type Authenticator = Arc<dyn Fn(&str) -> Option<UserInfo> + Send + Sync>;

/// Answers for a pod's log: namespace, pod, container.
pub type PodLog = Arc<dyn Fn(&str, &str, Option<&str>) -> String + Send + Sync>;

#[derive(Default)]
struct Set {
    create_pod: Option<CreatePod>,
    port_forward: Option<Arc<dyn PortForward>>,
    authenticator: Option<Authenticator>,
    log: Option<PodLog>,
}

/// What actors have registered.
#[derive(Default)]
pub(crate) struct Hooks(RwLock<Set>);

impl Hooks {
    fn read<T>(&self, look: impl FnOnce(&Set) -> T) -> T {
        look(
            &self
                .0
                .read()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }

    fn write(&self, change: impl FnOnce(&mut Set)) {
        change(
            &mut self
                .0
                .write()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
    }

    pub(crate) fn on_create_pod(&self, hook: CreatePod) {
        self.write(|set| set.create_pod = Some(hook));
    }

    pub(crate) fn on_port_forward(&self, hook: Arc<dyn PortForward>) {
        self.write(|set| set.port_forward = Some(hook));
    }

    pub(crate) fn on_token(&self, hook: Authenticator) {
        self.write(|set| set.authenticator = Some(hook));
    }

    pub(crate) fn on_log(&self, hook: PodLog) {
        self.write(|set| set.log = Some(hook));
    }

    /// A refusal reads as a webhook that could not be asked.
    pub(crate) fn create_pod(&self, pod: &mut Value, namespace: &Value) -> Result<(), Failure> {
        let Some(hook) = self.read(|set| set.create_pod.clone()) else {
            return Ok(());
        };
        hook(pod, namespace).map_err(Failure::internal)
    }

    pub(crate) fn port_forward(&self) -> Option<Arc<dyn PortForward>> {
        self.read(|set| set.port_forward.clone())
    }

    pub(crate) fn user_of(&self, token: &str) -> Option<UserInfo> {
        self.read(|set| set.authenticator.clone())?(token)
    }

    pub(crate) fn log(&self, namespace: &str, pod: &str, container: Option<&str>) -> String {
        self.read(|set| set.log.clone())
            .map_or_else(String::new, |log| log(namespace, pod, container))
    }
}
