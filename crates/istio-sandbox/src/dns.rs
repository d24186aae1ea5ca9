//! The name server of the embedded world: knows the load balancers and nothing else.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, SOA},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};

use super::world::LoadBalancers;

/// How long an answer may be kept, found or not found.
const TTL: u32 = 1;
/// How long a TCP client may be silent.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves UDP and TCP on one address until the task is dropped. The port may be 0.
pub async fn serve(
    names: LoadBalancers,
    at: SocketAddr,
    tasks: &mut JoinSet<()>,
) -> std::io::Result<SocketAddr> {
    let tcp = TcpListener::bind(at).await?;
    let at = tcp.local_addr()?;
    let udp = UdpSocket::bind(at).await?;
    tasks.spawn(serve_udp(names.clone(), udp));
    tasks.spawn(serve_tcp(names, tcp));
    Ok(at)
}

async fn serve_udp(names: LoadBalancers, socket: UdpSocket) {
    let mut buffer = [0; 1232];
    while let Ok((n, from)) = socket.recv_from(&mut buffer).await {
        if let Some(reply) = reply(&names, &buffer[..n]) {
            let _ = socket.send_to(&reply, from).await;
        }
    }
}

async fn serve_tcp(names: LoadBalancers, listener: TcpListener) {
    let names = Arc::new(names);
    let mut clients = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        clients.spawn(tokio::time::timeout(
            PATIENCE,
            tcp_client(names.clone(), stream),
        ));
        while clients.try_join_next().is_some() {}
    }
}

async fn tcp_client(names: Arc<LoadBalancers>, mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut query = vec![0; length.into()];
        stream.read_exact(&mut query).await?;
        let Some(reply) = reply(&names, &query) else {
            return Ok(());
        };
        stream
            .write_u16(u16::try_from(reply.len()).unwrap_or(u16::MAX))
            .await?;
        stream.write_all(&reply).await?;
    }
}

/// The answer to one query; nothing for what is no DNS message.
fn reply(names: &LoadBalancers, query: &[u8]) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    let question = query.queries.first()?.clone();
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.authoritative = true;
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.add_query(question.clone());
    let name = question.name();
    match names.resolve(&name.to_ascii()) {
        Some(found) if question.query_type() == RecordType::A => {
            reply.add_answers(found.into_iter().map(|ip| address(name, ip)));
        }
        Some(_) => {
            reply.add_authority(authority()?);
        }
        None => {
            reply.metadata.response_code = ResponseCode::NXDomain;
            reply.add_authority(authority()?);
        }
    }
    reply.to_vec().ok()
}

fn address(name: &Name, ip: Ipv4Addr) -> Record {
    Record::from_rdata(name.clone(), TTL, RData::A(A(ip)))
}

/// Says for how long a "no" holds.
fn authority() -> Option<Record> {
    let zone = Name::from_ascii("amazonaws.com.").ok()?;
    let host = Name::from_ascii("ns.amazonaws.com.").ok()?;
    let soa = SOA::new(host.clone(), host, 1, 60, 60, 60, TTL);
    Some(Record::from_rdata(zone, TTL, RData::SOA(soa)))
}

#[cfg(test)]
mod tests {
    use hickory_resolver::{
        TokioResolver,
        config::{ConnectionConfig, NameServerConfig, ResolverConfig},
        net::runtime::TokioRuntimeProvider,
    };

    use super::{super::world::LoadBalancer, *};

    async fn resolver(at: SocketAddr, tcp: bool) -> TokioResolver {
        let mut how = if tcp {
            ConnectionConfig::tcp()
        } else {
            ConnectionConfig::udp()
        };
        how.port = at.port();
        let server = NameServerConfig::new(at.ip(), true, vec![how]);
        let config = ResolverConfig::from_parts(None, vec![], vec![server]);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .build()
            .unwrap()
    }

    #[tokio::test]
    async fn a_real_resolver_gets_addresses_or_a_clear_no() {
        let names = LoadBalancers::default();
        let lb = LoadBalancer::new(("eks-1", 0), ("ns", "svc"), "uid", 0);
        names.put(LoadBalancer {
            resolves: true,
            ..lb.clone()
        });
        let mut tasks = JoinSet::new();
        let at = serve(names, ([127, 0, 0, 1], 0).into(), &mut tasks)
            .await
            .unwrap();
        for tcp in [false, true] {
            let resolver = resolver(at, tcp).await;
            let found = resolver
                .ipv4_lookup(format!("{}.", lb.dns_name))
                .await
                .unwrap();
            let found: Vec<Ipv4Addr> = found
                .answers()
                .iter()
                .filter_map(|r| match r.data {
                    RData::A(a) => Some(a.0),
                    _ => None,
                })
                .collect();
            assert_eq!(found, lb.addresses);
            let no = resolver
                .ipv4_lookup("nothing.elb.us-west-2.amazonaws.com.")
                .await
                .unwrap_err();
            assert!(no.is_nx_domain(), "{no:?}");
            let no = resolver
                .ipv6_lookup(format!("{}.", lb.dns_name))
                .await
                .unwrap_err();
            assert!(no.is_no_records_found() && !no.is_nx_domain(), "{no:?}");
        }
    }
}
