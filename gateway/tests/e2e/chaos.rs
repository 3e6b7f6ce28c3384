//! Everything that happens to a function on a Swarm happens to one under load, in turn. What must be lost is what a
//! killed process had in hand, and nothing else is.
//!
//! By itself one round on one node; in `tools/swarm-lab.sh` a second node is drained, killed and cut off too, and
//! with `FAAS_CHAOS_CALLS` it goes on until there were so many calls (`make chaos`).

use std::process::Command;
use std::time::{Duration, Instant};

use testkit::engine::{Engine, NewService, Service, Task};
use testkit::{eventually, variable, workspace};

use crate::lab::{Gateway, Pair, SHELL, remove, shared_dir, shell};
use crate::load::{Crew, Gateways, Load, NOTE, Notes, hostname};
use crate::verdict::{Harm, Phase, Verdict};

/// Set by `tools/swarm-lab.sh`.
const ENV_LAB: &str = "FAAS_SWARM_LAB";
const ENV_CALLS: &str = "FAAS_CHAOS_CALLS";

const NAME: &str = "e2e-chaos";

/// A function that nobody calls.
const IDLE: &str = "e2e-chaos-idle";

/// Two gateways get one part in so many of the calls that one gets.
const PAIR_PART: usize = 4;
const CLIENTS: usize = 32;
const REPLICAS: usize = 3;
const MORE_REPLICAS: usize = 5;

/// After its note the function is at work for 20 to 199 ms.
const WORK: &str = "n=$((RANDOM % 180 + 1020)); sleep 0.${n#1}; echo $Http_X_Call_Id; cat";

/// The answers that each client has before something happens, and after all is well again.
const QUIET_CALLS: usize = 3;

/// How long a manager may take to notice that a node is away, or back: it waits for three heartbeats of 5 s.
const NOTICED: Duration = Duration::from_secs(60);

/// The node that is drained, killed and cut off.
const WORKER: &str = "n2";

#[test]
#[ignore = "needs an engine: make test-e2e, with a second node: make chaos"]
fn nothing_is_lost_but_what_a_killed_process_had_in_hand() {
    let engine = Engine::connect();
    let lab = variable(ENV_LAB).map(|_| Lab::with_images(&engine));
    let least = variable(ENV_CALLS).map_or(0, |text| text.parse().expect("a number of calls"));
    let gateway = Gateway::start(&engine, "e2e-chaos-gateway");
    let (shared, mount) = shared_dir();
    let service = function(&engine).fixed(REPLICAS).arg(mount).create();
    service.wait_running(REPLICAS);
    gateway.wait_callable(NAME);
    let mut phases = Vec::new();
    let gateways = Gateways::new(&[gateway.address]);
    let load = Load { gateways: &gateways, function: NAME, prefix: "chaos", clients: CLIENTS };
    let outcomes = load.run(|crew| {
        let stage = Stage { engine: &engine, service: &service, lab, crew, pair: None };
        while phases.is_empty() || crew.ended_calls() < least {
            stage.round(&mut phases);
        }
    });
    let verdict = Verdict::of(&phases, &outcomes, &Notes::read(shared.path()));
    println!("{verdict}");
    assert!(verdict.wrong.is_empty(), "{} calls are wrong", verdict.wrong.len());
    remove(&[&service, &gateway.service]);
}

/// Two gateways share the calls, or one of them has none, or is killed and started again; and both scale.
#[test]
#[ignore = "needs an engine: make test-e2e, with a second node: make chaos"]
fn with_two_gateways_nothing_more_is_lost() {
    let engine = Engine::connect();
    let lab = variable(ENV_LAB).map(|_| Lab::with_images(&engine));
    let least = variable(ENV_CALLS).map_or(0, |text| text.parse().expect("a number of calls"));
    let pair = Pair::start(&engine, "e2e-pair-gateway");
    let (shared, mount) = shared_dir();
    let service = to_zero(function(&engine)).replicas(REPLICAS).arg(mount).create();
    let idle = to_zero(shell(&engine, IDLE, "cat")).create();
    service.wait_running(REPLICAS);
    let addresses = pair.addresses();
    addresses.iter().for_each(|address| pair.wait_callable(*address, NAME));
    let mut phases = Vec::new();
    let gateways = Gateways::new(&addresses);
    let load = Load { gateways: &gateways, function: NAME, prefix: "pair", clients: CLIENTS };
    let outcomes = load.run(|crew| {
        let pair = Some((&pair, &gateways, &idle));
        let stage = Stage { engine: &engine, service: &service, lab, crew, pair };
        while phases.is_empty() || crew.ended_calls() < least / PAIR_PART {
            stage.round(&mut phases);
        }
    });
    let verdict = Verdict::of(&phases, &outcomes, &Notes::read(shared.path()));
    println!("{verdict}");
    assert!(verdict.wrong.is_empty(), "{} calls are wrong", verdict.wrong.len());
    let log = pair.service.logs();
    let taken: Vec<_> = log.lines().filter(|line| line.contains("function `e2e-chaos`: from")).collect();
    assert!(taken.is_empty(), "the function was called all the time: {taken:#?}");
    remove(&[&service, &idle, &pair.service]);
}

/// A function that goes to zero when it was not called for 5 s.
fn to_zero(service: NewService<'_>) -> NewService<'_> {
    service.label("com.openfaas.scale.zero", "true").label("com.openfaas.scale.zero-duration", "5s")
}

/// The function that everything happens to.
fn function(engine: &Engine) -> NewService<'_> {
    shell(engine, NAME, &format!("{NOTE}; {WORK}"))
        .arg("--restart-delay=200ms")
        // A machine that is busy with something else must not be taken for a sick task, nor a task that ends.
        .arg("--health-timeout=30s")
        .arg("--health-retries=100")
        .arg("--update-monitor=100ms")
        .arg("--update-parallelism=2")
        .arg("--rollback-monitor=100ms")
        .arg("--rollback-parallelism=2")
}

struct Stage<'s> {
    engine: &'s Engine,
    service: &'s Service<'s>,
    lab: Option<Lab>,
    crew: &'s Crew,
    /// Where there are two gateways: them, whom the clients call, and a function that nobody calls.
    pair: Option<(&'s Pair<'s>, &'s Gateways, &'s Service<'s>)>,
}

impl Stage<'_> {
    /// What empties the second node is followed by something that fills it again.
    fn round(&self, phases: &mut Vec<Phase>) {
        let mut phase = |name, harm, act: &dyn Fn() -> Vec<String>| {
            let mut phase = self.phase(name, harm, act);
            phase.failed = self.failures(&phase, phases);
            eprintln!("{:>7} calls, {:>5.1?} {name}", self.crew.ended_calls(), phase.ended - phase.began);
            phases.push(phase);
        };
        phase("nothing happens", Harm::None, &Vec::new);
        phase("scale up", Harm::None, &|| self.scale(MORE_REPLICAS));
        phase("scale down", Harm::None, &|| self.scale(REPLICAS));
        phase("task killed", Harm::Task, &|| self.end_task(&["kill", "--signal=KILL"]));
        if let Some(lab) = &self.lab {
            phase("task stopped", Harm::None, &|| self.end_task(&["stop"]));
            phase("node drained", Harm::None, &|| self.drain(lab));
            phase("update, stop first", Harm::None, &|| self.update("stop-first"));
            phase("node killed", Harm::Node, &|| self.break_node(lab, "kill"));
        }
        phase("update, start first", Harm::None, &|| self.update("start-first"));
        if let Some(lab) = &self.lab {
            phase("node cut off", Harm::Node, &|| self.break_node(lab, "cut"));
        }
        phase("rollback, stop first", Harm::None, &|| self.roll_back());
        if let Some((pair, gateways, idle)) = self.pair {
            for kept in [0, 1] {
                phase("one gateway idle", Harm::None, &|| self.leave_idle(kept, (pair, gateways, idle)));
                phase("idle gateway killed", Harm::None, &|| self.kill_gateway(kept, pair, gateways));
            }
        }
    }

    /// Has all clients call one of the gateways until a function that nobody calls went to zero: so would this one
    /// have by then, if the other gateway took it for idle.
    fn leave_idle(&self, kept: usize, (pair, gateways, idle): (&Pair, &Gateways, &Service)) -> Vec<String> {
        let addresses = pair.addresses();
        gateways.set(&[addresses[kept]]);
        idle.wait_running(0);
        idle.scale(1);
        idle.wait_running(1);
        idle.wait_running(0);
        gateways.set(&addresses);
        Vec::new()
    }

    /// Kills the gateway that no client calls, and has both called when it is there again.
    fn kill_gateway(&self, kept: usize, pair: &Pair, gateways: &Gateways) -> Vec<String> {
        gateways.set(&[pair.addresses()[kept]]);
        self.crew.wait_calls(1);
        pair.kill(1 - kept);
        let addresses = pair.addresses();
        addresses.iter().for_each(|address| pair.wait_callable(*address, NAME));
        gateways.set(&addresses);
        Vec::new()
    }

    /// Has `act` happen amid calls, and returns when all are well again and have been for some calls. `act` tells
    /// which containers it has harmed.
    fn phase(&self, name: &'static str, harm: Harm, act: &dyn Fn() -> Vec<String>) -> Phase {
        let began = Instant::now();
        self.crew.wait_calls(QUIET_CALLS);
        let acted = Instant::now();
        let harmed = act();
        let settled = Instant::now();
        self.crew.wait_calls(QUIET_CALLS);
        Phase { name, harm, began, acted, settled, ended: Instant::now(), harmed, failed: Vec::new() }
    }

    /// The containers that failed without being harmed, unless they are known, each with the reason.
    fn failures(&self, phase: &Phase, before: &[Phase]) -> Vec<(String, String)> {
        let is_known = |container: &String| {
            let mut phases = before.iter().chain([phase]);
            phases.any(|phase| {
                phase.harmed.contains(container) || phase.failed.iter().any(|(failed, _)| failed == container)
            })
        };
        let failed = self.service.tasks().into_iter().filter(|task| task.state == "failed");
        let named = failed.map(|task| (hostname(&task.container), task.error));
        named.filter(|(container, _)| !is_known(container)).collect()
    }

    fn scale(&self, count: usize) -> Vec<String> {
        self.service.scale(count);
        self.service.wait_settled(count);
        Vec::new()
    }

    fn update(&self, order: &str) -> Vec<String> {
        self.service.roll("update", &["--force", &format!("--update-order={order}")], "completed");
        self.service.wait_settled(REPLICAS);
        Vec::new()
    }

    /// In the order that the engine takes unless said.
    fn roll_back(&self) -> Vec<String> {
        self.service.roll("rollback", &[], "rollback_completed");
        self.service.wait_settled(REPLICAS);
        Vec::new()
    }

    /// Ends a task behind the manager's back, so that the gateway is not told before. Of two nodes it is on the
    /// manager: the other has phases of its own.
    fn end_task(&self, command: &[&str]) -> Vec<String> {
        let own = self.engine.docker(&["info", "--format={{.Swarm.NodeID}}"]);
        let tasks = self.service.wait_settled(REPLICAS);
        let task = tasks.iter().find(|task| task.node == own).expect("a task on the manager");
        self.engine.docker(&[command, &[&task.container]].concat());
        eventually(NOTICED, || match self.service.tasks().iter().find(|other| other.id == task.id) {
            Some(task) if task.state == "running" => Err(format!("{task:?}")),
            _ => Ok(()),
        });
        self.service.wait_settled(REPLICAS);
        vec![hostname(&task.container)]
    }

    fn drain(&self, lab: &Lab) -> Vec<String> {
        self.tasks_of_worker();
        lab.command(&["drain", WORKER]);
        self.wait_elsewhere();
        self.service.wait_settled(REPLICAS);
        lab.command(&["activate", WORKER]);
        Vec::new()
    }

    fn break_node(&self, lab: &Lab, how: &str) -> Vec<String> {
        let tasks = self.tasks_of_worker();
        lab.command(&[how, WORKER]);
        eventually(NOTICED, || {
            let status = self.engine.docker(&["node", "inspect", "--format={{.Status.State}}", WORKER]);
            if status == "down" { Ok(()) } else { Err(format!("{WORKER} is {status}")) }
        });
        self.wait_elsewhere();
        lab.command(&["heal", WORKER]);
        self.service.wait_settled(REPLICAS);
        tasks.iter().map(|task| hostname(&task.container)).collect()
    }

    fn worker(&self) -> String {
        self.engine.docker(&["node", "inspect", "--format={{.ID}}", WORKER])
    }

    fn tasks_of_worker(&self) -> Vec<Task> {
        let worker = self.worker();
        let tasks = self.service.wait_settled(REPLICAS);
        let tasks: Vec<Task> = tasks.into_iter().filter(|task| task.node == worker).collect();
        assert!(!tasks.is_empty(), "no task is on {WORKER}");
        tasks
    }

    /// Until all tasks that are wanted run on other nodes than the worker.
    fn wait_elsewhere(&self) {
        let worker = self.worker();
        eventually(NOTICED, || {
            let tasks = self.service.wait_running(REPLICAS);
            if tasks.iter().all(|task| task.node != worker) { Ok(()) } else { Err(format!("{tasks:?}")) }
        });
    }
}

/// The Swarm of several nodes that this runs in, asked through its script.
struct Lab;

impl Lab {
    /// With the function's image on every node.
    fn with_images(engine: &Engine) -> Lab {
        crate::lab::shell_image(engine);
        Lab.command(&["copy", SHELL]);
        Lab
    }

    #[track_caller]
    fn command(&self, args: &[&str]) {
        let script = workspace().join("tools/swarm-lab.sh");
        let output = Command::new(script).args(args).output();
        let output = output.unwrap_or_else(|error| panic!("swarm-lab {args:?}: {error}"));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "swarm-lab {args:?}: {}\n{text}", output.status);
    }
}
