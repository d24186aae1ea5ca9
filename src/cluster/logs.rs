//! The end of a container's log.

use super::{
    Cluster, Error, Failure, Kind, Ref, Verb,
    wire::{Call, collect},
};

impl Cluster {
    /// The last lines of a container's log, and at most so many bytes.
    pub(crate) async fn log(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        lines: usize,
        bytes: usize,
    ) -> Result<Vec<u8>, Error> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/log");
        let (lines, most) = (lines.to_string(), bytes.to_string());
        let query = [
            ("container", container),
            ("tailLines", &lines),
            ("limitBytes", &most),
            ("timestamps", "true"),
        ];
        let mut call = Call::get(&path);
        call.query = &query;
        call.accept = "*/*";
        // Who does not keep to the limit is not read further than a little beyond it.
        let text = async { collect(self.stream(call).await?, 2 * bytes).await };
        let limit = self.0.timeout;
        let text = tokio::time::timeout(limit, text).await;
        let text = text.unwrap_or(Err(Failure::Timeout(limit)));
        let text = text.map_err(|source| {
            let pod = Ref::namespaced(&Kind::POD, namespace, pod);
            self.failed(Verb::Read, &pod, source)
        });
        Ok(text?.to_vec())
    }
}
