//! Trying a gateway's name from this machine: every address, TCP and then TLS.

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures::future;
use rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::Tried;
use crate::resolve::Resolver;

/// How long one try may take.
const TRY: Duration = Duration::from_secs(5);
/// The first byte of a TLS record that answers a greeting: an alert, or a handshake.
const TLS: [u8; 2] = [0x15, 0x16];

/// Try every address of a name. `sni` is a service behind the gateway, as peers ask for one.
pub(super) async fn from_here(resolver: &Resolver, host: &str, port: u16, sni: &str) -> Tried {
    let (addresses, why) = match resolver.lookup(host).await {
        Ok(addresses) => (addresses, None),
        Err(error) => (vec![], Some(error.to_string())),
    };
    let tries = addresses.iter().map(|ip| one(*ip, port, sni));
    let tries = future::join_all(tries).await;
    let those = |so: fn(&(bool, bool)) -> bool| -> Vec<String> {
        let all = addresses.iter().zip(&tries).filter(|(_, t)| so(t));
        all.map(|(ip, _)| ip.to_string()).collect()
    };
    let (connected, tls) = (those(|t| t.0), those(|t| t.1));
    let all = addresses.len();
    Tried {
        from: "this machine, not from a peer".into(),
        reached: all > 0 && connected.len() == all,
        says: why.unwrap_or_else(|| {
            format!(
                "{} of {all} addresses take connections, {} speak TLS",
                connected.len(),
                tls.len()
            )
        }),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        connected,
        tls,
    }
}

/// Whether an address takes connections, and whether it then speaks TLS.
async fn one(ip: IpAddr, port: u16, sni: &str) -> (bool, bool) {
    let Ok(Ok(mut stream)) = timeout(TRY, TcpStream::connect((ip, port))).await else {
        return (false, false);
    };
    let spoken = timeout(TRY, greet(&mut stream, sni)).await;
    (
        true,
        matches!(spoken, Ok(Some(byte)) if TLS.contains(&byte)),
    )
}

/// Send the greeting of a sidecar, and read the first byte of the answer. No certificate is shown and none is judged.
async fn greet(stream: &mut TcpStream, sni: &str) -> Option<u8> {
    let mut config = ClientConfig::builder()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"istio".to_vec()];
    let name = ServerName::try_from(sni.to_owned()).ok()?;
    let mut tls = ClientConnection::new(Arc::new(config), name).ok()?;
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).ok()?;
    stream.write_all(&hello).await.ok()?;
    stream.read_u8().await.ok()
}

#[cfg(all(test, feature = "sandbox"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests")]

    use std::net::Ipv4Addr;

    use tokio::{net::TcpListener, task::JoinSet};

    use super::*;
    use crate::sandbox::{
        dns,
        world::{LoadBalancer, LoadBalancers},
    };

    /// Listens on a loopback address, and answers what is sent with one byte or by closing.
    async fn listen(ip: [u8; 4], port: u16, answer: Option<u8>) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::from(ip), port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut greeting = [0; 5];
                stream.read_exact(&mut greeting).await.unwrap();
                assert_eq!(greeting[..2], [0x16, 3], "a TLS greeting");
                if let Some(byte) = answer {
                    stream.write_u8(byte).await.unwrap();
                }
            }
        });
        port
    }

    #[tokio::test]
    async fn one_address_of_three_is_told_apart_and_so_is_a_late_name() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut tasks = JoinSet::new();
        let addresses = [[127, 0, 0, 2], [127, 0, 0, 3], [127, 0, 0, 4]];
        let names = LoadBalancers::default();
        let lb = LoadBalancer {
            dns_name: "gw.test".into(),
            addresses: addresses.map(Ipv4Addr::from).into(),
            resolves: true,
            ..LoadBalancer::new(("eks-1", 0), ("ns", "svc"), "uid", 0)
        };
        names.put(lb.clone());
        let server = dns::serve(names.clone(), ([127, 0, 0, 1], 0).into(), &mut tasks);
        let server = server.await.unwrap();
        let resolver = Resolver::with_servers(vec![server]).unwrap();
        let port = listen(addresses[0], 0, Some(0x16)).await;
        listen(addresses[1], port, None).await;
        let sni = "outbound_.15012_._.istiod.istio-system.svc.cluster.local";
        let tried = from_here(&resolver, "gw.test", port, sni).await;
        assert!(!tried.reached);
        assert_eq!(tried.says, "2 of 3 addresses take connections, 1 speak TLS");
        assert_eq!(tried.connected, ["127.0.0.2", "127.0.0.3"]);
        assert_eq!(tried.tls, ["127.0.0.2"]);

        names.edit(&lb.name, |lb| lb.resolves = false);
        let tried = from_here(&resolver, "gw.test", port, sni).await;
        assert_eq!((tried.reached, tried.addresses.len()), (false, 0));
        assert!(
            tried.says.contains("gw.test has no address"),
            "{}",
            tried.says
        );
    }
}
