//! A real Prometheus with real gateways under load: every query of the dashboard has figures, and only the
//! right alerts fire.

use std::collections::BTreeSet;
use std::time::Duration;

use testkit::{eventually, proc};

use crate::prometheus::Prometheus;
use crate::scene::Scene;
use crate::{alerts, dashboard};

/// How long an alert may take: a second each for the figure, its reading and two evaluations; longer on a
/// busy machine.
const ALERT_TIME: Duration = Duration::from_secs(60);

/// How long it may take until everything was read a few times.
const FIGURES_TIME: Duration = Duration::from_secs(60);

/// The alerts that must fire under the load, with their functions.
const UNDER_LOAD: [(&str, &str); 4] = [
    ("FunctionErrors", "failing"),
    ("FunctionErrors", "broken"),
    ("FunctionWithoutReplica", "broken"),
    ("FunctionCallsWaiting", "waited-for"),
];

/// Further alerts that may fire: for functions whose replicas come and go, or that have none.
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
    // On a machine that is busy for seconds a gateway may miss a reading or two.
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
    none_fires(&prometheus, is_about); // one gateway is still there
    local.signal(proc::SIGKILL);
    eventually(ALERT_TIME, || fires(&prometheus, &[("GatewayDown", &local_addr), ("GatewayAbsent", "")]));
}

/// Waits until each query of the dashboard has a value; those of processes only of the gateways.
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

/// Waits until each rule was evaluated without an error.
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
