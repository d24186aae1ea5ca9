//! The lines to a probe: forwarded ports that stay open for the next question.

use std::sync::Mutex;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::sync::Semaphore;

use crate::cluster::{
    self, Cluster,
    forward::{Forwarded, Response},
};

use crate::mutex;

/// How many questions a probe is asked at once. An address that leads nowhere holds a line for seconds, and the others
/// are not to wait for it.
const MOST: usize = 16;

/// The lines to one port of a probe.
pub(super) struct Lines {
    free: Semaphore,
    idle: Mutex<Vec<Forwarded>>,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            free: Semaphore::new(MOST),
            idle: Mutex::default(),
        }
    }
}

impl Lines {
    /// Asks by a line that is free, else by a new one. A line that has been cut while it was idle is not the probe's
    /// fault: the question is asked again by another.
    pub(super) async fn ask(
        &self,
        (cluster, namespace, pod, port): (&Cluster, &str, &str, u16),
        question: impl Fn() -> Request<Full<Bytes>>,
    ) -> Result<Response, cluster::Error> {
        // Never closed, so there is always one in the end.
        let _free = self.free.acquire().await;
        let idle = self.idle().pop();
        if let Some(mut line) = idle {
            match line.send(question()).await {
                Ok(answer) => {
                    self.idle().push(line);
                    return Ok(answer);
                }
                Err(error) if is_silent(&error) => return Err(error),
                Err(_) => {}
            }
        }
        let mut line = cluster.open_port(namespace, pod, port).await?;
        let answer = line.send(question()).await?;
        self.idle().push(line);
        Ok(answer)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Forwarded>> {
        mutex::lock(&self.idle)
    }
}

fn is_silent(error: &cluster::Error) -> bool {
    matches!(error.failure(), Some(cluster::Failure::Timeout(_)))
}
