//! The states of a service's updates, each as the engine tells it: polling would miss the states that pass
//! quickly, since the next write of the service clears them.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::eventually;

/// The states since this was made.
pub struct UpdateStates {
    name: String,
    events: Child,
    seen: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl UpdateStates {
    pub(crate) fn of(name: &str) -> UpdateStates {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = format!("--since={}.{:09}", since.as_secs(), since.subsec_nanos());
        let filter = format!("--filter=service={name}");
        let format = "--format={{with index .Actor.Attributes \"updatestate.new\"}}{{.}}{{end}}";
        let mut command = Command::new("docker");
        command.args(["events", &since, "--filter=type=service", &filter, format]);
        let events = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut events = events.unwrap_or_else(|error| panic!("docker events: {error}"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let reader = events.stdout.take().map(|stdout| {
            let seen = Arc::clone(&seen);
            thread::spawn(move || {
                let lines = BufReader::new(stdout).lines().map_while(Result::ok);
                lines.filter(|line| !line.is_empty()).for_each(|line| {
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                });
            })
        });
        UpdateStates { name: name.to_owned(), events, seen, reader }
    }

    /// What was seen so far, in order.
    #[must_use]
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a state was seen.
    ///
    /// # Panics
    /// When it does not come within `patience`.
    #[track_caller]
    pub fn wait(&self, want: &str, patience: Duration) {
        eventually(patience, || match self.seen() {
            seen if seen.iter().any(|state| state == want) => Ok(()),
            seen => Err(format!("service {}: {want} wanted, seen were {seen:?}", self.name)),
        });
    }
}

impl Drop for UpdateStates {
    fn drop(&mut self) {
        let _ = self.events.kill(); // it may have ended with its engine
        let _ = self.events.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
