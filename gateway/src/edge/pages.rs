//! The gateway's own pages. None of them blocks.

use std::sync::Arc;
use std::time::Instant;

use http1::server::Answer;
use http1::{Exchange, HeadWriter};

use crate::access_log;
use crate::call::Calls;
use crate::failure::Failure;
use crate::load::{self, Instance, Load};
use crate::metrics;
use crate::provider::Provider;

const TEXT: &str = "text/plain; charset=utf-8";

pub(super) struct Pages {
    pub(super) calls: Arc<Calls>,
    pub(super) provider: Arc<dyn Provider>,
    /// This gateway, for the other gateways of its service.
    pub(super) instance: Instance,
}

impl Pages {
    pub(super) fn metrics(&self, exchange: &Exchange<'_>) -> Answer {
        let stats = exchange.stats();
        let snapshot = self.calls.table.snapshot();
        let functions: Vec<_> = snapshot
            .values()
            .map(|function| (function.known.name.clone(), Arc::clone(&function.series)))
            .collect();
        let mut page = String::new();
        metrics::write(
            &metrics::Snapshot {
                version: env!("CARGO_PKG_VERSION"),
                functions: &functions,
                rejected: &self.calls.rejected,
                connections: &[
                    ("active", stats.connections_active),
                    ("closing", stats.connections_closing),
                    ("head", stats.connections_head),
                    ("idle", stats.connections_idle),
                ],
                workers: &[
                    ("busy", stats.workers_busy),
                    ("idle", stats.workers_idle),
                    ("queued", stats.waiting),
                ],
                provider_up: self.provider.problem().is_none(),
            },
            &mut page,
        );
        kit::process::write_metrics(&mut page);
        if exchange.config().tells_answers {
            access_log::write_metrics(&mut page);
        }
        answer(metrics::CONTENT_TYPE, page)
    }

    /// What this gateway tells the others of its service. The page has nothing that the metrics do not have.
    pub(super) fn load(&self) -> Answer {
        let (snapshot, now) = (self.calls.table.snapshot(), Instant::now());
        let functions = snapshot.iter().map(|(name, function)| {
            let in_flight = u32::try_from(function.series.inflight.get()).unwrap_or(u32::MAX);
            let kept = function.raised.replicas(now);
            (name, Load { in_flight, ended: function.series.invocations(), kept })
        });
        answer(TEXT, load::write(self.instance, functions))
    }

    pub(super) fn health(&self, is_draining: bool) -> Result<Answer, Failure> {
        if is_draining {
            return Err(Failure::Draining);
        }
        Ok(answer(
            TEXT,
            match self.provider.problem() {
                None => "ok\n".to_owned(),
                Some(problem) => kit::log::one_line(&format!("degraded: {problem}")),
            },
        ))
    }
}

/// Sends a browser on to the user interface.
pub(super) fn redirect_to_ui() -> Answer {
    let mut head = HeadWriter::response(302);
    head.text("Location", "/ui/");
    Answer::new(head, "")
}

fn answer(content_type: &str, page: String) -> Answer {
    let mut head = HeadWriter::response(200);
    head.text("Content-Type", content_type);
    Answer::new(head, page)
}
