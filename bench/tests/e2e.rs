//! The cost of a request, counted with the static binaries that are shipped: others take other instructions.

use bench::backend::Backend;
use bench::instructions::{BUDGETS, Plan};

/// Work that goes by the clock and not by the request adds some instructions on a busy machine, so the least counts.
const PAIRS: usize = 3;

#[test]
#[ignore = "needs dist/: make test-e2e"]
fn a_request_keeps_to_its_budget_of_instructions() {
    if !testkit::is_installed("valgrind") {
        return;
    }
    let (backend, binaries) = (Backend::start(), testkit::workspace().join("dist"));
    for budget in BUDGETS {
        let (subject, upstream) = (budget.subject, backend.addr());
        let plan = Plan { subject, binaries: &binaries, upstream, requests: 300 };
        let count = |_| plan.count(false).unwrap_or_else(|error| panic!("{error}")).each;
        let mut counts = (0..PAIRS).map(count);
        let mut least = f64::INFINITY;
        let is_within = counts.any(|each| {
            least = least.min(each);
            least <= budget.limit as f64
        });
        assert!(is_within, "{}: {least} instructions of {} for one request", budget.subject, budget.limit);
    }
}
