//! What the gateway is itself: its networks, its service and its container.

use docker_sock::{Container, Engine, Network, Service};

use super::select::{Own, Program};
use super::{Error, Settings};

/// Asks the engine for the networks and the service of the gateway itself.
pub(super) fn own(engine: &Engine, settings: &Settings, known: Option<&Own>) -> Result<Own, Error> {
    let own_id = docker_sock::own_container_id();
    let container = match &own_id {
        Some(id) => match engine.container(id) {
            Ok(container) => Some(container),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        },
        None => None,
    };
    let service = container.as_ref().and_then(|container| container.service_id()).map(str::to_owned);
    // The engine does not know a container on another node; the gateway's own task tells the service then, once.
    let service = service.or_else(|| known?.service.clone());
    let networks = shared(engine.networks()?, container.as_ref(), settings.functions_network.as_deref())?;
    let program = service.as_deref().map_or(Ok(None), |id| program(engine, id))?;
    Ok(Own { networks, service, program, container: own_id, port: settings.port })
}

/// The program of the gateway's own service.
pub(super) fn program(engine: &Engine, service: &str) -> Result<Option<Program>, Error> {
    let mut program = None;
    let mut read = |found: Service| {
        if found.id == service {
            program = Program::of(&found);
        }
    };
    engine.each_service(&[service], &mut read)?;
    Ok(program)
}

/// The networks that functions are on: that of the setting, else those of the gateway's container.
fn shared(
    all: Vec<Network>,
    container: Option<&Container>,
    setting: Option<&str>,
) -> Result<Vec<Network>, Error> {
    let of_swarm = all.into_iter().filter(Network::is_for_services);
    let (networks, missing): (Vec<_>, Error) = match (setting, container) {
        (Some(name), _) => {
            let is_meant = |network: &Network| network.name == *name || network.id == *name;
            (of_swarm.filter(is_meant).collect(), Error::NotSwarmNetwork(name.to_owned()))
        }
        (None, Some(container)) => {
            let is_on = |network: &Network| container.networks.contains(&network.id);
            (of_swarm.filter(is_on).collect(), Error::NoNetwork)
        }
        (None, None) => return Err(Error::NoContainer),
    };
    if networks.is_empty() { Err(missing) } else { Ok(networks) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn network(id: &str, scope: &str) -> Network {
        Network {
            id: id.to_owned(),
            name: format!("name-{id}"),
            driver: "overlay".to_owned(),
            scope: scope.to_owned(),
            is_ingress: false,
        }
    }

    fn container(networks: &[&str]) -> Container {
        let networks = networks.iter().map(|id| (*id).to_owned()).collect();
        Container { id: "me".to_owned(), name: String::new(), labels: HashMap::new(), networks }
    }

    #[test]
    fn functions_are_on_the_networks_of_the_setting_or_of_the_container() {
        let all = || vec![network("n1", "swarm"), network("n2", "swarm"), network("host", "local")];
        let found = |container: Option<&Container>, setting| {
            let found = shared(all(), container, setting).map_err(|error| error.to_string())?;
            Ok::<_, String>(found.into_iter().map(|network| network.id).collect::<Vec<_>>())
        };
        let ids = |ids: &[&str]| Ok(ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>());
        let on = |networks: &[&str]| container(networks);
        assert_eq!(found(Some(&on(&["host", "n2"])), None), ids(&["n2"]));
        assert_eq!(found(Some(&on(&["n2"])), Some("name-n1")), ids(&["n1"]));
        assert_eq!(found(None, Some("n1")), ids(&["n1"]));
        for (container, setting, part) in [
            (Some(&on(&["host"])), None, "is on no network of the Swarm"),
            (Some(&on(&[])), None, "network connect"),
            (Some(&on(&["n1"])), Some("name-n9"), "`name-n9` is not a network of the Swarm"),
            (None, Some("host"), "`host` is not a network of the Swarm"),
            (None, None, "set functions_network"),
        ] {
            let error = found(container, setting).unwrap_err();
            assert!(error.contains(part), "{part} in {error}");
        }
    }
}
