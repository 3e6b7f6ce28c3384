//! The stack as its users deploy it: that all of it runs, that the calls of the first README work on it, that its
//! Prometheus sees the gateway and answers the dashboard, and that what cannot run is told.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::Value;
use testkit::engine::{Engine, free_port};
use testkit::{Bin, Output, Peer, Script, eventually, http};

use crate::dashboard;

/// How long the stack may take: its images are there, each task runs after its first health check.
const DEPLOY_TIME: Duration = Duration::from_secs(120);

/// From a fact to what Prometheus says of it: it looks every five seconds.
const SCRAPE_TIME: Duration = Duration::from_secs(60);

/// A whole answer of the hub.
const HUB: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"count\":99}";

/// Every service of the stack, all of which are functions but the first two.
const SERVICES: [&str; 10] = [
    "gateway",
    "prometheus",
    "catservice",
    "hello-python",
    "hostname-intent",
    "hubstats",
    "nodeinfo",
    "resize",
    "webhookstash",
    "wordcount",
];

/// The stack `func`, removed when dropped.
struct Stack<'a> {
    engine: &'a Engine,
    port: u16,
    prometheus_port: u16,
    hub: String,
    /// The home of who deploys it.
    home: tempfile::TempDir,
    _hub: Peer,
}

impl<'a> Stack<'a> {
    fn new(engine: &'a Engine) -> Stack<'a> {
        let gateway = "{{(index .IPAM.Config 0).Gateway}}";
        let host = engine.docker(&["network", "inspect", "--format", gateway, "docker_gwbridge"]);
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port for the hub");
        let port = listener.local_addr().expect("bound").port();
        let hub = Peer::on(listener, vec![Script::new().request().send(HUB).repeat()]);
        Stack {
            engine,
            port: free_port(),
            prometheus_port: free_port(),
            hub: format!("http://{host}:{port}"),
            home: tempfile::tempdir().expect("a home"),
            _hub: hub,
        }
    }

    /// Runs `./deploy_stack.sh` and returns how it ended.
    fn deploy(&self, settings: &[(&str, &str)]) -> Output {
        let mut bin = script("deploy_stack.sh")
            .env("FAAS_PORT", self.port.to_string())
            .env("FAAS_PROMETHEUS_PORT", self.prometheus_port.to_string())
            .env("FAAS_HUB_URL", &self.hub)
            .env("HOME", self.home.path());
        for (name, value) in settings {
            bin = bin.env(name, value);
        }
        run(bin)
    }

    /// `POST /function/func_NAME`; the answer's text.
    #[track_caller]
    fn call(&self, name: &str, body: &str) -> String {
        let path = format!("/function/func_{name}");
        let reply = http::request(self.address()).method("POST").path(path).body(body).send();
        let reply = reply.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(reply.status, 200, "{name}: {}", reply.text());
        reply.text()
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// What Prometheus answers to an expression.
    fn ask(&self, expr: &str) -> Result<Vec<Value>, String> {
        let path = format!("/api/v1/query?query={}", encode(expr));
        let reply =
            http::request(SocketAddr::from((Ipv4Addr::LOCALHOST, self.prometheus_port))).path(path).send();
        let reply = reply.map_err(|error| format!("{expr}: {error}"))?;
        let answer: Value =
            serde_json::from_slice(&reply.body).map_err(|error| format!("{expr}: {error}"))?;
        match answer["data"]["result"].as_array() {
            Some(results) => Ok(results.clone()),
            None => Err(format!("{expr}: {answer}")),
        }
    }

    /// Waits until an expression has this many results.
    #[track_caller]
    fn eventually_has(&self, expr: &str, count: usize) -> Vec<Value> {
        eventually(SCRAPE_TIME, || match self.ask(expr)? {
            results if results.len() == count => Ok(results),
            results => Err(format!("{expr}: {count} results wanted, got {results:?}")),
        })
    }

    /// The container of a service's only task.
    #[track_caller]
    fn container(&self, name: &str) -> String {
        let filter = format!("label=com.docker.swarm.service.name=func_{name}");
        let containers = self.engine.docker(&["ps", "--quiet", "--filter", &filter]);
        assert_eq!(containers.lines().count(), 1, "{name}: {containers}");
        containers
    }
}

impl Drop for Stack<'_> {
    fn drop(&mut self) {
        let removed = run(script("remove_stack.sh"));
        if !std::thread::panicking() {
            assert_eq!(removed.code(), 0, "{}{}", removed.stdout, removed.stderr);
            let left =
                self.engine.docker(&["ps", "--all", "--filter", "label=com.docker.stack.namespace=func"]);
            assert_eq!(left.lines().count(), 1, "{left}");
        }
    }
}

/// A script of the project's root, which talks to the engine of the tests.
fn script(name: &str) -> Bin {
    let root = testkit::workspace();
    let bin = Bin::at(root.join(name)).cwd(root);
    let bin = bin.env("DOCKER_HOST", testkit::variable("DOCKER_HOST").expect("an engine of the tests' own"));
    match testkit::variable("DOCKER_CONFIG") {
        Some(config) => bin.env("DOCKER_CONFIG", config),
        None => bin,
    }
}

#[track_caller]
fn run(bin: Bin) -> Output {
    let process = bin.spawn();
    let started = std::time::Instant::now();
    let status = process.wait(DEPLOY_TIME);
    Output { status, stdout: process.stdout(), stderr: process.log(), elapsed: started.elapsed() }
}

fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn the_stack_is_deployed_called_watched_and_removed() {
    let engine = Engine::connect();
    if !engine.is_private() {
        eprintln!("skipped: a stack `func` would be deployed on an engine that is not the tests' own");
        return;
    }
    let stack = Stack::new(&engine);
    all_runs(&stack);
    a_password_is_made_and_asked_for(&stack);
    every_service_is_confined(&stack);
    the_calls_of_the_first_readme_work(&stack);
    functions_are_small(&engine);
    prometheus_sees_the_gateway(&stack);
    what_cannot_run_is_told(&stack);
    what_starts_again_and_again_does_not_count(&stack);
    a_port_that_is_taken_is_told_with_its_setting(&stack);
    the_alert_for_a_lost_gateway_is_pending(&stack);
}

fn all_runs(stack: &Stack<'_>) {
    let output = stack.deploy(&[]);
    assert_eq!(output.code(), 0, "{}{}", output.stdout, output.stderr);
    println!("deployed in {:.1} s", output.elapsed.as_secs_f64());
    for service in SERVICES {
        let line = format!("func_{service} 1/1 ");
        assert!(output.stdout.contains(&line), "{service} in\n{}", output.stdout);
    }
    assert!(output.stdout.contains("A password was made"), "{}", output.stdout);
    // Again: nothing has changed, so nothing is started anew.
    let before = stack.container("catservice");
    let output = stack.deploy(&[]);
    assert_eq!(output.code(), 0, "{}{}", output.stdout, output.stderr);
    assert_eq!(stack.container("catservice"), before);
    assert!(!output.stdout.contains("A password was made"), "{}", output.stdout);
}

/// The password is in a file for its owner alone, and nowhere in what was printed. Nobody gets in without it, and
/// functions, which have none, do not either.
fn a_password_is_made_and_asked_for(stack: &Stack<'_>) {
    let file = stack.home.path().join(".config/faas/basic-auth-password");
    let mode = std::fs::metadata(&file).expect("a file with the password").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let password = std::fs::read_to_string(&file).expect("a password");
    assert_eq!(password.len(), 32, "{password}");
    let path = "/system/function/func_wordcount";
    let status = |credentials: &str| {
        let arguments =
            ["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--user", credentials];
        let curl = arguments.into_iter().fold(Bin::at("curl"), Bin::arg);
        curl.arg(format!("http://{}{path}", stack.address())).run().stdout
    };
    assert_eq!(status(&format!("admin:{password}")), "200");
    assert_eq!(status("admin:admin"), "401");
    let reply = http::request(stack.address()).path(path).send().expect("an answer");
    assert_eq!(reply.status, 401, "{}", reply.text());
    let node = stack.container("nodeinfo");
    let program = format!(
        "require('http').get('http://tasks.func_gateway:8080{path}', (answer) => console.log(answer.statusCode))"
    );
    assert_eq!(stack.engine.docker(&["exec", &node, "node", "-e", &program]), "401");
}

/// What the engine and the kernel say of each service's process.
fn every_service_is_confined(stack: &Stack<'_>) {
    for service in SERVICES {
        let format = "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.PidsLimit}} \
                      {{.HostConfig.Memory}} {{.State.Pid}}";
        let told = stack.engine.docker(&["inspect", "--format", format, &stack.container(service)]);
        let [is_read_only, dropped, pids, memory, pid] = told.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{service}: {told}")
        };
        assert_eq!((is_read_only, dropped), ("true", "[ALL]"), "{service}: {told}");
        let number = |text: &str| text.parse::<u64>().unwrap_or_default();
        assert!((1..=640).contains(&number(pids)), "{service}: {told}");
        assert!((1..=256 << 20).contains(&number(memory)), "{service}: {told}");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{name} in {status}")).trim()
        };
        for set in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
            assert_eq!(line(set), "0000000000000000", "{service}: {set}");
        }
        assert!(!line("Uid:").split('\t').any(|user| user == "0"), "{service}: {}", line("Uid:"));
        // The image of Prometheus cannot set it for itself, and `docker stack deploy` does not.
        let is_ours = service != "prometheus";
        assert!(!is_ours || line("NoNewPrivs:") == "1", "{service} may gain privileges");
    }
}

fn the_calls_of_the_first_readme_work(stack: &Stack<'_>) {
    let hub = "The organisation or user alexellis2 has 99 repositories on the Docker hub.\n";
    assert_eq!(stack.call("hubstats", "alexellis2"), hub);

    let body = r#"{"event": "fork", "repo": "alexellis2/faas"}"#;
    assert_eq!(stack.call("webhookstash", body), "Webhook stashed\n");
    let found = stack.engine.docker(&["exec", &stack.container("webhookstash"), "find", "."]);
    let files: Vec<&str> = found.lines().collect();
    let [".", file] = files[..] else { panic!("one file in {found}") };
    assert!(file.strip_prefix("./").is_some_and(|name| name.parse::<u64>().is_ok()), "{file}");

    let info = stack.call("nodeinfo", "");
    assert!(info.contains("Platform: linux\n") && !info.contains("model"), "{info}");
    assert!(stack.call("nodeinfo", "verbose").contains("model"));

    assert_eq!(stack.call("catservice", "known hosts\n"), "known hosts\n");
    let by_header =
        http::request(stack.address()).method("POST").path("/").header("x-function", "func_catservice");
    let reply = by_header.body("known hosts\n").send().expect("an answer");
    assert_eq!((reply.status, &*reply.text()), (200, "known hosts\n"));

    assert_eq!(stack.call("wordcount", "one two three").trim(), "3");
    assert_eq!(stack.call("hello-python", "Swarm"), "Hello, Swarm!\n");
    let reply = http::request(stack.address()).method("POST").path("/function/func_prometheus").send();
    assert_eq!(reply.expect("an answer").status, 404, "Prometheus is no function");
}

/// The sizes that images may have, in bytes: 1.5 MiB, and 1 MiB for functions in Rust without TLS.
fn functions_are_small(engine: &Engine) {
    let small = ["catservice", "webhookstash", "wordcount", "hostname-intent", "resize"];
    let budgets = small.map(|name| (name, 1024 * 1024)).into_iter().chain([("gateway", 1536 * 1024)]);
    for (name, budget) in budgets.chain([("fwatchdog", 1024 * 1024), ("hubstats", 4096 * 1024)]) {
        let size = size_of_files(engine, &format!("localhost/faas/{name}"));
        println!("faas/{name}: {size} bytes");
        assert!(size > 0, "faas/{name} is empty");
        assert!(size <= budget, "faas/{name}: {size} bytes of {budget}");
    }
}

/// The bytes of all files of an image. What the engine says of its size depends on how it stores images: unpacked in
/// some, compressed and unpacked together in others.
fn size_of_files(engine: &Engine, image: &str) -> u64 {
    let dir = tempfile::tempdir().expect("a directory for the files");
    let archive = dir.path().join("files.tar");
    let container = engine.docker(&["create", image, "never-started"]);
    engine.docker(&["export", "--output", &archive.to_string_lossy(), &container]);
    engine.docker(&["rm", &container]);
    size_in_archive(&std::fs::read(&archive).expect("an archive"))
}

/// The bytes of the regular files in a tar archive: headers of 512 bytes with the size in octal digits, each followed by
/// as many whole blocks (POSIX ustar).
fn size_in_archive(archive: &[u8]) -> u64 {
    const BLOCK: usize = 512;
    let (mut at, mut sum) = (0, 0);
    while let Some(header) = archive.get(at..at + BLOCK).filter(|header| header[0] != 0) {
        let digits = String::from_utf8_lossy(&header[124..135]);
        let size = u64::from_str_radix(digits.trim_matches(['\0', ' ']), 8).expect("a size");
        if matches!(header[156], b'0' | 0) {
            sum += size;
        }
        at += BLOCK + (size as usize).next_multiple_of(BLOCK);
    }
    sum
}

#[test]
fn files_in_an_archive_are_added_up() {
    let entry = |kind: u8, size: usize| {
        let mut bytes = vec![b'x'; 512];
        bytes[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        bytes[156] = kind;
        bytes.resize(512 + size.next_multiple_of(512), b'y');
        bytes
    };
    let archive = [entry(b'5', 0), entry(b'0', 1), entry(b'x', 600), entry(0, 1024), vec![0; 1024]].concat();
    assert_eq!(size_in_archive(&archive), 1025);
    assert_eq!(size_in_archive(&[]), 0);
}

fn prometheus_sees_the_gateway(stack: &Stack<'_>) {
    let up = stack.eventually_has(r#"up{job="gateway"} == 1"#, 1);
    let instance = up[0]["metric"]["instance"].as_str().expect("an instance").to_owned();
    // Its calls from above, by function: a rate needs two looks.
    let expr = r#"gateway_function_invocation_total{function_name="func_catservice",code="200"} >= 2"#;
    stack.eventually_has(expr, 1);
    stack.eventually_has("gateway_service_ready == 1", SERVICES.len() - 2);
    let queries = dashboard::queries();
    assert!(queries.len() > 20, "{} queries", queries.len());
    for query in queries {
        let filled = query.filled_in(std::slice::from_ref(&instance));
        stack.ask(&filled).unwrap_or_else(|error| panic!("panel `{}`: {error}", query.panel));
    }
}

fn what_cannot_run_is_told(stack: &Stack<'_>) {
    let output = stack.deploy(&[
        ("FAAS_TAG", "no-such"),
        ("FAAS_IMAGES", "localhost/faas"),
        ("FAAS_DEPLOY_TIMEOUT", "60"),
    ]);
    assert_eq!(output.code(), 1, "{}{}", output.stdout, output.stderr);
    let told = output.stderr.lines().find(|line| line.starts_with("deploy_stack: func_catservice "));
    let told = told.unwrap_or_else(|| panic!("{}{}", output.stdout, output.stderr));
    println!("{told}");
    assert!(told.contains("image localhost/faas/catservice:no-such is missing: "), "{told}");
    assert!(told.ends_with("; build it on the node, or set FAAS_IMAGES and FAAS_TAG"), "{told}");
    assert!(output.stderr.contains("FAAS_DEPLOY_TIMEOUT"), "{}", output.stderr);
    // The right tag mends it.
    let output = stack.deploy(&[]);
    assert_eq!(output.code(), 0, "{}{}", output.stdout, output.stderr);
    assert_eq!(stack.call("catservice", "again"), "again");
}

/// It runs whenever one looks, for two seconds.
fn what_starts_again_and_again_does_not_count(stack: &Stack<'_>) {
    let dir = tempfile::tempdir().expect("a directory for the image");
    let file =
        "FROM alpine\nENTRYPOINT [\"sh\", \"-c\", \"sleep 2; echo going; exit 7\"]\nHEALTHCHECK NONE\n";
    std::fs::write(dir.path().join("Dockerfile"), file).expect("a Dockerfile");
    let images = "localhost/loops";
    for name in SERVICES.iter().filter(|name| **name != "prometheus") {
        let context = dir.path().to_string_lossy().into_owned();
        stack.engine.docker(&["build", "--quiet", "--tag", &format!("{images}/{name}:latest"), &context]);
    }
    let settings = [("FAAS_IMAGES", images), ("FAAS_DEPLOY_TIMEOUT", "15")];
    // What is told is how things are at its end: the old tasks may only just have gone, or all may run again.
    let mut told = Vec::new();
    while told.len() < 10
        && told.iter().filter(|told: &&String| told.contains("non-zero exit (7)")).count() < 2
    {
        let output = stack.deploy(&settings);
        assert_eq!(output.code(), 1, "{}{}", output.stdout, output.stderr);
        told.push(output.stderr);
    }
    assert!(told.len() < 10, "{}", told.concat());
    let output = stack.deploy(&[]);
    assert_eq!(output.code(), 0, "{}{}", output.stdout, output.stderr);
    // What went wrong before is not told as today's.
    assert!(!output.stdout.contains("non-zero exit"), "{}", output.stdout);
}

fn a_port_that_is_taken_is_told_with_its_setting(stack: &Stack<'_>) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port to be taken");
    let port = listener.local_addr().expect("bound").port().to_string();
    let output = stack.deploy(&[("FAAS_PORT", &port)]);
    assert_eq!(output.code(), 1, "{}{}", output.stdout, output.stderr);
    let told = format!("deploy_stack: func_gateway 0/1 port {port} is taken on this node: set FAAS_PORT");
    assert!(output.stderr.contains(&told), "{}{}", output.stdout, output.stderr);
    drop(listener);
    let output = stack.deploy(&[]);
    assert_eq!(output.code(), 0, "{}{}", output.stdout, output.stderr);
}

fn the_alert_for_a_lost_gateway_is_pending(stack: &Stack<'_>) {
    stack.eventually_has(r#"up{job="gateway"} == 1"#, 1);
    stack.engine.docker(&["service", "scale", "--detach", "func_gateway=0"]);
    // It fires after a minute more: that it does is tested with a Prometheus that waits less.
    stack.eventually_has(r#"ALERTS{alertname="GatewayAbsent"}"#, 1);
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn a_deployment_that_cannot_begin_says_why() {
    let engine = testkit::variable("DOCKER_HOST").unwrap_or_default();
    for (name, value, argument, want) in [
        ("DOCKER_HOST", "unix:///no/such.sock", "func", "the engine does not answer: "),
        ("FAAS_DEPLOY_TIMEOUT", "soon", "func", "FAAS_DEPLOY_TIMEOUT: expected seconds, got `soon`"),
        ("FAAS_DEPLOY_TIMEOUT", "100000", "func", "FAAS_DEPLOY_TIMEOUT: expected seconds, got `100000`"),
        ("FAAS_PORT", "http", "func", "FAAS_PORT: expected a port, got `http`"),
        ("FAAS_PROMETHEUS_PORT", "65536", "func", "FAAS_PROMETHEUS_PORT: expected a port, got `65536`"),
        ("DOCKER_HOST", &*engine, "a name", "expected a name of at most 40 letters"),
        ("DOCKER_HOST", &*engine, &"x".repeat(41), "expected a name of at most 40 letters"),
    ] {
        let script = testkit::workspace().join("deploy_stack.sh");
        let output = Bin::at(script).arg(argument).env("DOCKER_HOST", &engine).env(name, value).run();
        assert_eq!(output.code(), 2, "{want}: {}{}", output.stdout, output.stderr);
        assert!(output.stderr.contains(&format!("deploy_stack: {want}")), "{want}: {}", output.stderr);
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    }
}
