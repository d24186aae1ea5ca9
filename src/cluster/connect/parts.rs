//! Connecting with a server, its CA and a token, where no kubeconfig says how.

use std::{collections::HashMap, sync::Mutex};

use http::Uri;
use kube::{Client, Config};

use super::{
    super::{Cluster, Error},
    ConnectOptions, Endpoint, Insecure, TokenProvider, build, certificates, found_proxy,
    from_built, is_cleartext, unusable,
};
use crate::{mutex, name::ClusterName};

/// Connects with a server, its CA and a token that may be renewed while the program runs.
pub(crate) fn from_parts(
    name: &ClusterName,
    server: &str,
    ca_pem: Option<&[u8]>,
    tls_server_name: Option<&str>,
    token: TokenProvider,
    options: &ConnectOptions,
) -> Result<Cluster, Error> {
    let way = Way {
        server,
        ca_pem,
        tls_server_name,
    };
    let client = way
        .open(options)
        .map_err(|reason| unusable(name, server, reason))?;
    Ok(way.shown(name, client, token, options))
}

/// Clients without a user, by how they reach the server.
pub(in crate::cluster) type Bare = Mutex<HashMap<(String, Option<Vec<u8>>), Client>>;

/// As [`from_parts`], for one of many tokens that are shown to the API server of a member: a connection that is there
/// already is used for the next.
pub(crate) fn shown_at(
    member: &Cluster,
    server: &str,
    ca_pem: Option<&[u8]>,
    token: TokenProvider,
    options: &ConnectOptions,
) -> Result<Cluster, Error> {
    let way = Way {
        server,
        ca_pem,
        tls_server_name: None,
    };
    let key = (server.to_owned(), ca_pem.map(<[u8]>::to_vec));
    let mut known = mutex::lock(&member.0.bare);
    let client = match known.get(&key) {
        Some(client) => client.clone(),
        None => {
            let opened = way.open(options);
            let opened = opened.map_err(|reason| unusable(member.name(), server, reason))?;
            known.insert(key, opened.clone());
            opened
        }
    };
    drop(known);
    Ok(way.shown(member.name(), client, token, options))
}

/// How a server is reached, and known.
struct Way<'a> {
    server: &'a str,
    ca_pem: Option<&'a [u8]>,
    tls_server_name: Option<&'a str>,
}

impl Way<'_> {
    fn open(&self, options: &ConnectOptions) -> Result<Client, String> {
        let uri: Uri = self
            .server
            .parse()
            .map_err(|error| format!("the address: {error}"))?;
        let mut config = Config::new(uri);
        config.root_cert = self.ca_pem.map(certificates).transpose()?;
        config.tls_server_name = self.tls_server_name.map(str::to_owned);
        config.proxy_url = found_proxy(&config, options)?;
        config.connect_timeout = Some(options.timeout);
        config.default_retry = false;
        build(config).map_err(|error| error.to_string())
    }

    fn shown(
        &self,
        name: &ClusterName,
        client: Client,
        token: TokenProvider,
        options: &ConnectOptions,
    ) -> Cluster {
        let withheld = is_cleartext(self.server) && !options.insecure.contains(name);
        let endpoint = Endpoint {
            server: self.server,
            ca: self.ca_pem.map(<[u8]>::to_vec),
            insecure: is_cleartext(self.server).then_some(Insecure::Cleartext { withheld }),
        };
        let tokens = (!withheld).then_some(token);
        from_built(name, client, endpoint, options, tokens)
    }
}
