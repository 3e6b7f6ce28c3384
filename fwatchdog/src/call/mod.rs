//! One call: a process of its own serves it ([`run`]), or the process that stays does ([`forward`]).

mod after_answer;
pub(crate) mod context;
pub(crate) mod forward;
mod relay;
mod run;
mod time_limit;

use http1::Exchange;

use crate::function::Function;
use context::Call;
use forward::Tried;

pub(crate) use run::Served;

/// Serves one request.
pub(crate) fn serve(function: &'static Function, exchange: &mut Exchange<'_>) -> Served {
    let call = Call::new(function, exchange);
    if call.deadline.has_passed() {
        return call.answer_timeout(exchange).into();
    }
    match &function.resident {
        Some(resident) => call.forward(exchange, resident, Tried::default()).into(),
        None => call.serve(exchange),
    }
}
