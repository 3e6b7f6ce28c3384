//! A real Docker Swarm for the end-to-end tests: the engine that `tools/with-engine.sh` provides, asked
//! through the `docker` command, so that what the tests know of it shares no code with the product.
//!
//! Services, containers and a stopped engine are guards: dropped, they are removed or set going again.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output};
use std::time::Duration;

use crate::locate::variable;
use crate::updates::UpdateStates;
use crate::{eventually, proc};

/// Process id of dockerd, set when the engine is private to the tests.
const ENV_ENGINE_PID: &str = "FAAS_TEST_ENGINE_PID";

/// The attachable overlay network that functions and gateway share.
pub const NETWORK: &str = "functions";

/// The address of the host, also for containers, where the engine is as on a new host (`FAAS_TEST_ENGINE=bare` of
/// `tools/with-engine.sh`).
pub const HOST_ADDRESS: &str = "192.0.2.1";

/// How long the engine may take over anything: start a task, remove a service, come back after a stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Swarm manager that the tests may use.
pub struct Engine {
    pid: Option<u32>,
}

/// One task of a service, as the engine's manager sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The task's id.
    pub id: String,
    /// What the manager wants: `running`, `shutdown`.
    pub desired: String,
    /// What the task last reported: `starting`, `running`, `complete`, `failed`, …
    pub state: String,
    /// The id of the node that it is on; empty before there is one.
    pub node: String,
    /// The container's id; empty before there is one.
    pub container: String,
    /// Its addresses on all networks, without the prefix length.
    pub addresses: Vec<String>,
    /// Why it failed or waits, in the engine's words; empty when all is well.
    pub error: String,
}

impl Task {
    fn is_running(&self) -> bool {
        self.desired == "running" && self.state == "running"
    }

    /// Nothing of it runs any more, or ever did.
    fn has_ended(&self) -> bool {
        self.node.is_empty()
            || ["complete", "shutdown", "failed", "rejected", "orphaned"].contains(&&*self.state)
    }
}

impl Engine {
    /// The engine that `DOCKER_HOST` names, or the default socket.
    ///
    /// # Panics
    /// When nothing answers, or what answers is no Swarm manager.
    #[must_use]
    #[track_caller]
    pub fn connect() -> Engine {
        let pid = variable(ENV_ENGINE_PID).and_then(|text| text.parse().ok());
        let engine = Engine { pid };
        let manager = engine.docker(&["info", "--format", "{{.Swarm.ControlAvailable}}"]);
        assert_eq!(manager, "true", "the engine is no Swarm manager: run this in tools/with-engine.sh");
        engine
    }

    /// Runs `docker` with `args`; its standard output without white space around it.
    ///
    /// # Panics
    /// When the command fails, with both its streams.
    #[track_caller]
    pub fn docker(&self, args: &[&str]) -> String {
        let output = docker_output(args);
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {args:?}: {}\n{stdout}{stderr}", output.status);
        stdout.trim().to_owned()
    }

    /// Path of the engine's UNIX socket, on this host.
    #[must_use]
    pub fn socket(&self) -> String {
        let host = variable("DOCKER_HOST").unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned());
        host.strip_prefix("unix://").unwrap_or(&host).to_owned()
    }

    /// Begins a service of `image` on the network [`NETWORK`]; see [`NewService::create`].
    #[must_use]
    pub fn service<'a>(&'a self, name: &str, image: &str) -> NewService<'a> {
        NewService {
            engine: self,
            name: name.to_owned(),
            image: image.to_owned(),
            args: Vec::new(),
            has_health_check: true,
        }
    }

    /// The service `name` that somebody else made, removed when this is dropped.
    #[must_use]
    pub fn adopt<'a>(&'a self, name: &str) -> Service<'a> {
        Service { engine: self, name: name.to_owned() }
    }

    /// Kills a container outright, as a crash would.
    #[track_caller]
    pub fn kill_container(&self, id: &str) {
        self.docker(&["kill", "--signal", "KILL", id]);
    }

    /// Whether it was started for the tests, in their own process namespace, and may be stopped.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.pid.is_some()
    }

    /// Stops dockerd (SIGSTOP) until the guard is dropped: it takes connections and answers nothing.
    ///
    /// # Panics
    /// When the engine is not private to the tests.
    #[must_use]
    #[track_caller]
    pub fn pause(&self) -> PausedEngine {
        let pid =
            self.pid.unwrap_or_else(|| panic!("{ENV_ENGINE_PID} is not set: not an engine of ours to stop"));
        assert!(proc::signal(pid, proc::SIGSTOP), "dockerd, process {pid}, is gone");
        // Its threads stop one after the other; until the last has, a call may still be answered.
        eventually(PATIENCE, || match moving_threads(pid) {
            0 => Ok(()),
            count => Err(format!("{count} threads of dockerd still run")),
        });
        PausedEngine { pid }
    }
}

fn docker_output(args: &[&str]) -> Output {
    let output = Command::new("docker").args(args).output();
    output.unwrap_or_else(|error| panic!("docker {args:?}: {error}"))
}

fn moving_threads(pid: u32) -> usize {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stats = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    // The state follows the name, which is in parentheses and may hold any of them.
    stats.filter(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T"))).count()
}

/// A TCP port that nothing listens on at this moment, for a `mode=host` published port. Another process may
/// take it first; the end-to-end tests run one at a time.
///
/// # Panics
/// When the kernel has none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    listener.unwrap_or_else(|error| panic!("no free port: {error}")).port()
}

/// While this lives, dockerd stands still.
pub struct PausedEngine {
    pid: u32,
}

impl Drop for PausedEngine {
    fn drop(&mut self) {
        proc::signal(self.pid, proc::SIGCONT);
    }
}

/// A service that is about to be created.
pub struct NewService<'a> {
    engine: &'a Engine,
    name: String,
    image: String,
    args: Vec<String>,
    has_health_check: bool,
}

impl<'a> NewService<'a> {
    /// One more argument of `docker service create`.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// An environment variable of its containers.
    #[must_use]
    pub fn env(self, name: &str, value: &str) -> Self {
        self.arg(format!("--env={name}={value}"))
    }

    /// No health check, whatever the image says.
    #[must_use]
    pub fn without_health_check(mut self) -> Self {
        self.has_health_check = false;
        self.arg("--no-healthcheck")
    }

    /// How many tasks; one unless said.
    #[must_use]
    pub fn replicas(self, count: usize) -> Self {
        self.arg(format!("--replicas={count}"))
    }

    /// So many tasks, which no gateway changes.
    #[must_use]
    pub fn fixed(self, count: usize) -> Self {
        self.replicas(count).label("com.openfaas.scale.factor", "0")
    }

    /// A label of the service itself.
    #[must_use]
    pub fn label(self, name: &str, value: &str) -> Self {
        self.arg(format!("--label={name}={value}"))
    }

    /// Creates it and returns at once; [`Service::wait_running`] waits for the tasks.
    ///
    /// # Panics
    /// When the engine refuses.
    #[track_caller]
    pub fn create(self) -> Service<'a> {
        let network = format!("--network={NETWORK}");
        let mut args =
            vec!["service", "create", "--detach", "--no-resolve-image", &network, "--name", &self.name];
        // A task counts as running after its first probe: that may come at once here.
        if self.has_health_check {
            args.push("--health-interval=500ms");
        }
        args.extend(self.args.iter().map(String::as_str));
        args.push(&self.image);
        self.engine.docker(&args);
        Service { engine: self.engine, name: self.name }
    }
}

/// A service of the tests' own. Dropped, it is removed, and its containers are gone when that returns.
pub struct Service<'a> {
    engine: &'a Engine,
    name: String,
}

impl Service<'_> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every task that the manager still remembers, ended ones too.
    ///
    /// # Panics
    /// When the engine does not answer, or not in the way it should.
    #[must_use]
    #[track_caller]
    pub fn tasks(&self) -> Vec<Task> {
        let ids = self.engine.docker(&["service", "ps", "--quiet", "--no-trunc", &self.name]);
        ids.lines().filter_map(|id| self.task(id)).collect()
    }

    /// `None` when the task was forgotten since it was listed.
    fn task(&self, id: &str) -> Option<Task> {
        let format = "{{.DesiredState}}|{{.Status.State}}|{{.NodeID}}|{{with .Status.ContainerStatus}}{{.ContainerID}}{{end}}|\
            {{range .NetworksAttachments}}{{range .Addresses}}{{.}} {{end}}{{end}}|{{.Status.Err}}";
        let output = docker_output(&["inspect", "--type", "task", "--format", format, id]);
        let line = String::from_utf8_lossy(&output.stdout);
        let mut fields = line.trim_end().splitn(6, '|').map(str::to_owned);
        let mut next = || fields.next();
        let (desired, state, node, container) = (next()?, next()?, next()?, next()?);
        let addresses = next()?
            .split_whitespace()
            .map(|address| address.split('/').next().unwrap_or(address).to_owned())
            .collect();
        Some(Task { id: id.to_owned(), desired, state, node, container, addresses, error: next()? })
    }

    /// Waits until exactly `count` tasks run and the manager wants no other, and returns them.
    ///
    /// # Panics
    /// When that does not come true within a minute, with the tasks as they are.
    #[track_caller]
    pub fn wait_running(&self, count: usize) -> Vec<Task> {
        eventually(PATIENCE, || {
            let tasks: Vec<Task> =
                self.tasks().into_iter().filter(|task| task.desired == "running").collect();
            if tasks.len() == count && tasks.iter().all(Task::is_running) {
                return Ok(tasks);
            }
            Err(format!("service {}: {count} running tasks wanted, got {tasks:#?}", self.name))
        })
    }

    /// As [`Service::wait_running`], and until the tasks that are not wanted any more have ended.
    ///
    /// # Panics
    /// When that does not come true within a minute.
    #[track_caller]
    pub fn wait_settled(&self, count: usize) -> Vec<Task> {
        self.wait_running(count);
        eventually(PATIENCE, || {
            let (running, others): (Vec<Task>, Vec<Task>) =
                self.tasks().into_iter().partition(|task| task.desired == "running");
            if running.len() == count
                && running.iter().all(Task::is_running)
                && others.iter().all(Task::has_ended)
            {
                return Ok(running);
            }
            Err(format!("service {}: {count} tasks and no other wanted, got {others:#?}", self.name))
        })
    }

    /// Runs `docker service VERB` on it, `update` or `rollback`, and waits until the engine calls it `done`.
    ///
    /// # Panics
    /// When the engine refuses, or does not within a minute.
    #[track_caller]
    pub fn roll(&self, verb: &str, args: &[&str], done: &str) {
        let states = self.update_states();
        let begin = ["service", verb, "--detach"];
        self.engine.docker(&[&begin, args, &[&self.name]].concat());
        states.wait(done, PATIENCE);
    }

    /// The states of its updates from now on.
    #[must_use]
    pub fn update_states(&self) -> UpdateStates {
        UpdateStates::of(&self.name)
    }

    /// Asks for `count` tasks and returns at once.
    #[track_caller]
    pub fn scale(&self, count: usize) {
        self.engine.docker(&["service", "scale", "--detach", &format!("{}={count}", self.name)]);
    }

    /// What its containers wrote, both streams together.
    #[must_use]
    pub fn logs(&self) -> String {
        let output = docker_output(&["service", "logs", "--raw", &self.name]);
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// Asks for its removal and returns at once.
    pub fn remove(&self) {
        docker_output(&["service", "rm", &self.name]);
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // No check here: a second panic would end the test process.
            let tasks = docker_output(&["service", "ps", "--no-trunc", &self.name]);
            eprintln!(
                "--- service {}\n{}\n{}",
                self.name,
                String::from_utf8_lossy(&tasks.stdout),
                self.logs()
            );
            return self.remove();
        }
        self.remove();
        let filter = format!("label=com.docker.swarm.service.name={}", self.name);
        eventually(PATIENCE, || match self.engine.docker(&["ps", "--quiet", "--filter", &filter]) {
            left if left.is_empty() => Ok(()),
            left => Err(format!("containers of {} are left: {left}", self.name)),
        });
    }
}
