//! The one DNS resolver.
//!
//! Names are asked as they are: no search domains, no hosts file, nothing remembered between two
//! questions. A load balancer's name that was not there a second ago is asked for again, not
//! answered from memory.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    Resolver as Hickory, TokioResolver,
    config::{
        ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
        ResolverOpts,
    },
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::rr::RecordType,
};

/// One question to one server.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a question is repeated.
const ATTEMPTS: usize = 1;

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no such name, or it has no address.
    #[error("{name} has no address in DNS")]
    NotFound {
        /// The name.
        name: String,
    },
    /// The servers did not say.
    #[error("DNS did not answer for {name}: {reason}")]
    Failed {
        /// The name.
        name: String,
        /// What went wrong.
        reason: String,
    },
    /// The system's own configuration cannot be used.
    #[error("cannot use the system's DNS configuration: {reason}")]
    System {
        /// What is wrong with it.
        reason: String,
    },
}

/// Asks name servers for addresses; cheap to clone.
#[derive(Clone)]
pub(crate) struct Resolver(TokioResolver);

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

impl Resolver {
    /// The servers this machine uses.
    pub(crate) fn system() -> Result<Self, Error> {
        let (config, _) = hickory_resolver::system_conf::read_system_conf().map_err(system)?;
        Self::build(config.name_servers().to_vec())
    }

    /// These servers and no others, by UDP, and by TCP for long answers.
    pub(crate) fn with_servers(servers: Vec<SocketAddr>) -> Result<Self, Error> {
        let server = |address: SocketAddr| {
            let at = |mut connection: ConnectionConfig| {
                connection.port = address.port();
                connection
            };
            NameServerConfig::new(
                address.ip(),
                true,
                vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())],
            )
        };
        Self::build(servers.into_iter().map(server).collect())
    }

    fn build(servers: Vec<NameServerConfig>) -> Result<Self, Error> {
        let config = ResolverConfig::from_name_servers(servers);
        let builder = Hickory::builder_with_config(config, TokioRuntimeProvider::default());
        builder
            .with_options(options())
            .build()
            .map(Self)
            .map_err(system)
    }

    /// The addresses of a name, in order; an address is its own.
    pub(crate) async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, Error> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        let mut found: Vec<IpAddr> = match self.0.lookup_ip(absolute(name)).await {
            Ok(found) => found.iter().collect(),
            Err(error) if error.is_no_records_found() || error.is_nx_domain() => Vec::new(),
            Err(error) => {
                return Err(Error::Failed {
                    name: name.into(),
                    reason: error.to_string(),
                });
            }
        };
        found.sort();
        found.dedup();
        match found.is_empty() {
            true => Err(Error::NotFound { name: name.into() }),
            false => Ok(found),
        }
    }

    /// How long others may keep a "no" about a name, as its zone says (RFC 2308, section 5).
    pub(crate) async fn keeps_no(&self, name: &str) -> Option<Duration> {
        // A name of a load balancer is no zone: the answer is a "no", with the word of the zone it is in.
        match self.0.lookup(absolute(name), RecordType::SOA).await {
            Err(NetError::Dns(DnsError::NoRecordsFound(no))) => {
                no.negative_ttl.map(|ttl| Duration::from_secs(ttl.into()))
            }
            _ => None,
        }
    }
}

fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

fn system(error: impl ToString) -> Error {
    Error::System {
        reason: error.to_string(),
    }
}

fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.use_hosts_file = ResolveHosts::Never;
    options.timeout = PATIENCE;
    options.attempts = ATTEMPTS;
    options.cache_size = 0;
    options.positive_max_ttl = Some(Duration::ZERO);
    options.negative_max_ttl = Some(Duration::ZERO);
    options
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use tokio::net::UdpSocket;

    use super::*;

    /// A name server that knows `nlb.example.com`, fails for `broken.`, and answers everything
    /// else with the code for "no such name"; and a count of its questions.
    async fn server() -> (Resolver, Arc<AtomicUsize>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let resolver = Resolver::with_servers(vec![socket.local_addr().unwrap()]).unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                count.fetch_add(1, Relaxed);
                socket
                    .send_to(&answer(&query[..length]), from)
                    .await
                    .unwrap();
            }
        });
        (resolver, asked)
    }

    /// RFC 1035, section 4: the question back, and records that point to its name.
    fn answer(query: &[u8]) -> Vec<u8> {
        let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
        let question = &query[12..end];
        let name = String::from_utf8_lossy(question).to_lowercase();
        let wants_a = question[question.len() - 4..question.len() - 2] == [0, 1];
        let (code, addresses): (u8, &[[u8; 4]]) = match () {
            () if name.contains("broken") => (2, &[]),
            () if !name.starts_with("\u{3}nlb\u{7}example\u{3}com\0") => (3, &[]),
            () if wants_a => (0, &[[198, 18, 0, 102], [198, 18, 0, 101]]),
            () => (0, &[]),
        };
        let mut out = [
            &query[..2],
            &[
                0x81,
                0x80 | code,
                0,
                1,
                0,
                addresses.len() as u8,
                0,
                0,
                0,
                0,
            ],
            question,
        ]
        .concat();
        for address in addresses {
            out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            out.extend(address);
        }
        out
    }

    #[tokio::test]
    async fn names_addresses_and_what_is_neither() {
        let (resolver, _) = server().await;
        let want: Vec<IpAddr> = vec![
            "198.18.0.101".parse().unwrap(),
            "198.18.0.102".parse().unwrap(),
        ];
        assert_eq!(resolver.lookup("nlb.example.com").await.unwrap(), want);
        assert_eq!(resolver.lookup("nlb.example.com.").await.unwrap(), want);
        assert_eq!(
            resolver.lookup("::1").await.unwrap(),
            ["::1".parse::<IpAddr>().unwrap()]
        );
        let unknown = resolver.lookup("nlb").await.unwrap_err();
        assert!(
            matches!(&unknown, Error::NotFound { name } if name == "nlb"),
            "{unknown}"
        );
        assert!(matches!(
            resolver.lookup("broken.example.com").await,
            Err(Error::Failed { .. })
        ));
        assert!(matches!(
            resolver.lookup("no name at all").await,
            Err(Error::NotFound { .. } | Error::Failed { .. })
        ));
    }

    #[tokio::test]
    async fn nothing_is_remembered() {
        let (resolver, asked) = server().await;
        resolver.lookup("nlb.example.com").await.unwrap();
        let once = asked.load(Relaxed);
        resolver.lookup("nlb.example.com").await.unwrap();
        assert_eq!(asked.load(Relaxed), 2 * once);
        resolver.lookup("x.example.com").await.unwrap_err();
        let before = asked.load(Relaxed);
        resolver.lookup("x.example.com").await.unwrap_err();
        assert!(asked.load(Relaxed) > before);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_a_failure_and_not_an_absence() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let resolver = Resolver::with_servers(vec![socket.local_addr().unwrap()]).unwrap();
        assert!(matches!(
            resolver.lookup("nlb.example.com").await,
            Err(Error::Failed { .. })
        ));
    }
}
