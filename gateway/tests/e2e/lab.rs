//! A gateway on the Swarm, functions made of the project's images, and a go-between to the engine's socket
//! that counts what passes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use testkit::engine::{Engine, NewService, Service, Task, free_port};
use testkit::http::{self, Client, Request};
use testkit::metrics::Metrics;
use testkit::{Reply, eventually};

/// Answers with the body that it is sent.
pub(crate) const CAT: &str = "localhost/faas/catservice";

/// fwatchdog with a shell, made by [`shell_image`].
pub(crate) const SHELL: &str = "faas-test/shell";

/// Where the gateway's container sees the engine's socket.
const SOCKET: &str = "/var/run/docker.sock";

/// How long the engine may take for anything that a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A gateway as a service, with its port published on this host.
pub(crate) struct Gateway<'a> {
    pub(crate) service: Service<'a>,
    pub(crate) task: Task,
    pub(crate) address: SocketAddr,
}

impl<'a> Gateway<'a> {
    /// A gateway that talks to the engine itself.
    #[track_caller]
    pub(crate) fn start(engine: &'a Engine, name: &str) -> Gateway<'a> {
        Gateway::start_with(engine, name, Path::new(&engine.socket()), |service| service)
    }

    /// A gateway that talks to the engine over `socket`, with more arguments; healthy when this returns.
    #[track_caller]
    pub(crate) fn start_with(
        engine: &'a Engine,
        name: &str,
        socket: &Path,
        with: impl FnOnce(NewService<'a>) -> NewService<'a>,
    ) -> Gateway<'a> {
        let port = free_port();
        let mount = format!("--mount=type=bind,source={},target={SOCKET},readonly", socket.display());
        let service = engine
            .service(name, "localhost/faas/gateway")
            .arg(format!("--publish=mode=host,target=8080,published={port}"))
            .arg(mount)
            .arg("--constraint=node.role==manager")
            .env("provider", "swarm")
            .env("log", "debug");
        let service = with(service).create();
        let task = service.wait_running(1).remove(0);
        let gateway = Gateway { service, task, address: SocketAddr::from(([127, 0, 0, 1], port)) };
        gateway.wait_health("ok");
        gateway
    }

    /// A request to it, over a connection of its own.
    pub(crate) fn request(&self) -> Request<'static> {
        http::request(self.address)
    }

    /// A client that keeps its connection.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// `POST /function/NAME` with a body.
    #[track_caller]
    pub(crate) fn call(&self, function: &str, body: &str) -> Reply {
        let path = format!("/function/{function}");
        let request = self.request().method("POST").path(path).body(body);
        request.send().unwrap_or_else(|error| panic!("POST {function}: {error}"))
    }

    /// Calls a function until it answers 200.
    #[track_caller]
    pub(crate) fn wait_callable(&self, function: &str) {
        eventually(PATIENCE, || match self.call(function, "ready?") {
            reply if reply.status == 200 => Ok(()),
            reply => Err(format!("{function} answers {}: {}", reply.status, reply.text())),
        });
    }

    #[track_caller]
    pub(crate) fn health(&self) -> String {
        let reply = self.request().path("/healthz").send();
        let reply = reply.unwrap_or_else(|error| panic!("/healthz: {error}"));
        format!("{} {}", reply.status, reply.text())
    }

    /// Waits until `/healthz` is a 200 that begins with `text`, and tells how long that took.
    #[track_caller]
    pub(crate) fn wait_health(&self, text: &str) -> Duration {
        let started = Instant::now();
        eventually(PATIENCE, || match self.request().path("/healthz").send() {
            Ok(reply) if reply.status == 200 && reply.text().starts_with(text) => Ok(()),
            Ok(reply) => Err(format!("/healthz: {} {}", reply.status, reply.text())),
            Err(error) => Err(format!("/healthz: {error}")),
        });
        started.elapsed()
    }

    #[track_caller]
    pub(crate) fn metrics(&self) -> Metrics {
        let reply = self.request().path("/metrics").send();
        Metrics::read(&reply.unwrap_or_else(|error| panic!("/metrics: {error}")).text())
    }
}

/// Two gateways as tasks of one service, each on a port of this host that the engine chooses.
pub(crate) struct Pair<'a> {
    engine: &'a Engine,
    pub(crate) service: Service<'a>,
}

impl<'a> Pair<'a> {
    /// Both run when this returns.
    #[track_caller]
    pub(crate) fn start(engine: &'a Engine, name: &str) -> Pair<'a> {
        let service = engine
            .service(name, "localhost/faas/gateway")
            .replicas(2)
            .arg("--publish=mode=host,target=8080")
            .arg(format!("--mount=type=bind,source={},target={SOCKET},readonly", engine.socket()))
            .arg("--constraint=node.role==manager")
            .arg("--restart-delay=200ms")
            .env("provider", "swarm")
            .create();
        service.wait_running(2);
        Pair { engine, service }
    }

    /// Where they listen, in an order that stays as long as both run.
    #[track_caller]
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.tasks().iter().map(|task| self.address(task)).collect()
    }

    /// Kills one of them outright. Another one runs when this returns.
    #[track_caller]
    pub(crate) fn kill(&self, number: usize) {
        let task = self.tasks().swap_remove(number);
        self.engine.kill_container(&task.container);
        eventually(PATIENCE, || match self.service.tasks().iter().find(|other| other.id == task.id) {
            Some(task) if task.state == "running" => Err(format!("{task:?}")),
            _ => Ok(()),
        });
        self.service.wait_running(2);
    }

    /// Calls a function through the gateway at this address until it answers 200.
    #[track_caller]
    pub(crate) fn wait_callable(&self, address: SocketAddr, function: &str) {
        let path = format!("/function/{function}");
        eventually(PATIENCE, || match http::request(address).path(&path).send() {
            Ok(reply) if reply.status == 200 => Ok(()),
            Ok(reply) => Err(format!("{function} answers {}: {}", reply.status, reply.text())),
            Err(error) => Err(error.to_string()),
        });
    }

    fn tasks(&self) -> Vec<Task> {
        let mut tasks = self.service.wait_running(2);
        tasks.sort_by(|a, b| a.id.cmp(&b.id));
        tasks
    }

    fn address(&self, task: &Task) -> SocketAddr {
        let format = r#"--format={{(index (index .NetworkSettings.Ports "8080/tcp") 0).HostPort}}"#;
        let port = self.engine.docker(&["inspect", format, &task.container]);
        SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port")))
    }
}

/// Asks for the removal of services at once; then the drop of each has little left to wait for. Docker takes
/// some three seconds over each before it tells the container to end.
pub(crate) fn remove(services: &[&Service<'_>]) {
    services.iter().for_each(|service| service.remove());
}

/// The number of the group that may use a socket.
pub(crate) fn group_of(socket: &Path) -> String {
    let output = Command::new("stat").args(["-c", "%g"]).arg(socket).output().expect("stat runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A function of `localhost/faas/catservice` whose tasks run soon after they started.
pub(crate) fn cat<'a>(engine: &'a Engine, name: &str) -> NewService<'a> {
    engine.service(name, CAT).arg("--health-interval=200ms")
}

/// A function whose process is `script`, run by a shell.
pub(crate) fn shell<'a>(engine: &'a Engine, name: &str, script: &str) -> NewService<'a> {
    shell_image(engine);
    assert!(!script.contains('\''), "the script is put between single quotes: {script}");
    engine.service(name, SHELL).env("fprocess", &format!("sh -c '{script}'")).arg("--health-interval=200ms")
}

/// Builds the image from what this host has: Debian's static busybox, under the names of its programs.
pub(crate) fn shell_image(engine: &Engine) {
    static IS_BUILT: Mutex<bool> = Mutex::new(false);
    let mut is_built = IS_BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if *is_built {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory for the image");
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).expect("a directory in it");
    std::fs::copy("/bin/busybox", bin.join("busybox")).expect("the package busybox-static is installed");
    for name in ["sh", "cat", "sleep"] {
        std::os::unix::fs::symlink("busybox", bin.join(name)).expect("a symbolic link");
    }
    let file = dir.path().join("Dockerfile");
    std::fs::write(&file, "FROM localhost/faas/fwatchdog\nCOPY bin /bin\n").expect("a Dockerfile");
    let context = dir.path().to_string_lossy().into_owned();
    engine.docker(&["build", "--quiet", "--tag", SHELL, &context]);
    *is_built = true;
}

/// A directory that functions, which run as nobody, can write to; mounted at `/shared`.
pub(crate) fn shared_dir() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a directory to share");
    let everybody = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(dir.path(), everybody).expect("its permissions");
    let mount = format!("--mount=type=bind,source={},target=/shared", dir.path().display());
    (dir, mount)
}

/// Hands on what comes over a socket of its own to the engine's, and counts requests by how they begin.
pub(crate) struct Between {
    path: PathBuf,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

#[derive(Default)]
struct Counts {
    services: AtomicUsize,
    tasks: AtomicUsize,
    is_stopping: AtomicBool,
}

impl Between {
    #[track_caller]
    pub(crate) fn start(engine: &Engine) -> Between {
        let dir = tempfile::tempdir().expect("a directory for the socket");
        let path = dir.path().join("docker.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        let everybody = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&path, everybody.clone()).expect("its permissions");
        std::fs::set_permissions(dir.path(), everybody).expect("its directory's permissions");
        let (counts, engine) = (Arc::new(Counts::default()), engine.socket());
        let shared = Arc::clone(&counts);
        let thread = std::thread::spawn(move || accept(&listener, &engine, &shared));
        Between { path, counts, thread: Some(thread), _dir: dir }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How often the services were asked for, and the tasks.
    pub(crate) fn looks(&self) -> (usize, usize) {
        (self.counts.services.load(Ordering::Relaxed), self.counts.tasks.load(Ordering::Relaxed))
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.counts.is_stopping.store(true, Ordering::Relaxed);
        let _ = UnixStream::connect(&self.path); // wakes the thread
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // its panic shows in what the test misses
        }
    }
}

/// Connections end with the gateway, which every test removes before this; their threads with them.
fn accept(listener: &UnixListener, engine: &str, counts: &Arc<Counts>) {
    for client in listener.incoming() {
        if counts.is_stopping.load(Ordering::Relaxed) {
            return;
        }
        let (Ok(client), Ok(engine)) = (client, UnixStream::connect(engine)) else { continue };
        let (Ok(from_engine), Ok(to_client)) = (engine.try_clone(), client.try_clone()) else { continue };
        let counts = Arc::clone(counts);
        std::thread::spawn(move || hand_on(&client, &engine, |piece| counts.count(piece)));
        std::thread::spawn(move || hand_on(&from_engine, &to_client, |_| {}));
    }
}

fn hand_on(mut from: &UnixStream, mut to: &UnixStream, seen: impl Fn(&[u8])) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(size @ 1..) = from.read(&mut buffer) {
        seen(&buffer[..size]);
        if to.write_all(&buffer[..size]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)); // perhaps closed already
}

impl Counts {
    /// The gateway's requests are small and have no body, so that each comes in one piece.
    fn count(&self, piece: &[u8]) {
        let head = String::from_utf8_lossy(piece);
        let path = head.split(' ').nth(1).unwrap_or_default();
        if path.contains("/services") {
            self.services.fetch_add(1, Ordering::Relaxed);
        } else if path.contains("/tasks") {
            self.tasks.fetch_add(1, Ordering::Relaxed);
        }
    }
}
