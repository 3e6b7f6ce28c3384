//! The other gateways: tasks of the gateway's own service. Which service that is, its container tells; where the engine
//! does not know the container, as on another node, the gateway's own task does, by its container or its address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use docker_sock::{Network, Task};

use super::select::{Own, is_over};
use crate::provider::Peer;

/// The setting of a gateway that says where it listens.
const ENV_PORT: &str = "port=";

/// Where a gateway listens unless its settings say otherwise.
const DEFAULT_PORT: u16 = 8080;

/// A port for packets that are never sent.
const ANY_PORT: u16 = 9;

/// The service of the gateway's own task: the one with its container, else the one that listens where the gateway does.
/// `local` tells this machine's own address towards another.
pub(super) fn own_service(
    tasks: &[Task],
    own: &Own,
    local: impl Fn(IpAddr) -> Option<IpAddr>,
) -> Option<String> {
    if let Some(task) = tasks.iter().find(|task| is_own(task, own)) {
        return Some(task.service_id.clone());
    }
    own.networks.iter().find_map(|network| {
        let mine = local(tasks.iter().find_map(|task| address_on(task, network))?)?;
        let listens_here = |task: &&Task| {
            address_on(task, network) == Some(mine) && port(task).unwrap_or(DEFAULT_PORT) == own.port
        };
        tasks.iter().find(listens_here).map(|task| task.service_id.clone())
    })
}

/// The tasks of the gateway's own service that may serve calls, without the gateway itself where its container is
/// known.
pub(super) fn peers(tasks: &[Task], own: &Own) -> Vec<Peer> {
    let Some(service) = &own.service else { return Vec::new() };
    let is_other = |task: &&Task| task.service_id == *service && !is_own(task, own) && !is_over(task);
    let peer = |task: &Task| {
        let ip = own.networks.iter().find_map(|network| address_on(task, network))?;
        let address = SocketAddr::new(ip, port(task).unwrap_or(own.port));
        let is_expected =
            task.desired_state == "running" && matches!(task.state.as_str(), "starting" | "running");
        Some(Peer { address, is_expected })
    };
    tasks.iter().filter(is_other).filter_map(peer).collect()
}

fn is_own(task: &Task, own: &Own) -> bool {
    own.container.as_ref().is_some_and(|container| *container == task.container_id)
}

fn address_on(task: &Task, network: &Network) -> Option<IpAddr> {
    task.addresses.iter().find(|address| address.network_id == network.id).map(|address| address.ip)
}

/// The port in a task's own settings.
fn port(task: &Task) -> Option<u16> {
    task.environment.iter().find_map(|entry| entry.strip_prefix(ENV_PORT))?.parse().ok()
}

/// The address of this machine that packets to `other` come from. None is sent.
pub(super) fn local_address(other: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match other {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((other, ANY_PORT)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::swarm::select::tests::{own, task};

    const GATEWAY: &str = "gateway";

    /// A task of the gateway's service, with its port where that is not the usual one.
    fn gateway(state: &str, ip: &str, port: &str) -> Task {
        let environment = if port.is_empty() { Vec::new() } else { vec![format!("port={port}")] };
        Task { environment, ..task(GATEWAY, state, &[("n9", "10.0.9.1"), ("n2", ip)]) }
    }

    fn addresses(tasks: &[Task], own: &Own) -> Vec<String> {
        peers(tasks, own).iter().map(|peer| format!("{} {}", peer.address, peer.is_expected)).collect()
    }

    fn own_of_no_service() -> Own {
        Own { service: None, ..own() }
    }

    #[test]
    fn peers_are_the_other_tasks_of_the_gateways_service() {
        let mut leaving = gateway("running", "10.0.2.7", "");
        leaving.desired_state = "shutdown".to_owned();
        let tasks = [
            Task { container_id: "c1".to_owned(), ..gateway("running", "10.0.2.1", "") },
            Task { container_id: "c2".to_owned(), ..gateway("running", "10.0.2.2", "") },
            gateway("starting", "10.0.2.3", "9000"),
            gateway("pending", "10.0.2.8", ""),
            gateway("failed", "10.0.2.4", ""),
            task("echo", "running", &[("n2", "10.0.2.5")]),
            task(GATEWAY, "running", &[("n9", "10.0.9.6")]),
            leaving,
        ];
        let own = Own { container: Some("c1".to_owned()), ..own() };
        assert_eq!(
            addresses(&tasks, &own),
            ["10.0.2.2:8080 true", "10.0.2.3:9000 true", "10.0.2.8:8080 false", "10.0.2.7:8080 false",]
        );
        let unknown = Own { container: None, ..own };
        assert_eq!(addresses(&tasks, &unknown).len(), 5, "itself too: who asks it notices");
        assert!(peers(&tasks, &Own { service: None, ..unknown }).is_empty());
    }

    #[test]
    fn a_gateway_whose_container_the_engine_does_not_know_finds_its_service_among_the_tasks() {
        let own = own_of_no_service();
        let tasks = [
            task("other", "running", &[("n2", "10.0.2.1")]),
            task("echo", "running", &[("n1", "10.0.1.1"), ("n2", "10.0.2.9")]),
            gateway("running", "10.0.2.2", ""),
        ];
        let found = |address: &str| own_service(&tasks, &own, |_| Some(address.parse().unwrap()));
        assert_eq!(found("10.0.2.2").as_deref(), Some("id-gateway"));
        assert_eq!(found("10.0.3.2"), None);
        assert_eq!(own_service(&tasks, &own, |_| None), None);
        let elsewhere = [Task { container_id: "c1".to_owned(), ..gateway("running", "10.0.2.2", "9000") }];
        let in_container = Own { container: Some("c1".to_owned()), ..own_of_no_service() };
        assert_eq!(own_service(&elsewhere, &in_container, |_| None).as_deref(), Some("id-gateway"));
        let same = [
            gateway("running", "127.0.0.1", "1"),
            Task { service_id: "x".into(), ..gateway("running", "127.0.0.1", "8080") },
        ];
        assert_eq!(own_service(&same, &own, |_| Some("127.0.0.1".parse().unwrap())).as_deref(), Some("x"));
    }

    #[test]
    fn the_own_address_is_the_one_that_others_are_reached_from() {
        let loopback = Ipv4Addr::LOCALHOST.into();
        assert_eq!(local_address(loopback), Some(loopback));
    }
}
