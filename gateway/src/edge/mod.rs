//! The edge: what clients talk to. It routes a request, serves the gateway's own pages, and hands calls
//! to [`crate::call`].

mod admit;
mod body;
mod browser;
mod control;
mod guard;
mod guesses;
mod listeners;
mod pages;

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http1::{Exchange, HeadWriter, Length, Refusal, RequestHead, Service};
use kit::{Deadline, Guarded, duration};

use crate::access_log;
use crate::alexa;
use crate::call::{self, Calls, Invocation};
use crate::failure::{Failure, X_GATEWAY_ERROR, refusal_line};
use crate::function::FunctionName;
use crate::function::labels::LABEL_AUTH;
use crate::functions::Function;
use crate::kind::Kind;
use crate::load::Instance;
use crate::provider::Provider;
use crate::route::{Below, Route};
use body::whole_body;
pub(crate) use control::{ControlPlane, Door};
pub(crate) use guard::Guard;
use guesses::Watch;
use http1::forward::Upload;
use http1::server::{Answer, Answered, Course};
pub(crate) use listeners::Listeners;
use pages::Pages;

/// Unknown names make the provider look again at most this often.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a call for an unknown name waits for that look.
const LOOK_TIME: Duration = Duration::from_millis(500);

/// The bounds of a client's head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    pub(crate) max_header_bytes: usize,
    pub(crate) max_headers: usize,
}

/// What the edge serves its requests with.
pub(crate) struct Behind {
    /// This gateway, for the other gateways of its service.
    pub(crate) instance: Instance,
    pub(crate) calls: Arc<Calls>,
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) listeners: Listeners,
    pub(crate) guard: Guard,
    pub(crate) control: Door,
    pub(crate) head_limits: HeadLimits,
}

/// The service behind the gateway's port.
pub(crate) struct Edge {
    behind: Behind,
    pages: Pages,
    /// Who sends wrong passwords for which function.
    guesses: Watch<FunctionName>,
    /// When the provider was last asked for an unknown name, and whether it answered in time.
    last_look: Guarded<Option<(Instant, bool)>>,
}

impl Deref for Edge {
    type Target = Behind;

    fn deref(&self) -> &Behind {
        &self.behind
    }
}

impl Edge {
    pub(crate) fn new(behind: Behind) -> Arc<Edge> {
        let pages = Pages {
            calls: Arc::clone(&behind.calls),
            provider: Arc::clone(&behind.provider),
            instance: behind.instance,
        };
        Arc::new(Edge { behind, pages, guesses: Watch::new(LABEL_AUTH), last_look: Guarded::new(None) })
    }

    /// The limit that a head is over. Trusted proxies have added to what they took, under limits of their own.
    fn oversize(&self, exchange: &Exchange<'_>) -> Option<Refusal> {
        let request = exchange.request();
        let refusal = match request.size() > self.head_limits.max_header_bytes {
            true => Refusal::HeadTooLarge,
            false if request.headers().len() > self.head_limits.max_headers => Refusal::TooManyHeaders,
            false => return None,
        };
        (!self.calls.proxies.have(exchange.peer().ip())).then_some(refusal)
    }

    fn serve(&self, exchange: &mut Exchange<'_>) -> Result<(), Failure> {
        if let Some(refusal) = self.oversize(exchange) {
            exchange.refuse(refusal);
            return Ok(());
        }
        let route = Route::of_request(exchange.request());
        if let Some(answer) = self.own_answer(exchange, &route) {
            send(exchange, answer?);
            return Ok(());
        }
        match route {
            Route::Function { name, target } => {
                let function = self.find(name);
                let (name, target) = (name.to_owned(), target.below());
                self.call(exchange, function.ok_or_else(|| self.missing(name))?, target)
            }
            Route::Root { target } => {
                let target = target.below();
                self.alexa(exchange, target)
            }
            Route::Control => {
                let caller = self.guard.admit(exchange)?;
                self.control.serve(exchange, &caller)
            }
            _ => Err(Failure::NoRoute), // answered above
        }
    }

    fn call(
        &self,
        exchange: &mut Exchange<'_>,
        function: Arc<Function>,
        target: Below,
    ) -> Result<(), Failure> {
        if exchange.is_draining() {
            return Err(Failure::Draining);
        }
        let upload = self.admit(exchange, &function, None)?;
        let length = exchange.body_length();
        call::serve(&self.calls, exchange, Invocation { function, target, length, upload });
        Ok(())
    }

    /// A `POST /` without `X-Function`: its body says which function is meant, if it is from Alexa.
    fn alexa(&self, exchange: &mut Exchange<'_>, target: Below) -> Result<(), Failure> {
        let deadline = Deadline::after(self.calls.limits.upstream_timeout);
        let body = whole_body(exchange, (alexa::MAX_BODY_BYTES, Failure::NotAlexa), deadline)?;
        let name = alexa::intent(&body).ok_or(Failure::NotAlexa)?;
        let function = self.find(&name).ok_or_else(|| self.missing(name))?;
        if exchange.is_draining() {
            return Err(Failure::Draining);
        }
        let length = Length::Known(body.len() as u64);
        let upload = self.admit(exchange, &function, Some(body))?;
        call::serve(&self.calls, exchange, Invocation { function, target, length, upload });
        Ok(())
    }

    /// The function of that name. One that is not known makes the provider look once more, at most once a
    /// second for all unknown names together.
    fn find(&self, name: &str) -> Option<Arc<Function>> {
        if let Some(function) = self.calls.table.find(name) {
            return Some(function);
        }
        crate::function::name::valid(name.as_bytes())?;
        let now = Instant::now();
        {
            let mut last = self.last_look.lock();
            if last.is_some_and(|(last, _)| now.saturating_duration_since(last) < LOOK_INTERVAL) {
                return None;
            }
            *last = Some((now, true));
        }
        let is_answered = self.provider.look_for(name, Deadline::after(LOOK_TIME));
        *self.last_look.lock() = Some((now, is_answered));
        self.calls.table.find(name)
    }

    /// Why there is no such function. While the provider cannot be asked the function may exist all the same.
    fn missing(&self, name: String) -> Failure {
        let is_late = matches!(*self.last_look.lock(), Some((_, false)));
        let late = || format!("no answer within {}", duration::format(LOOK_TIME));
        match self.provider.problem().or_else(|| is_late.then(late)) {
            Some(problem) => Failure::ProviderDown(name, problem),
            None => Failure::UnknownFunction(name),
        }
    }

    /// The answer to a request that is neither a call nor for the control plane: a page, or why there is none.
    fn own_answer(&self, exchange: &Exchange<'_>, route: &Route<'_>) -> Option<Result<Answer, Failure>> {
        if let Err(failure) = self.listeners.check(route, exchange.listener()) {
            return Some(Err(failure));
        }
        Some(match route {
            Route::Metrics => self.guard.admit_to_metrics(exchange).map(|()| self.pages.metrics(exchange)),
            Route::Health => self.pages.health(exchange.is_draining()),
            Route::Load => Ok(self.pages.load()),
            Route::RedirectToUi => Ok(pages::redirect_to_ui()),
            Route::Async { .. } => Err(Failure::NotAvailable("asynchronous invocation")),
            Route::BadName => Err(Failure::BadName),
            Route::NamedTwice => Err(Failure::NamedTwice),
            Route::MethodNotAllowed { allow } => Err(Failure::MethodNotAllowed(allow)),
            Route::NotFound => Err(Failure::NoRoute),
            Route::Function { .. } | Route::Root { .. } | Route::Control => return None,
        })
    }

    /// The answer to a request that fails before it is a call. The failure is counted.
    fn refusal(&self, failure: &Failure) -> Answer {
        failure.count(&self.calls.rejected);
        Answer::new(failure.head(), failure.line(None))
    }
}

impl Service for Edge {
    fn call(&self, exchange: &mut Exchange<'_>) {
        let Err(failure) = self.serve(exchange) else { return };
        let answer = self.refusal(&failure);
        if failure == Failure::ClientGone {
            return exchange.abort();
        }
        send(exchange, answer);
    }

    /// The gateway's own pages: a gateway that is busy is not a sick one, and its figures must be seen.
    fn answer(&self, exchange: &Exchange<'_>) -> Option<Answer> {
        let request = exchange.request();
        if !Route::is_page(request.path()) || self.oversize(exchange).is_some() {
            return None;
        }
        let answer = self.own_answer(exchange, &Route::of_request(request))?;
        Some(answer.unwrap_or_else(|failure| self.refusal(&failure)))
    }

    fn relays(&self) -> bool {
        true
    }

    /// A call of a known function, or a failure that is known at once. Everything else may have to wait in ways that a
    /// poller must not.
    fn relay(self: Arc<Self>, exchange: &Exchange<'_>) -> Option<Course> {
        if self.oversize(exchange).is_some() {
            return None;
        }
        let route = Route::of_request(exchange.request());
        if let Some(answer) = self.own_answer(exchange, &route) {
            return Some(Course::Answer(answer.unwrap_or_else(|failure| self.refusal(&failure))));
        }
        let Route::Function { name, target } = route else { return None };
        let function = self.calls.table.find(name)?;
        if exchange.is_draining() {
            return Some(Course::Answer(self.refusal(&Failure::Draining)));
        }
        if !self.is_admitted(&function, exchange) {
            return None;
        }
        let (target, length) = (target.below(), exchange.body_length());
        Some(call::begin(
            &self.calls,
            exchange,
            Invocation { function, target, length, upload: Upload::default() },
        ))
    }

    fn awaits_body(&self, exchange: &Exchange<'_>) -> bool {
        self.admits(exchange)
    }

    fn is_proxy(&self, peer: IpAddr) -> bool {
        self.calls.proxies.have(peer)
    }

    fn client(&self, peer: IpAddr, request: &RequestHead) -> IpAddr {
        self.calls.proxies.client(peer, request.headers())
    }

    fn refused(&self, refusal: Refusal, head: &mut HeadWriter) {
        self.calls.rejected.count(Kind::Http(refusal));
        head.text(X_GATEWAY_ERROR, refusal.reason());
    }

    fn answered(&self, answered: &Answered<'_>) {
        access_log::write(answered, &self.calls.proxies);
    }

    fn line(&self, refusal: Refusal) -> String {
        refusal_line(refusal)
    }
}

/// Answers; an error means that nobody is left to be told.
fn send(exchange: &mut Exchange<'_>, answer: Answer) {
    if let Err(error) = exchange.send(answer) {
        log::debug!("answer not sent: {error}");
    }
}
