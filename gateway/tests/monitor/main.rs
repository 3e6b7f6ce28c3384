//! The files in `monitor/` for Prometheus and Grafana: they are valid, each alert fires when it should and
//! only then, and a real Prometheus gets all figures from real gateways under load.

mod alertmanager;
mod dashboard;
mod engine;
mod files;
mod live;
mod prometheus;
mod scene;

use std::path::PathBuf;

use yaml_rust2::{Yaml, YamlLoader};

/// A file of this repository.
fn repository(path: &str) -> PathBuf {
    testkit::workspace().join(path)
}

/// The text of a file of this repository.
#[track_caller]
fn text(path: &str) -> String {
    let path = repository(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A file of this repository as YAML.
#[track_caller]
fn yaml(path: &str) -> Yaml {
    let documents = YamlLoader::load_from_str(&text(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let [document] = <[Yaml; 1]>::try_from(documents).expect("one document");
    document
}

/// The items of a list; none if it is no list.
fn items(list: &Yaml) -> &[Yaml] {
    list.as_vec().map_or(&[], Vec::as_slice)
}

/// The rules of `monitor/alerts.yml`.
fn rules() -> Vec<Yaml> {
    items(&yaml("monitor/alerts.yml")["groups"])
        .iter()
        .flat_map(|group| items(&group["rules"]).to_vec())
        .collect()
}

/// The names of the alerts, in their order.
fn alerts() -> Vec<String> {
    rules().iter().map(|rule| rule["alert"].as_str().expect("a name").to_owned()).collect()
}
