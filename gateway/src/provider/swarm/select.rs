//! Which services are functions, and where these can be called: from documents to values, without I/O.

use std::net::SocketAddr;
use std::sync::Arc;

use docker_sock::{Mode, Network, Service, Task, is_update_over};

use crate::function::floor;
use crate::function::labels::Labels;
use crate::function::name::{EXPECTED_NAME, FunctionName};
use crate::function::{About, Backend, Known};

/// The gateway's own networks, service, container and port.
pub(super) struct Own {
    /// The networks that the gateway shares with functions.
    pub(super) networks: Vec<Network>,
    /// The id of the gateway's service, if it is one.
    pub(super) service: Option<String>,
    /// The program of that service.
    pub(super) program: Option<Program>,
    /// The id of the gateway's container, if it is in one; perhaps on another node.
    pub(super) container: Option<String>,
    /// The port that the gateway listens on.
    pub(super) port: u16,
}

impl Own {
    pub(super) fn is(&self, service: &str) -> bool {
        self.service.as_deref() == Some(service)
    }
}

/// The program of a service, whatever the version of its image: the image without tag and digest, and the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    image: String,
    command: Vec<String>,
}

impl Program {
    pub(super) fn of(service: &Service) -> Option<Program> {
        let image = service.image.split('@').next().filter(|image| !image.is_empty())?;
        let tag = image.rfind(':').filter(|colon| !image[*colon..].contains('/'));
        let image = tag.map_or(image, |colon| &image[..colon]).to_owned();
        Some(Program { image, command: service.command.clone() })
    }
}

/// Whether a task that does not run yet may be tried.
pub(super) type MayTry<'a> = &'a dyn Fn(&Task) -> bool;

/// What the gateway makes of a service.
pub(super) struct Verdict {
    /// Whether the service is on one of the gateway's networks.
    pub(super) is_near: bool,
    /// The function, of which no task is known yet.
    pub(super) function: Option<Known>,
    /// Mistakes in the service, one line each.
    pub(super) warnings: Vec<String>,
}

/// Judges a service. A function is attached to one of the gateway's networks, is not the gateway itself, no job, and not
/// labelled `function=false`; with `require_label` it is labelled `function=true`.
pub(super) fn judge(service: &Service, own: &Own, require_label: bool) -> Verdict {
    let is_shared =
        |network: &Network| service.networks.iter().any(|id| *id == network.id || *id == network.name);
    let is_near = own.networks.iter().any(is_shared);
    let nothing = |warnings| Verdict { is_near, function: None, warnings };
    if own.is(&service.id) || !is_near {
        return nothing(Vec::new());
    }
    let (labels, warnings) = Labels::from_map(pairs(service));
    if !labels.function.unwrap_or(!require_label) {
        return nothing(Vec::new());
    }
    let other = match service.mode {
        Mode::Other => Some(("it is a job", labels.function == Some(true))),
        _ if labels.function.is_none() && own.program.is_some() && own.program == Program::of(service) => {
            Some(("it is a gateway, by its image; label function=true would make it one", true))
        }
        _ => None,
    };
    if let Some((what, is_told)) = other {
        let warning = is_told.then(|| format!("service {} is no function: {what}", service.name));
        return nothing(warning.into_iter().collect());
    }
    let Some(name) = FunctionName::parse(service.name.as_bytes()) else {
        return nothing(vec![format!("service {} is no function: expected {EXPECTED_NAME}", service.name)]);
    };
    let warnings = warnings.iter().map(|warning| format!("service {name}: {warning}")).collect();
    Verdict { is_near, function: Some(known(name, labels, service)), warnings }
}

/// The labels of a service's containers, then its own: of a repeated one the last counts. In a stack file the former are
/// under `labels`, the latter under `deploy: labels`.
fn pairs(service: &Service) -> impl Iterator<Item = (&str, &str)> {
    let all = service.container_labels.iter().chain(&service.labels);
    all.map(|(name, value)| (name.as_str(), value.as_str()))
}

fn known(name: FunctionName, labels: Labels, service: &Service) -> Known {
    let wanted = match service.mode {
        Mode::Replicated(replicas) => u32::try_from(replicas).unwrap_or(u32::MAX),
        Mode::Global | Mode::Other => 0, // until its tasks are counted
    };
    let process = service.environment.iter().find_map(|entry| entry.strip_prefix("fprocess="));
    let about = About {
        image: service.image.clone(),
        process: process.unwrap_or_default().to_owned(),
        labels: pairs(service).map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    };
    Known {
        name,
        asked: floor::asked(labels.floor, wanted),
        labels,
        about: Arc::new(about),
        endpoints: Vec::new(),
        starting: Vec::new(),
        unhealthy: Vec::new(),
        wanted,
        problem: None,
        is_scalable: matches!(service.mode, Mode::Replicated(_)),
        in_update: Some(&service.update_state).filter(|state| !is_update_over(state)).cloned(),
    }
}

/// Places a function by its tasks that are meant to run: where it can be called, where it may soon be, and why it
/// cannot.
pub(super) fn place(function: &mut Known, tasks: &[Task], own: &Own, may_try: MayTry<'_>) {
    let labels = &function.labels;
    let at = |tasks: &mut dyn Iterator<Item = &Task>| {
        let mut at: Vec<_> = tasks.filter_map(|task| backend(task, labels, own)).collect();
        at.sort_unstable(); // the engine's order changes without a reason
        at
    };
    let mut endpoints = at(&mut tasks.iter().filter(|task| task.is_running()));
    endpoints.dedup_by_key(|endpoint| endpoint.address);
    let is_tried = endpoints.is_empty() && !labels.waits_for_health;
    let starting = at(&mut tasks.iter().filter(|task| is_tried && !is_over(task) && may_try(task)));
    if !function.is_scalable {
        function.wanted = tasks.len() as u32;
        function.asked = floor::asked(labels.floor, function.wanted);
    }
    let trouble = tasks.iter().find(|task| !task.error.is_empty() && !is_over(task));
    function.problem = trouble.filter(|_| endpoints.is_empty()).map(|task| task.error.clone());
    (function.endpoints, function.starting) = (endpoints, starting);
}

/// Whether a task has ended. For a moment it is still meant to run, then another takes its place: a reason
/// to wait, not to refuse calls.
pub(super) fn is_over(task: &Task) -> bool {
    const OVER: [&str; 6] = ["complete", "shutdown", "failed", "rejected", "remove", "orphaned"];
    OVER.contains(&task.state.as_str())
}

/// The task, at its address on the first of the gateway's networks that it is on.
fn backend(task: &Task, labels: &Labels, own: &Own) -> Option<Backend> {
    let on = |network: &Network| task.addresses.iter().find(|address| address.network_id == network.id);
    let address = own.networks.iter().find_map(on)?;
    Some(Backend { address: SocketAddr::new(address.ip, labels.port), task: Some(task.id.as_str().into()) })
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::function::labels::Lock;
    use docker_sock::Address;

    struct Found {
        functions: Vec<Known>,
        warnings: Vec<String>,
    }

    /// The functions among these services, by name, and all warnings.
    fn select(
        services: &[Service],
        tasks: &[Task],
        (own, may_try): (&Own, MayTry<'_>),
        require_label: bool,
    ) -> Found {
        let program = services.iter().find(|service| own.is(&service.id)).and_then(Program::of);
        let (networks, container) = (own.networks.clone(), own.container.clone());
        let own = Own { networks, service: own.service.clone(), program, container, port: own.port };
        let mut found = Found { functions: Vec::new(), warnings: Vec::new() };
        for service in services {
            let verdict = judge(service, &own, require_label);
            found.warnings.extend(verdict.warnings);
            let Some(mut function) = verdict.function else { continue };
            let tasks: Vec<_> = tasks.iter().filter(|task| task.service_id == service.id).cloned().collect();
            place(&mut function, &tasks, &own, may_try);
            found.functions.push(function);
        }
        found.functions.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        found
    }

    pub(in super::super) fn service(name: &str, network: &str, labels: &[(&str, &str)]) -> Service {
        Service {
            id: format!("id-{name}"),
            version: 1,
            name: name.to_owned(),
            labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            container_labels: HashMap::new(),
            mode: Mode::Replicated(2),
            networks: vec![network.to_owned()],
            image: String::new(),
            command: Vec::new(),
            environment: Vec::new(),
            update_state: String::new(),
        }
    }

    pub(in super::super) fn task(service: &str, state: &str, addresses: &[(&str, &str)]) -> Task {
        let address = |(network, ip): &(&str, &str)| Address {
            network_id: (*network).to_owned(),
            network: String::new(),
            ip: ip.parse().unwrap(),
        };
        Task {
            id: String::new(),
            version: 1,
            service_id: format!("id-{service}"),
            node_id: String::new(),
            slot: 0,
            desired_state: "running".to_owned(),
            state: state.to_owned(),
            error: String::new(),
            message: String::new(),
            addresses: addresses.iter().map(address).collect(),
            container_id: String::new(),
            environment: Vec::new(),
        }
    }

    pub(in super::super) fn own() -> Own {
        let network = |id: &str| Network {
            id: id.to_owned(),
            name: format!("name-{id}"),
            driver: "overlay".to_owned(),
            scope: "swarm".to_owned(),
            is_ingress: false,
        };
        let networks = vec![network("n1"), network("n2")];
        Own { networks, service: Some("id-gateway".to_owned()), program: None, container: None, port: 8080 }
    }

    fn addresses(backends: &[Backend]) -> Vec<SocketAddr> {
        backends.iter().map(|backend| backend.address).collect()
    }

    fn names(services: &[Service], require_label: bool) -> Vec<String> {
        let found = select(services, &[], (&own(), &|_| false), require_label);
        found.functions.iter().map(|known| known.name.to_string()).collect()
    }

    #[test]
    fn services_on_a_shared_network_are_functions() {
        let services = [
            service("echo", "n1", &[]),
            service("by-name", "name-n2", &[]),
            service("elsewhere", "n9", &[]),
            service("gateway", "n1", &[]),
            service("not-one", "n1", &[("function", "false")]),
            service("is-one", "n1", &[("function", "true")]),
        ];
        assert_eq!(names(&services, false), ["by-name", "echo", "is-one"]);
        assert_eq!(names(&services, true), ["is-one"]);
    }

    #[test]
    fn labels_of_the_containers_count_where_the_service_has_none() {
        let with = |own: &[(&str, &str)], of_containers: &[(&str, &str)]| {
            let containers = service("", "", of_containers).labels;
            Service { container_labels: containers, ..service("echo", "n1", own) }
        };
        let services = [with(
            &[("com.openfaas.scale.max", "3")],
            &[("com.openfaas.scale.max", "9"), ("faas.port", "9000"), ("function", "true")],
        )];
        let found = select(&services, &[], (&own(), &|_| false), true);
        let echo = &found.functions[0];
        assert_eq!((echo.labels.scale_max, echo.labels.port), (Some(3), 9000));
        let all = [("com.openfaas.scale.max", "3"), ("faas.port", "9000"), ("function", "true")];
        assert_eq!(echo.about.labels, all.map(|(name, value)| (name.into(), value.into())).into());
        assert!(names(&[with(&[], &[("function", "false")])], false).is_empty());
        assert_eq!(names(&[with(&[("function", "true")], &[("function", "false")])], true), ["echo"]);
    }

    #[test]
    fn labels_name_the_secrets_that_functions_ask_for() {
        let secret = |name: &str| Lock::Secret(name.into());
        for (own, of_containers, auth, hmac) in [
            (&[][..], &[][..], Lock::Open, Lock::Open),
            (&[("faas.auth", "users")], &[("faas.hmac", "hook")], secret("users"), secret("hook")),
            (&[("faas.auth", "users")], &[("faas.auth", "others")], secret("users"), Lock::Open),
            (&[("faas.auth", "../users")], &[("faas.hmac", "")], Lock::Closed, Lock::Closed),
            // The service's counts, also where it is the worse of the two.
            (&[("faas.auth", "")], &[("faas.auth", "users")], Lock::Closed, Lock::Open),
        ] {
            let containers = service("", "", of_containers).labels;
            let service = Service { container_labels: containers, ..service("echo", "n1", own) };
            let found = select(&[service], &[], (&self::own(), &|_| false), false);
            let labels = &found.functions[0].labels;
            assert_eq!((&labels.auth, &labels.hmac), (&auth, &hmac), "{own:?} {of_containers:?}");
            let closed = [&auth, &hmac].into_iter().filter(|lock| **lock == Lock::Closed).count();
            assert_eq!(found.warnings.len(), closed, "{:?}", found.warnings);
            for warning in &found.warnings {
                let parts =
                    ["service echo: label faas.", "the name of a secret", "nobody can call the function"];
                assert!(parts.iter().all(|part| warning.contains(part)), "{warning}");
            }
        }
    }

    #[test]
    fn endpoints_are_the_running_tasks_on_a_shared_network() {
        let mut stopping = task("echo", "running", &[("n1", "10.0.1.9")]);
        stopping.desired_state = "shutdown".to_owned();
        let tasks = [
            task("echo", "running", &[("ingress", "10.0.0.5"), ("n2", "10.0.2.5"), ("n1", "10.0.1.6")]),
            task("echo", "running", &[("n2", "10.0.2.4")]),
            task("echo", "starting", &[("n1", "10.0.1.7")]),
            task("echo", "running", &[("n9", "10.0.9.8")]),
            task("other", "running", &[("n1", "10.0.1.1")]),
            stopping,
        ];
        let services = [service("echo", "n1", &[("faas.port", "9000")])];
        let found = select(&services, &tasks, (&own(), &|_| false), false);
        let want: Vec<SocketAddr> = ["10.0.1.6:9000", "10.0.2.4:9000"].map(|a| a.parse().unwrap()).into();
        assert_eq!(addresses(&found.functions[0].endpoints), want);
        assert_eq!((found.functions[0].wanted, &found.functions[0].problem), (2, &None));
    }

    #[test]
    fn why_nothing_runs_is_in_the_engines_words() {
        let mut pending = task("echo", "pending", &[]);
        pending.error = "no suitable node".to_owned();
        let running = task("echo", "running", &[("n1", "10.0.1.1")]);
        let services = [service("echo", "n1", &[])];
        let problem = |tasks: &[Task]| {
            select(&services, tasks, (&own(), &|_| false), false).functions[0].problem.clone()
        };
        assert_eq!(problem(std::slice::from_ref(&pending)).as_deref(), Some("no suitable node"));
        assert_eq!(problem(&[pending, running]), None, "one that runs is enough");
    }

    #[test]
    fn a_task_that_ended_is_no_reason_to_refuse_calls() {
        let mut failed = task("echo", "failed", &[("n1", "10.0.1.1")]);
        failed.error = "task: non-zero exit (137)".to_owned();
        let found = select(&[service("echo", "n1", &[])], &[failed], (&own(), &|_| false), false);
        assert_eq!((found.functions[0].endpoints.len(), &found.functions[0].problem), (0, &None));
    }

    #[test]
    fn tasks_that_start_are_told_where_none_runs_and_they_may_be_tried() {
        let mut tasks = vec![
            task("echo", "starting", &[("n1", "10.0.1.7")]),
            task("echo", "preparing", &[("n1", "10.0.1.8")]),
            task("echo", "failed", &[("n1", "10.0.1.9")]),
        ];
        let services = [service("echo", "n1", &[])];
        let starting = |tasks: &[Task], may_try: MayTry<'_>| {
            addresses(&select(&services, tasks, (&own(), may_try), false).functions[0].starting)
        };
        assert_eq!(starting(&tasks, &|_| false), []);
        let all = starting(&tasks, &|_| true);
        assert_eq!(all, ["10.0.1.7:8080".parse().unwrap(), "10.0.1.8:8080".parse().unwrap()]);
        assert_eq!(starting(&tasks, &|task| task.state == "starting"), all[..1]);
        let patient = [service("echo", "n1", &[("faas.wait", "healthy")])];
        let found = select(&patient, &tasks, (&own(), &|_| true), false);
        assert_eq!(found.functions[0].starting, [], "its health check is waited for");
        tasks.push(task("echo", "running", &[("n1", "10.0.1.6")]));
        assert_eq!(starting(&tasks, &|_| true), []);
    }

    #[test]
    fn global_services_want_a_task_on_each_node() {
        let mut service = service("echo", "n1", &[]);
        service.mode = Mode::Global;
        let tasks =
            [task("echo", "running", &[]), task("echo", "preparing", &[]), task("echo", "running", &[])];
        assert_eq!(select(&[service], &tasks, (&own(), &|_| false), false).functions[0].wanted, 3);
    }

    #[test]
    fn services_that_run_the_gateways_program_are_gateways() {
        let with = |name, image: &str, command: &[&str], labels| Service {
            image: image.to_owned(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            ..service(name, "n1", labels)
        };
        let gateway = with("gateway", "localhost:5000/faas/gateway:1@sha256:01", &[], &[]);
        let services = [
            gateway,
            with("another-version", "localhost:5000/faas/gateway:2", &[], &[]),
            with("no-tag", "localhost:5000/faas/gateway", &[], &[]),
            with("another-command", "localhost:5000/faas/gateway:1", &["fwatchdog"], &[]),
            with("another-image", "localhost:5000/faas/gateway-cat:1", &[], &[]),
            with("asked-for", "localhost:5000/faas/gateway:1", &[], &[("function", "true")]),
        ];
        let found = select(&services, &[], (&own(), &|_| false), false);
        let names: Vec<_> = found.functions.iter().map(|known| known.name.as_str()).collect();
        assert_eq!(names, ["another-command", "another-image", "asked-for"]);
        assert_eq!(found.warnings.len(), 2, "{:?}", found.warnings);
        // Functions have no image in common with a gateway that is no service.
        let alone = Own { service: None, ..own() };
        assert_eq!(select(&services, &[], (&alone, &|_| false), false).functions.len(), 6);
    }

    #[test]
    fn jobs_are_no_functions() {
        let job = |name, labels| Service { mode: Mode::Other, ..service(name, "n1", labels) };
        let services = [job("backup", &[]), job("told", &[("function", "true")]), service("echo", "n1", &[])];
        let found = select(&services, &[], (&own(), &|_| false), false);
        let names: Vec<_> = found.functions.iter().map(|known| known.name.as_str()).collect();
        assert_eq!(names, ["echo"]);
        assert_eq!(found.warnings, ["service told is no function: it is a job"]);
    }

    #[test]
    fn mistakes_are_told_and_do_no_harm() {
        let services = [service("a b", "n1", &[]), service("echo", "n1", &[("faas.port", "http")])];
        let found = select(&services, &[], (&own(), &|_| false), false);
        assert_eq!(found.functions.len(), 1);
        assert_eq!(found.warnings.len(), 2, "{:?}", found.warnings);
    }
}
