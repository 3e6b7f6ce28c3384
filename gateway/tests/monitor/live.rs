//! A real Prometheus over real gateways under load: every query of the dashboard has figures, alerts fire for
//! what is wrong and for nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use testkit::{eventually, proc};

use crate::prometheus::Prometheus;
use crate::scene::Scene;
use crate::{alerts, dashboard};

/// How long an alert may take: the figure, its reading, two evaluations, a second each; on a busy machine longer.
const ALERT_TIME: Duration = Duration::from_secs(60);

/// How long it may take until all of it has been read a few times.
const FIGURES_TIME: Duration = Duration::from_secs(60);

/// What must fire under the load, and for whom.
const UNDER_LOAD: [(&str, &str); 4] = [
    ("FunctionErrors", "failing"),
    ("FunctionErrors", "broken"),
    ("FunctionWithoutReplica", "broken"),
    ("FunctionCallsWaiting", "waited-for"),
];

/// What may fire beside it: whose replicas come and go all the time, or who has none.
const MAY_FIRE: [(&str, &str); 5] = [
    ("FunctionWithoutReplica", "waited-for"),
    ("FunctionWithoutReplica", "cold"),
    ("FunctionCallsWaiting", "cold"),
    ("FunctionRetries", "partly"),
    ("FunctionRetries", "stale"),
];

#[test]
fn every_panel_has_figures_and_the_right_alerts_fire() {
    if !testkit::is_installed("prometheus") {
        return;
    }
    let scene = Scene::new();
    let prometheus = Prometheus::start(&scene.addresses());
    let load = scene.load();
    panels_have_figures(&prometheus, &scene);
    rules_are_well(&prometheus);
    eventually(ALERT_TIME, || fires(&prometheus, &UNDER_LOAD));
    // A machine that is busy for seconds may keep a gateway from answering one reading or two.
    let is_expected = |(alert, about): &(String, String)| {
        let pair = (&**alert, &**about);
        UNDER_LOAD.contains(&pair) || MAY_FIRE.contains(&pair)
    };
    none_fires(&prometheus, |alert| !is_expected(alert));
    drop(load);

    let [local_addr, swarm_addr] = scene.addresses().map(|addr| addr.to_string());
    let (local, swarm) = scene.without_engine();
    eventually(ALERT_TIME, || fires(&prometheus, &[("GatewayEngineUnreachable", &swarm_addr)]));
    swarm.signal(proc::SIGKILL);
    eventually(ALERT_TIME, || fires(&prometheus, &[("GatewayDown", &swarm_addr)]));
    let is_about = |alert: &(String, String)| alert.1 == local_addr || alert.0 == "GatewayAbsent";
    none_fires(&prometheus, is_about); // one gateway is there
    local.signal(proc::SIGKILL);
    eventually(ALERT_TIME, || fires(&prometheus, &[("GatewayDown", &local_addr), ("GatewayAbsent", "")]));
}

/// Waits until each query of the dashboard has a value, and those of processes no others than the gateways'.
fn panels_have_figures(prometheus: &Prometheus, scene: &Scene) {
    let instances = scene.addresses().map(|addr| addr.to_string());
    let mut left = dashboard::queries();
    let count = left.len();
    assert!(count > 20, "{count} queries");
    eventually(FIGURES_TIME, || {
        let mut empty = vec![];
        left.retain(|query| {
            let expr = query.filled_in(&instances);
            let values = prometheus.ask(&expr);
            let is_there = values.as_ref().is_ok_and(|values| values.iter().any(|value| value.is_finite()));
            if !is_there {
                empty.push(format!("{}: {expr}: {values:?}", query.panel));
            }
            !is_there
        });
        if empty.is_empty() { Ok(()) } else { Err(format!("of {count} queries:\n{}", empty.join("\n"))) }
    });
    for query in dashboard::queries().iter().filter(|query| query.expr.contains("process_")) {
        eventually(FIGURES_TIME, || match prometheus.ask(&query.filled_in(&instances))?.len() {
            count if count == instances.len() => Ok(()),
            count => Err(format!("{}: {count} and not the gateways, and nobody else", query.panel)),
        });
    }
}

/// Waits until each rule of the file was evaluated, without an error.
fn rules_are_well(prometheus: &Prometheus) {
    let names: BTreeSet<String> = eventually(ALERT_TIME, || {
        let data = prometheus.api("/api/v1/rules")?;
        let groups = data["groups"].as_array().ok_or_else(|| data.to_string())?;
        let rules: Vec<_> = groups.iter().filter_map(|group| group["rules"].as_array()).flatten().collect();
        match rules.iter().find(|rule| rule["health"] != "ok") {
            Some(rule) => Err(rule.to_string()),
            None => Ok(rules.iter().map(|rule| rule["name"].as_str().unwrap().to_owned()).collect()),
        }
    });
    assert_eq!(names, alerts().into_iter().collect());
}

#[track_caller]
fn none_fires(prometheus: &Prometheus, is_meant: impl Fn(&(String, String)) -> bool) {
    eventually(ALERT_TIME, || match prometheus.firing()?.into_iter().find(&is_meant) {
        None => Ok(()),
        Some((alert, about)) => Err(format!("{alert} fires for `{about}`")),
    });
}

fn fires(prometheus: &Prometheus, wanted: &[(&str, &str)]) -> Result<(), String> {
    let firing = prometheus.firing()?;
    let is_there =
        |(alert, about): &&(&str, &str)| firing.iter().any(|one| one.0 == *alert && one.1 == *about);
    match wanted.iter().find(|one| !is_there(one)) {
        None => Ok(()),
        Some(missing) => Err(format!("{missing:?} is not among {firing:?}")),
    }
}
