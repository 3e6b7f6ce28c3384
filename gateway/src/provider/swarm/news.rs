//! The meaning of an event for the functions. Most events of a busy Swarm mean nothing: its other services start and end
//! tasks too, and each question costs the engine.

use docker_sock::{Event, Network};

/// The kinds and actions that are heard of. There are no events of tasks, but of their containers on the engine's own
/// node: these tell that a task runs, or has died, before the manager hears of it.
pub(super) const KINDS: [&str; 4] = ["service", "network", "node", "container"];
pub(super) const ACTIONS: [&str; 9] =
    ["create", "update", "remove", "destroy", "start", "die", HEALTH, "connect", "disconnect"];

/// How the action begins that tells of a health check; the rest is `: healthy` or `: unhealthy`. It comes when that
/// changes.
const HEALTH: &str = "health_status";

/// How much an event matters, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum News {
    Nothing,
    /// A service may have become a function.
    Perhaps,
    /// Something happens to a function.
    OfFunctions,
    /// The gateway's own networks have changed.
    OfNetworks,
}

/// The things that are known, so that an event about them matters.
pub(super) struct Interests<'a> {
    /// Whether a service of this id is a function, or the gateway's own.
    pub(super) is_ours: &'a dyn Fn(&str) -> bool,
    /// The gateway's networks; `None` while these are not known.
    pub(super) networks: Option<&'a [Network]>,
    /// The id of the gateway's container, if it is in one.
    pub(super) container: Option<&'a str>,
}

impl Interests<'_> {
    pub(super) fn news(&self, event: &Event) -> News {
        match (event.kind.as_str(), event.action.as_str()) {
            ("node", _) => News::OfFunctions,
            ("service", _) if (self.is_ours)(&event.id) => News::OfFunctions,
            ("service", "create" | "update") => News::Perhaps,
            ("container", _) if (self.is_ours)(&event.service) => News::OfFunctions,
            ("network", "connect" | "disconnect") if self.is_own(&event.container) => News::OfNetworks,
            ("network", "connect" | "disconnect") => News::Nothing,
            ("network", _) if self.is_on(&event.id) => News::OfNetworks,
            _ => News::Nothing,
        }
    }

    fn is_own(&self, container: &str) -> bool {
        self.container == Some(container)
    }

    /// Any network may be the missing one.
    fn is_on(&self, network: &str) -> bool {
        self.networks.is_none_or(|networks| networks.iter().any(|one| one.id == network))
    }
}

/// Whether the health check of the event's container has failed or passed; `None` where it is about something else.
pub(super) fn is_unhealthy(event: &Event) -> Option<bool> {
    let status = event.action.strip_prefix(HEALTH)?;
    Some(status.ends_with("unhealthy"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(id: &str) -> Network {
        Network {
            id: id.to_owned(),
            name: format!("name-{id}"),
            driver: "overlay".to_owned(),
            scope: "swarm".to_owned(),
            is_ingress: false,
        }
    }

    /// What `KIND ACTION ID` means, with what else it has under `service` and `container`.
    fn news(text: &str, (service, container): (&str, &str), networks: Option<&[Network]>) -> News {
        let words: Vec<_> = text.split(' ').map(str::to_owned).collect();
        let [kind, action, id] = words.try_into().unwrap();
        let (service, container) = (service.to_owned(), container.to_owned());
        let event = Event { kind, action, id, task: String::new(), service, container };
        Interests { is_ours: &|id| id == "echo", networks, container: Some("me") }.news(&event)
    }

    #[test]
    fn what_happens_to_others_is_no_news() {
        let own = [network("n1"), network("n2")];
        let rows = [
            ("service update echo", ("", ""), News::OfFunctions),
            ("service remove echo", ("", ""), News::OfFunctions),
            ("service create other", ("", ""), News::Perhaps),
            ("service update other", ("", ""), News::Perhaps),
            ("service remove other", ("", ""), News::Nothing),
            ("container start c1", ("echo", ""), News::OfFunctions),
            ("container die c1", ("echo", ""), News::OfFunctions),
            ("container start c2", ("other", ""), News::Nothing),
            ("container die c3", ("", ""), News::Nothing),
            ("node update node", ("", ""), News::OfFunctions),
            ("network connect n9", ("", "me"), News::OfNetworks),
            ("network disconnect n1", ("", "me"), News::OfNetworks),
            ("network connect n1", ("", "other"), News::Nothing),
            ("network connect n1", ("", ""), News::Nothing),
            ("network destroy n1", ("", ""), News::OfNetworks),
            ("network create n9", ("", ""), News::Nothing),
            ("volume create v1", ("", ""), News::Nothing),
        ];
        for (event, of, want) in rows {
            assert_eq!(news(event, of, Some(&own)), want, "{event} {of:?}");
        }
        assert_eq!(news("network create n9", ("", ""), None), News::OfNetworks);
    }
}
