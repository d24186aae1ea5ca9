//! Which proxy of the environment a server is reached through, by the rules kubectl's HTTP
//! library follows.

use std::net::IpAddr;

use http::Uri;

/// `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, in either case, as the command line read them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `https` servers.
    pub https: Option<String>,
    /// For `http` servers.
    pub http: Option<String>,
    /// Servers that are reached directly: hosts, `.domains`, addresses, ranges, or `*`.
    pub none: Option<String>,
}

impl Proxies {
    /// The proxy for a server, if there is one.
    pub(super) fn of(&self, server: &Uri) -> Result<Option<Uri>, String> {
        let chosen = if server.scheme_str() == Some("http") {
            &self.http
        } else {
            &self.https
        };
        let Some(proxy) = chosen.as_deref().filter(|proxy| !proxy.is_empty()) else {
            return Ok(None);
        };
        let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
        if self.direct(host, server.port_u16()) {
            return Ok(None);
        }
        let full = if proxy.contains("://") {
            proxy.to_owned()
        } else {
            format!("http://{proxy}")
        };
        full.parse()
            .map(Some)
            .map_err(|error| format!("the proxy of the environment: {error}"))
    }

    fn direct(&self, host: &str, port: Option<u16>) -> bool {
        let address: Option<IpAddr> = host.parse().ok();
        if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        let rules = self
            .none
            .as_deref()
            .unwrap_or_default()
            .split(',')
            .map(str::trim);
        rules
            .filter(|rule| !rule.is_empty())
            .any(|rule| matches(rule, host, address, port))
    }
}

fn matches(rule: &str, host: &str, address: Option<IpAddr>, port: Option<u16>) -> bool {
    if rule == "*" {
        return true;
    }
    if let Some((net, bits)) = rule.split_once('/') {
        let net = net.parse().ok().zip(bits.parse().ok());
        return net
            .zip(address)
            .is_some_and(|((net, bits), address)| within(net, bits, address));
    }
    if let (Ok(rule), Some(address)) = (rule.parse::<IpAddr>(), address) {
        return rule == address;
    }
    let (rule, only) = match rule
        .rsplit_once(':')
        .map(|(name, port)| (name, port.parse().ok()))
    {
        Some((name, Some(only))) => (name, Some(only)),
        _ => (rule, None),
    };
    if only.is_some() && only != port {
        return false;
    }
    let (host, rule) = (
        host.to_ascii_lowercase(),
        rule.trim_start_matches('*').to_ascii_lowercase(),
    );
    match rule.strip_prefix('.') {
        Some(domain) => host
            .strip_suffix(domain)
            .is_some_and(|left| left.ends_with('.')),
        None => {
            host == rule
                || host
                    .strip_suffix(&rule)
                    .is_some_and(|left| left.ends_with('.'))
        }
    }
}

fn within(net: IpAddr, bits: u32, address: IpAddr) -> bool {
    match (net, address) {
        (IpAddr::V4(net), IpAddr::V4(address)) if bits <= 32 => {
            (u32::from(net) ^ u32::from(address))
                .checked_shr(32 - bits)
                .unwrap_or(0)
                == 0
        }
        (IpAddr::V6(net), IpAddr::V6(address)) if bits <= 128 => {
            (u128::from(net) ^ u128::from(address))
                .checked_shr(128 - bits)
                .unwrap_or(0)
                == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_through_the_proxy() {
        let none = "10.0.0.0/8, .internal,example.com,127.1.2.3, named:6443,192.168.7.7,fd00::/8";
        let proxies = Proxies {
            https: Some("proxy:3128".into()),
            http: None,
            none: Some(none.into()),
        };
        for (server, through) in [
            ("https://eks.amazonaws.com", true),
            ("http://eks.amazonaws.com", false),
            ("https://localhost:6443", false),
            ("https://127.0.0.1:6443", false),
            ("https://[::1]:6443", false),
            ("https://10.1.2.3", false),
            ("https://11.1.2.3", true),
            ("https://[fd12::1]", false),
            ("https://api.internal", false),
            ("https://internal", true),
            ("https://example.com", false),
            ("https://api.EXAMPLE.com", false),
            ("https://notexample.com", true),
            ("https://named:6443", false),
            ("https://named:443", true),
            ("https://192.168.7.7", false),
        ] {
            let proxy = proxies.of(&server.parse().unwrap()).unwrap();
            assert_eq!(proxy.is_some(), through, "{server}");
        }
        let everything = Proxies {
            none: Some("*".into()),
            ..proxies
        };
        assert_eq!(everything.of(&"https://a.b".parse().unwrap()), Ok(None));
    }

    #[test]
    fn a_proxy_without_a_scheme_is_http() {
        let proxies = Proxies {
            https: Some("proxy:3128".into()),
            ..Default::default()
        };
        let proxy = proxies
            .of(&"https://a.b".parse().unwrap())
            .unwrap()
            .unwrap();
        assert_eq!(proxy.to_string(), "http://proxy:3128/");
    }
}
