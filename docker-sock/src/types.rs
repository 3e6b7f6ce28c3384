//! The documents of the engine, as far as they are needed here.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::Error;
use crate::json::Document;

/// How many tasks a service has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// So many replicas.
    Replicated(u64),
    /// One on each node.
    Global,
    /// A job, which ends by itself.
    Other,
}

/// A service of the Swarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its id.
    pub id: String,
    /// The version of its spec, for updates.
    pub version: u64,
    /// Its name.
    pub name: String,
    /// Its own labels, not those of its containers.
    pub labels: HashMap<String, String>,
    /// The labels that its containers get.
    pub container_labels: HashMap<String, String>,
    /// How many tasks it has.
    pub mode: Mode,
    /// Ids of its networks; names where it was created with names.
    pub networks: Vec<String>,
    /// The image of its tasks.
    pub image: String,
    /// The program and the arguments of its tasks, as far as these are not the image's own.
    pub command: Vec<String>,
    /// The environment of its tasks, `NAME=value`.
    pub environment: Vec<String>,
    /// The state of its last update, such as `updating` or `completed`; empty before the first.
    pub update_state: String,
}

impl Service {
    pub(crate) fn from_json(document: Document<'_>) -> Result<Service, Error> {
        let mut networks = Vec::new();
        // The networks moved into the task template with API 1.25; old services still have them outside.
        for (list, field) in [
            ("/Spec/TaskTemplate/Networks", "/Target"),
            ("/Spec/Networks", "/Target"),
            ("/Endpoint/VirtualIPs", "/NetworkID"),
        ] {
            for network in document.each(list, |attachment| attachment.needed_text(field))? {
                if !networks.contains(&network) {
                    networks.push(network);
                }
            }
        }
        let mode = match (document.at("/Spec/Mode/Replicated"), document.at("/Spec/Mode/Global")) {
            (Some(_), _) => Mode::Replicated(document.number("/Spec/Mode/Replicated/Replicas")?.unwrap_or(1)),
            (None, Some(_)) => Mode::Global,
            (None, None) => Mode::Other,
        };
        let spec = "/Spec/TaskTemplate/ContainerSpec";
        Ok(Service {
            id: document.needed_text("/ID")?,
            version: document.number("/Version/Index")?.unwrap_or(0),
            name: document.needed_text("/Spec/Name")?,
            labels: document.map("/Spec/Labels")?,
            container_labels: document.map(&format!("{spec}/Labels"))?,
            mode,
            networks,
            image: document.text(&format!("{spec}/Image"))?,
            command: [
                document.each(&format!("{spec}/Command"), |word| word.text(""))?,
                document.each(&format!("{spec}/Args"), |word| word.text(""))?,
            ]
            .concat(),
            environment: document.each(&format!("{spec}/Env"), |entry| entry.text(""))?,
            update_state: document.text("/UpdateStatus/State")?,
        })
    }
}

/// Whether an update in this state, the word of `UpdateStatus`, has ended, or there was none. A word that is not known
/// may be of an update that goes on.
#[must_use]
pub fn is_update_over(state: &str) -> bool {
    matches!(state, "" | "completed" | "rollback_completed")
}

/// A task: one replica of a service, past or present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its id.
    pub id: String,
    /// The version of the Swarm in which it was last changed; a later change has a larger one.
    pub version: u64,
    /// The service it belongs to.
    pub service_id: String,
    /// The node it runs on; empty while it is on none.
    pub node_id: String,
    /// Its number among the replicas; 0 for global services.
    pub slot: u64,
    /// The state that the Swarm wants, such as `running` or `shutdown`.
    pub desired_state: String,
    /// The state that it is in.
    pub state: String,
    /// What went wrong; empty when nothing did.
    pub error: String,
    /// What it is doing, in the engine's words.
    pub message: String,
    /// Its addresses, with the id and name of the network of each.
    pub addresses: Vec<Address>,
    /// Its container; empty while it has none.
    pub container_id: String,
    /// Its environment, `NAME=value`, as its own spec has it: during an update tasks differ.
    pub environment: Vec<String>,
}

/// An address of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The id of the network.
    pub network_id: String,
    /// The name of the network.
    pub network: String,
    /// The address.
    pub ip: IpAddr,
}

impl Address {
    /// The addresses of one attachment.
    fn from_json(attachment: Document<'_>) -> Result<Vec<Address>, Error> {
        let network = attachment.text("/Network/Spec/Name")?;
        let ips = attachment.each("/Addresses", |address| {
            let text = address.needed_text("")?;
            let ip = text.split('/').next().and_then(|ip| ip.parse().ok());
            ip.ok_or_else(|| address.wrong("", "an address such as 10.0.1.5/24"))
        })?;
        if ips.is_empty() {
            return Ok(Vec::new());
        }
        let network_id = attachment.needed_text("/Network/ID")?;
        let address = |ip| Address { network_id: network_id.clone(), network: network.clone(), ip };
        Ok(ips.into_iter().map(address).collect())
    }
}

impl Task {
    pub(crate) fn from_json(document: Document<'_>) -> Result<Task, Error> {
        let addresses = document.each("/NetworksAttachments", Address::from_json)?;
        Ok(Task {
            id: document.needed_text("/ID")?,
            version: document.number("/Version/Index")?.unwrap_or(0),
            service_id: document.text("/ServiceID")?,
            node_id: document.text("/NodeID")?,
            slot: document.number("/Slot")?.unwrap_or(0),
            desired_state: document.text("/DesiredState")?,
            state: document.text("/Status/State")?,
            error: document.text("/Status/Err")?,
            message: document.text("/Status/Message")?,
            addresses: addresses.into_iter().flatten().collect(),
            container_id: document.text("/Status/ContainerStatus/ContainerID")?,
            environment: document.each("/Spec/ContainerSpec/Env", |entry| entry.text(""))?,
        })
    }

    /// Whether it can be called: it runs, and is meant to.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == "running" && self.desired_state == "running"
    }
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `overlay`, `bridge` and so on.
    pub driver: String,
    /// `swarm` or `local`.
    pub scope: String,
    /// Whether it is the network of published ports, to which services belong without meaning to.
    pub is_ingress: bool,
}

impl Network {
    pub(crate) fn from_json(document: Document<'_>) -> Result<Network, Error> {
        let id = if document.at("/Id").is_some() { "/Id" } else { "/ID" };
        Ok(Network {
            id: document.needed_text(id)?,
            name: document.needed_text("/Name")?,
            driver: document.text("/Driver")?,
            scope: document.text("/Scope")?,
            is_ingress: document.flag("/Ingress")?,
        })
    }

    /// Whether services can meet on it.
    #[must_use]
    pub fn is_for_services(&self) -> bool {
        // Engines before 17.05 know the ingress network by its name alone.
        self.scope == "swarm" && !self.is_ingress && self.name != "ingress"
    }
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its name, without the leading slash.
    pub name: String,
    /// Its labels.
    pub labels: HashMap<String, String>,
    /// Ids of the networks it is attached to.
    pub networks: Vec<String>,
}

impl Container {
    pub(crate) fn from_json(document: Document<'_>) -> Result<Container, Error> {
        let mut networks =
            document.each_value("/NetworkSettings/Networks", |network| network.text("/NetworkID"))?;
        networks.retain(|id| !id.is_empty()); // as they are while it does not run
        Ok(Container {
            id: document.needed_text("/Id")?,
            name: document.text("/Name")?.trim_start_matches('/').to_owned(),
            labels: document.map("/Config/Labels")?,
            networks,
        })
    }

    /// The service that it is a task of; `None` for a container of its own.
    #[must_use]
    pub fn service_id(&self) -> Option<&str> {
        self.labels.get("com.docker.swarm.service.id").map(String::as_str)
    }
}

/// The engine's part in a Swarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The version of the engine.
    pub server_version: String,
    /// Its id as a node; empty when it is in no Swarm.
    pub node_id: String,
    /// `active` when it is in a Swarm.
    pub node_state: String,
    /// Whether it is a manager that can be asked.
    pub is_manager: bool,
}

impl Info {
    pub(crate) fn from_json(document: Document<'_>) -> Result<Info, Error> {
        Ok(Info {
            server_version: document.text("/ServerVersion")?,
            node_id: document.text("/Swarm/NodeID")?,
            node_state: document.text("/Swarm/LocalNodeState")?,
            is_manager: document.flag("/Swarm/ControlAvailable")?,
        })
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it happened to: `service`, `node`, `network` and so on.
    pub kind: String,
    /// What happened: `create`, `update`, `remove` and so on.
    pub action: String,
    /// The id of what it happened to.
    pub id: String,
    /// The id of the task whose container it happened to; empty for everything else.
    pub task: String,
    /// The id of the service whose container it happened to; empty for everything else.
    pub service: String,
    /// The id of the container that was connected to a network, or disconnected; empty for everything else.
    pub container: String,
}

impl Event {
    pub(crate) fn from_json(document: Document<'_>) -> Result<Event, Error> {
        Ok(Event {
            kind: document.text("/Type")?,
            action: document.text("/Action")?,
            id: document.text("/Actor/ID")?,
            task: document.text("/Actor/Attributes/com.docker.swarm.task.id")?,
            service: document.text("/Actor/Attributes/com.docker.swarm.service.id")?,
            container: document.text("/Actor/Attributes/container")?,
        })
    }
}
