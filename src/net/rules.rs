//! Which servers are reached through which proxy, by the rules that curl, kubectl and the AWS tools share.
//!
//! hyper-util's matcher decides. It knows neither ports nor `*.domain` nor brackets in `NO_PROXY`, and takes `*` for
//! names only: such entries are brought into a form it knows, and each port has a matcher of its own.

use std::{collections::BTreeMap, net::IpAddr};

use http::{Uri, uri::Scheme};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

use super::{Error, Proxies};

/// The proxies, and the servers that are reached without.
#[derive(Default)]
pub(super) struct Rules {
    http: Option<Setting>,
    https: Option<Setting>,
    /// For the ports that `NO_PROXY` names.
    ports: BTreeMap<u16, Matcher>,
    /// For all other ports.
    others: Option<Matcher>,
}

/// A variable that is set, and what it says.
#[derive(Clone)]
struct Setting {
    variable: &'static str,
    proxy: Result<Uri, String>,
}

impl Rules {
    pub(super) fn new(proxies: &Proxies) -> Self {
        let all = || Setting::of("ALL_PROXY", proxies.all.as_deref());
        let http = Setting::of("HTTP_PROXY", proxies.http.as_deref()).or_else(all);
        let https = Setting::of("HTTPS_PROXY", proxies.https.as_deref()).or_else(all);
        let matcher = |direct: &[&str]| {
            // What cannot be used is told where it is asked for; the matcher must not pass it over.
            let text = |setting: &Option<Setting>| match setting {
                Some(setting) => match &setting.proxy {
                    Ok(proxy) => proxy.to_string(),
                    Err(_) => "http://unusable".into(),
                },
                None => String::new(),
            };
            Matcher::builder()
                .http(text(&http))
                .https(text(&https))
                .no(direct.join(","))
                .build()
        };
        let entries = proxies.none.as_deref().unwrap_or_default().split(',');
        let entries: Vec<_> = entries.map(|text| entry(text.trim())).collect();
        let for_port = |wanted: Option<u16>| -> Vec<&str> {
            let entries = entries.iter();
            let chosen = entries.filter(|(_, port)| port.is_none() || *port == wanted);
            chosen.map(|(text, _)| text.as_str()).collect()
        };
        let ports = entries.iter().filter_map(|(_, port)| *port);
        Self {
            ports: ports
                .map(|port| (port, matcher(&for_port(Some(port)))))
                .collect(),
            others: Some(matcher(&for_port(None))),
            http,
            https,
        }
    }

    /// The proxy for a server, with its login.
    pub(super) fn proxy(&self, server: &Uri) -> Result<Option<Uri>, Error> {
        if !self.is_intercepted(server) {
            return Ok(None);
        }
        self.setting(server).map(Setting::usable).transpose()
    }

    /// The proxy for a server, and apart from it what logs in there.
    pub(super) fn intercept(&self, server: &Uri) -> Result<Option<Intercept>, Error> {
        match self.proxy(server)? {
            Some(_) => Ok(self.matcher(server).and_then(|m| m.intercept(server))),
            None => Ok(None),
        }
    }

    fn is_intercepted(&self, server: &Uri) -> bool {
        let host = server.host().unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        let is_loopback =
            host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|a| a.is_loopback());
        let matcher = self.matcher(server).filter(|_| !is_loopback);
        matcher.is_some_and(|matcher| matcher.intercept(server).is_some())
    }

    fn setting(&self, server: &Uri) -> Option<&Setting> {
        match server.scheme_str() {
            Some("http") => self.http.as_ref(),
            _ => self.https.as_ref(),
        }
    }

    fn matcher(&self, server: &Uri) -> Option<&Matcher> {
        let port = self.ports.get(&port(server));
        port.or(self.others.as_ref())
    }
}

impl Setting {
    fn of(variable: &'static str, text: Option<&str>) -> Option<Self> {
        let text = text.filter(|text| !text.is_empty())?;
        let proxy = parse(text);
        Some(Self { variable, proxy })
    }

    fn usable(&self) -> Result<Uri, Error> {
        self.proxy.clone().map_err(|reason| Error::Proxy {
            variable: self.variable,
            reason,
        })
    }
}

/// A proxy as a URL; without a scheme it is an `http` one.
fn parse(text: &str) -> Result<Uri, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let scheme = match scheme {
        "http" | "https" | "socks5" => scheme,
        // Names are resolved by the proxy in any case.
        "socks5h" => "socks5",
        // Whatever else stands there may be a login.
        other if !other.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            return Err("only http, https and socks5 proxies are known".into());
        }
        other => {
            return Err(format!(
                "the {other} proxy is not supported; http, https and socks5 are"
            ));
        }
    };
    let uri = format!("{scheme}://{}", rest.trim_end_matches('/')).parse::<Uri>();
    uri.map_err(|error| match rest.contains('@') {
        true => format!("{error}; special characters of a login are written %40 and so on"),
        false => error.to_string(),
    })
}

/// The port of a server, also where it is not written out.
pub(super) fn port(server: &Uri) -> u16 {
    let usual = match server.scheme() == Some(&Scheme::HTTP) {
        true => 80,
        false => 443,
    };
    server.port_u16().unwrap_or(usual)
}

/// An entry of `NO_PROXY` in the matcher's form, and the port it is limited to.
fn entry(text: &str) -> (String, Option<u16>) {
    let is_whole = text.parse::<IpAddr>().is_ok() || text.contains('/');
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !is_whole && port.parse::<u16>().is_ok() => (host, port.parse().ok()),
        _ => (text, None),
    };
    let host = host.trim_matches(['[', ']']);
    let host = match host.strip_prefix('*') {
        Some("") => "*,0.0.0.0/0,::/0",
        Some(domain) if domain.starts_with('.') => domain,
        _ => host,
    };
    (host.to_owned(), port)
}
