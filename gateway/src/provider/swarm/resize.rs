//! The edit of a service's document that changes the number of its replicas, and notes in a label what somebody had
//! asked for: a document in, what became of it out. A label of the service itself starts no task.
//!
//! A write ends what the engine knows of an update: its state is forgotten, a paused one goes on, and the spec before
//! the write, a broken one perhaps, is what a rollback goes back to. So a service in an update is left alone. Only a
//! service without replicas is written all the same: calls wait for it, and it has no good task to lose.

use docker_sock::is_update_over;
use serde_json::{Map, Value};

use crate::function::floor::{self, Note};
use crate::function::labels::LABEL_FLOOR;
use crate::provider::ScaleError;

/// A change that is wanted.
#[derive(Clone, Copy)]
pub(super) struct Resize {
    /// The number that the gateway thinks is there; with another one nothing is done. Without it somebody else asks.
    pub(super) from: Option<u32>,
    pub(super) to: u32,
}

/// The outcome for a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Edit {
    /// It was changed and is to be written.
    Changed,
    /// There is nothing to do.
    Unchanged,
    /// The engine was given other tasks to run and has not said yet that it updates the service.
    Undecided,
    Refused(ScaleError),
}

impl Resize {
    /// Changes the number of replicas in the document of the service `name`.
    pub(super) fn edit(self, name: &str, service: &mut Value) -> Edit {
        let replicas = match service.pointer("/Spec/Mode/Replicated") {
            Some(mode) if mode.is_object() => mode.get("Replicas").and_then(Value::as_u64).unwrap_or(1),
            _ => return Edit::Refused(ScaleError::Refused(format!("service {name} is not replicated"))),
        };
        let replicas = u32::try_from(replicas).unwrap_or(u32::MAX);
        let note = service["Spec"]["Labels"][LABEL_FLOOR].as_str().and_then(Note::parse);
        let asked = floor::asked(note, replicas);
        let asks = if self.from.is_none() { self.to } else { asked };
        if self.from.is_some_and(|from| from != replicas) || (replicas, asked) == (self.to, asks) {
            return Edit::Unchanged;
        }
        let state = service.pointer("/UpdateStatus/State").and_then(Value::as_str).unwrap_or_default();
        if replicas > 0 && !is_update_over(state) {
            return Edit::Refused(ScaleError::InUpdate(state.to_owned()));
        }
        let is_undecided = replicas > 0 && state.is_empty() && has_other_tasks(service);
        service["Spec"]["Mode"]["Replicated"]["Replicas"] = self.to.into(); // an object, as was seen above
        if !service["Spec"]["Labels"].is_object() {
            service["Spec"]["Labels"] = Value::Object(Map::new());
        }
        service["Spec"]["Labels"][LABEL_FLOOR] = Note { asked: asks, set: self.to }.to_string().into();
        if is_undecided { Edit::Undecided } else { Edit::Changed }
    }
}

/// Whether the last write gave the service other tasks than it had.
fn has_other_tasks(service: &Value) -> bool {
    let before = service.pointer("/PreviousSpec/TaskTemplate");
    before.is_some_and(|before| service.pointer("/Spec/TaskTemplate") != Some(before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(replicas: u64, state: &str) -> Value {
        json!({
            "ID": "s1",
            "Spec": {"Name": "echo", "Mode": {"Replicated": {"Replicas": replicas}}, "TaskTemplate": {"Image": 2}},
            "PreviousSpec": {"Name": "echo", "TaskTemplate": {"Image": 2}},
            "UpdateStatus": {"State": state},
        })
    }

    /// What becomes of the document, and the replicas in it.
    fn edit(service: &Value, from: Option<u32>, to: u32) -> (Edit, Value) {
        let mut edited = service.clone();
        let edit = Resize { from, to }.edit("echo", &mut edited);
        let replicas = edited["Spec"]["Mode"]["Replicated"]["Replicas"].clone();
        (edit, replicas)
    }

    #[test]
    fn the_number_and_its_note_are_changed_and_nothing_else() {
        for state in ["", "completed", "rollback_completed"] {
            for (replicas, from, to) in [(2, Some(2), 5), (2, None, 1), (2, Some(2), 0), (0, Some(0), 1)] {
                let mut got = service(replicas, state);
                assert_eq!(Resize { from, to }.edit("echo", &mut got), Edit::Changed);
                assert_eq!(got, {
                    let mut want = service(replicas, state);
                    want["Spec"]["Mode"]["Replicated"]["Replicas"] = to.into();
                    let asked = from.unwrap_or(to);
                    want["Spec"]["Labels"] = json!({ "faas.scale.floor": format!("{asked}/{to}") });
                    want
                });
            }
        }
        assert_eq!(edit(&service(2, ""), Some(3), 5).0, Edit::Unchanged, "somebody else was quicker");
        assert_eq!(edit(&service(2, ""), None, 2).0, Edit::Unchanged);
        let mut one = service(1, "");
        one["Spec"]["Mode"]["Replicated"] = json!({});
        assert_eq!(edit(&one, Some(1), 2), (Edit::Changed, json!(2)), "without a number it is one");
    }

    #[test]
    fn a_service_in_an_update_is_left_alone_unless_it_has_no_replica() {
        let states = ["updating", "paused", "rollback_started", "rollback_paused", "not known yet"];
        for state in states {
            for (from, to) in [(Some(2), 3), (Some(2), 1), (Some(2), 0), (None, 9)] {
                let refused = Edit::Refused(ScaleError::InUpdate(state.to_owned()));
                assert_eq!(edit(&service(2, state), from, to), (refused, json!(2)), "{state} {to}");
            }
            assert_eq!(edit(&service(2, state), None, 2).0, Edit::Unchanged);
            assert_eq!(edit(&service(0, state), Some(0), 1), (Edit::Changed, json!(1)), "{state}");
        }
    }

    #[test]
    fn an_update_that_was_asked_for_may_be_about_to_begin() {
        let ahead = |replicas, state| {
            let mut service = service(replicas, state);
            service["PreviousSpec"]["TaskTemplate"]["Image"] = 1.into();
            service
        };
        assert_eq!(edit(&ahead(2, ""), Some(2), 3), (Edit::Undecided, json!(3)));
        assert_eq!(edit(&ahead(2, "completed"), Some(2), 3).0, Edit::Changed);
        assert_eq!(edit(&ahead(0, ""), Some(0), 1).0, Edit::Changed, "calls wait");
        let mut new = service(2, "");
        new["PreviousSpec"] = Value::Null;
        assert_eq!(edit(&new, Some(2), 3).0, Edit::Changed, "it was never written before");
    }

    /// Changes in turn, from replicas and a note to replicas and a note.
    #[test]
    fn what_somebody_asked_for_is_noted_and_outlives_what_the_gateway_sets() {
        for (replicas, note, from, to, want) in [
            (4, "", Some(4), 7, "4/7"),
            (7, "4/7", Some(7), 6, "4/6"),
            (6, "4/6", Some(6), 4, "4/4"),
            (9, "4/7", Some(9), 10, "9/10"),
            (1, "4/0", Some(1), 3, "1/3"),
            (4, "4/4", Some(4), 0, "4/0"),
            (0, "4/0", Some(0), 4, "4/4"),
            (7, "4/7", None, 5, "5/5"),
            (7, "4/7", None, 7, "7/7"),
            (7, "4/7", None, 0, "0/0"),
            (7, "mine", Some(7), 8, "7/8"),
        ] {
            let mut service = service(replicas, "");
            service["Spec"]["Labels"] = json!({ "mine": "1" });
            if !note.is_empty() {
                service["Spec"]["Labels"]["faas.scale.floor"] = note.into();
            }
            assert_eq!(Resize { from, to }.edit("echo", &mut service), Edit::Changed, "{replicas} {note}");
            let labels = json!({ "mine": "1", "faas.scale.floor": want });
            assert_eq!(service["Spec"]["Labels"], labels, "{replicas} {note}");
        }
    }

    #[test]
    fn what_is_not_replicated_cannot_be_scaled() {
        for mode in [json!({"Global": {}}), json!({"Replicated": 5}), Value::Null] {
            let mut service = service(1, "");
            service["Spec"]["Mode"] = mode;
            let why = ScaleError::Refused("service echo is not replicated".to_owned());
            assert_eq!(Resize { from: None, to: 2 }.edit("echo", &mut service), Edit::Refused(why));
        }
    }
}
