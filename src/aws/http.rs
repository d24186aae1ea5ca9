//! How the AWS SDK's requests are sent: as all others are, and within the SDK's own limits of time.

use std::{pin::pin, time::Duration};

use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::body::SdkBody;
use hyper_util::client::legacy::connect::capture_connection;
use tokio::time::{error::Elapsed, timeout};

use super::query::LARGEST;
use crate::net::{Error, Network};

/// The SDK's client.
#[derive(Debug)]
pub(super) struct Client(Network);

impl Client {
    pub(super) fn new(network: Network) -> Self {
        Self(network)
    }
}

impl HttpClient for Client {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Limited {
            network: self.0.clone(),
            connect: settings.connect_timeout(),
            read: settings.read_timeout(),
        })
    }
}

#[derive(Debug, Clone)]
struct Limited {
    network: Network,
    /// For a connection to be there.
    connect: Option<Duration>,
    /// For the answer to begin.
    read: Option<Duration>,
}

impl HttpConnector for Limited {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(async move {
            let limit = this.read.unwrap_or(Duration::MAX);
            timeout(limit, this.send(request)).await.map_err(slow)?
        })
    }
}

impl Limited {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let mut request = request
            .try_into_http1x()
            .map_err(|error| ConnectorError::user(error.into()))?;
        let mut connection = capture_connection(&mut request);
        let connected = async {
            connection.wait_for_connection_metadata().await;
        };
        let limit = self.connect.unwrap_or(Duration::MAX);
        let mut connected = pin!(timeout(limit, connected));
        let mut answer = pin!(self.network.send(request));
        let answer = tokio::select! {
            answer = &mut answer => answer,
            connected = &mut connected => {
                connected.map_err(slow)?;
                answer.await
            }
        };
        let answer = answer.map_err(|error| match error {
            Error::Request(error) => ConnectorError::io(error.into()),
            error => ConnectorError::user(error.into()),
        })?;
        let limited = |body| SdkBody::from_body_1_x(http_body_util::Limited::new(body, LARGEST));
        HttpResponse::try_from(answer.map(limited))
            .map_err(|error| ConnectorError::other(error.into(), None))
    }
}

fn slow(error: Elapsed) -> ConnectorError {
    ConnectorError::timeout(error.into())
}
