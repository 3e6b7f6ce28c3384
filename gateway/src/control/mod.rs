//! The control plane lists and scales functions. It is a server of its own on a private UNIX socket; the edge
//! authenticates its callers. The keeper, a thread, starts a new server when one dies or hangs. Calls to functions do
//! not notice.

mod alert;
mod answer;
mod plane;
mod route;
mod server;
mod shapes;
mod socket;
mod state_dir;
mod temporary;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, MutexGuard, Weak};
use std::time::{Duration, Instant};

use kit::guarded::wait_while;
use kit::thread::Joined;
use kit::{Backoff, Deadline, Guarded};

use crate::functions::Table;
use crate::provider::Provider;
use plane::Plane;
use server::{Generation, Threads};
pub(crate) use socket::Error;
use socket::Place;

/// The largest body of a request: a thousand alerts with all that Alertmanager tells of them.
pub(crate) const MAX_BODY_BYTES: usize = 1 << 20;

/// Threads that answer: while one waits for the engine, others list functions.
const THREADS: usize = 3;

/// The most threads, including those of earlier servers that hang in a request. With this many, the keeper starts no
/// server until a thread ends: more servers would hang too.
const MAX_THREADS: usize = 4 * THREADS;

/// The parts of the gateway that the control plane works with.
pub(crate) struct Setup {
    pub(crate) table: Arc<Table>,
    pub(crate) provider: Arc<dyn Provider>,
    /// The directory of the socket, if the setting names one.
    pub(crate) state_dir: Option<PathBuf>,
    /// Otherwise the control plane makes a directory of its own in here.
    pub(crate) temporary: Option<PathBuf>,
}

/// A reason for the keeper to check the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suspicion {
    /// The server may have died: the keeper checks whether anybody listens.
    Gone,
    /// The server took a request and did not answer.
    Hangs,
}

/// The control plane.
pub(crate) struct Control {
    shared: Arc<Shared>,
    keeper: Joined,
}

struct Shared {
    state: Guarded<State>,
    changed: Condvar,
}

struct State {
    /// The socket, and how many servers there were before this one; or why there is none.
    socket: Result<PathBuf, String>,
    number: u64,
    suspicion: Option<Suspicion>,
    is_stopping: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn suspect(&self, suspicion: Suspicion, number: Option<u64>) {
        let mut state = self.state();
        if number.is_none_or(|number| number == state.number) && state.suspicion != Some(Suspicion::Hangs) {
            state.suspicion = Some(suspicion);
            self.changed.notify_all();
        }
    }

    /// Waits for a suspicion; `None` means that the gateway stops.
    fn wait(&self) -> Option<Suspicion> {
        let nothing_to_do = |state: &State| !state.is_stopping && state.suspicion.is_none();
        let mut state = wait_while(&self.changed, self.state(), Deadline::NEVER, nothing_to_do);
        if state.is_stopping { None } else { state.suspicion.take() }
    }

    /// Waits for `span`. Returns false when the gateway stops.
    fn pause(&self, span: Duration) -> bool {
        let until = Deadline::after(span);
        !wait_while(&self.changed, self.state(), until, |state| !state.is_stopping).is_stopping
    }
}

impl Control {
    /// Starts the server. If that fails the log says why once, and the keeper tries again.
    ///
    /// # Errors
    /// [`Error::Taken`], [`Error::Unsafe`], or when there is no room for another thread.
    pub(crate) fn start(setup: Setup) -> Result<Control, Error> {
        let state =
            State { socket: Err("not started".to_owned()), number: 0, suspicion: None, is_stopping: false };
        let shared = Arc::new(Shared { state: Guarded::new(state), changed: Condvar::new() });
        tell_of_panics(Arc::downgrade(&shared));
        let clone = Arc::clone(&shared);
        let mut keeper = Keeper {
            plane: Arc::new(Plane { table: setup.table, provider: setup.provider }),
            state_dir: setup.state_dir,
            temporary: setup.temporary,
            place: None,
            threads: Arc::new(Threads::new()),
            died: Arc::new(move || clone.suspect(Suspicion::Gone, None)),
            generation: None,
            since: Instant::now(),
            shared: Arc::clone(&shared),
        };
        match keeper.start() {
            Err(error @ (Error::Taken(_) | Error::Unsafe(_))) => return Err(error),
            Err(error) => keeper.failed(&error),
            Ok(()) => {}
        }
        let thread = Joined::start("control-keeper", move || keeper.run());
        let keeper = thread.map_err(|error| Error::System(PathBuf::from("control-keeper"), error))?;
        Ok(Control { shared, keeper })
    }

    /// The path of the socket, and the number of the server behind it.
    ///
    /// # Errors
    /// Why no server listens.
    pub(crate) fn socket(&self) -> Result<(PathBuf, u64), String> {
        let state = self.shared.state();
        state.socket.clone().map(|path| (path, state.number))
    }

    /// Reports a suspicion about the server with that number.
    pub(crate) fn suspect(&self, suspicion: Suspicion, number: u64) {
        self.shared.suspect(suspicion, Some(number));
    }

    /// Ends the server and removes its socket. Requests in progress are not waited for.
    pub(crate) fn stop(&self) {
        self.shared.state().is_stopping = true;
        self.shared.changed.notify_all();
        self.keeper.join();
    }
}

/// Threads without a name are tiny_http's. When one panics, as its accepting thread does without free descriptors, the
/// log says so and the keeper checks the server.
fn tell_of_panics(shared: Weak<Shared>) {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name().is_some() {
            return usual(panic);
        }
        log::warn!("a thread of the control plane ended: {}", panic.to_string().replace('\n', " "));
        if let Some(shared) = shared.upgrade() {
            shared.suspect(Suspicion::Gone, None);
        }
    }));
}

/// The thread that keeps the server up.
struct Keeper {
    plane: Arc<Plane>,
    state_dir: Option<PathBuf>,
    temporary: Option<PathBuf>,
    place: Option<Place>,
    threads: Arc<Threads>,
    died: Arc<dyn Fn() + Send + Sync>,
    generation: Option<Generation>,
    /// When it was started.
    since: Instant,
    shared: Arc<Shared>,
}

impl Keeper {
    fn run(mut self) {
        let mut backoff = Backoff::default();
        while self.generation.is_some() || self.start_again(&mut backoff) {
            match self.shared.wait() {
                None => break,
                Some(Suspicion::Hangs) => {
                    log::error!("the control plane hangs and is started again");
                    self.end();
                }
                Some(Suspicion::Gone) => match self.is_alive() {
                    Ok(true) => {}
                    Ok(false) => {
                        log::error!("the control plane is gone and is started again");
                        self.end();
                    }
                    // It is not known; without files nothing can be mended either.
                    Err(error) => {
                        log::debug!("cannot tell whether the control plane is there: {error}");
                        self.shared.suspect(Suspicion::Gone, None);
                        if !self.shared.pause(backoff.failed(self.since.elapsed())) {
                            break;
                        }
                    }
                },
            }
        }
        self.end();
        if let Some(place) = &self.place {
            place.remove();
        }
    }

    /// Whether the socket leads to this gateway.
    fn is_alive(&self) -> std::io::Result<bool> {
        let path = self.place.as_ref().map(Place::socket);
        path.map_or(Ok(false), |path| socket::is_own(&path))
    }

    fn end(&mut self) {
        if let Some(generation) = self.generation.take() {
            self.shared.state().socket = Err("it is being started again".to_owned());
            generation.end();
        }
    }

    /// Starts until it works; false at the end.
    fn start_again(&mut self, backoff: &mut Backoff) -> bool {
        loop {
            if !self.shared.pause(backoff.failed(self.since.elapsed())) {
                return false;
            }
            match self.start() {
                Ok(()) => {
                    log::info!("the control plane runs again");
                    return true;
                }
                Err(error) => self.failed(&error),
            }
        }
    }

    fn start(&mut self) -> Result<(), Error> {
        self.since = Instant::now();
        let place = match self.place.take() {
            Some(place) => place,
            None => Place::find(self.state_dir.as_deref(), self.temporary.as_deref())?,
        };
        let place = self.place.insert(place);
        let path = place.socket();
        if self.threads.count() + THREADS > MAX_THREADS {
            let why = std::io::Error::other("too many requests to it hang");
            return Err(Error::System(path, why));
        }
        let listener = place.listen()?;
        let generation = Generation::start(listener, &self.plane, &self.threads, &self.died);
        self.generation = Some(generation.map_err(|error| Error::System(path.clone(), error))?);
        let mut state = self.shared.state();
        (state.socket, state.suspicion) = (Ok(path), None);
        state.number += 1;
        Ok(())
    }

    /// Says once what keeps it from starting.
    fn failed(&self, error: &Error) {
        let problem = error.to_string();
        let mut state = self.shared.state();
        if state.socket.as_ref() != Err(&problem) {
            log::warn!("no control plane, /system answers 503: {problem}");
            state.socket = Err(problem);
        }
    }
}

/// Whether a gateway may have its socket in `state_dir`, to be asked before anything is started.
///
/// # Errors
/// Where it is no directory, another gateway's, or one to which others may write.
pub(crate) fn check(state_dir: &Path) -> Result<(), Error> {
    state_dir::check(state_dir)?;
    socket::check(state_dir)
}

/// Readies `state_dir` for a gateway that is root and will be `user`: it is the gateway's own.
pub(crate) fn hand_over(state_dir: &Path, user: u32) {
    if let Err(error) = state_dir::hand_over(state_dir, user) {
        log::warn!("failed to give {} to user {user}, see state_dir: {error}", state_dir.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::{Known, Sink as _};
    use crate::provider::ScaleError;
    use http1::{ClientConfig, Endpoint, Pool, Request};
    use kit::Deadline;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    use std::sync::Mutex;

    const SOON: Duration = Duration::from_secs(30);

    /// A provider that has nothing done until its gate is opened.
    #[derive(Default)]
    struct Gated(Mutex<(bool, usize)>, Condvar);

    impl Gated {
        fn open(&self) {
            self.0.lock().unwrap().0 = true;
            self.1.notify_all();
        }

        fn wait_for(&self, waiting: usize) {
            let state = self.0.lock().unwrap();
            let (state, _) = self.1.wait_timeout_while(state, SOON, |state| state.1 < waiting).unwrap();
            assert_eq!(state.1, waiting);
        }
    }

    impl Provider for Gated {
        fn name(&self) -> &'static str {
            "local"
        }

        fn scale(&self, _: &str, _: Option<u32>, _: u32) -> Result<(), ScaleError> {
            let mut state = self.0.lock().unwrap();
            state.1 += 1;
            self.1.notify_all();
            drop(self.1.wait_while(state, |state| !state.0).unwrap());
            Ok(())
        }

        fn stop(&self, _: Deadline) {}
    }

    /// Waits until the control plane is as `is` wants it.
    fn until<T>(control: &Control, is: impl Fn(Result<(PathBuf, u64), String>) -> Option<T>) -> T {
        let deadline = Deadline::after(SOON);
        loop {
            match is(control.socket()) {
                Some(found) => return found,
                None => assert!(!deadline.has_passed(), "{:?}", control.socket()),
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_hangs_is_left_to_itself_up_to_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        let table = Arc::new(Table::empty());
        table.set(vec![Known::named("one")]);
        let provider = Arc::new(Gated::default());
        let control = Control::start(Setup {
            table,
            provider: Arc::clone(&provider) as Arc<dyn Provider>,
            state_dir: Some(folder.path().to_owned()),
            temporary: None,
        });
        let control = control.unwrap();
        let mut held = Vec::new();
        for number in 1..=(MAX_THREADS / THREADS) as u64 {
            let path = until(&control, |socket| socket.ok().filter(|(_, now)| *now == number)).0;
            for _ in 0..THREADS {
                let mut stream = UnixStream::connect(&path).unwrap();
                let head = b"POST /system/scale-function/one HTTP/1.1\r\nContent-Length: 15\r\n\r\n{\"replicas\": 2}";
                stream.write_all(head).unwrap();
                held.push(stream);
            }
            provider.wait_for(THREADS * number as usize);
            control.suspect(Suspicion::Hangs, number + 1);
            control.suspect(Suspicion::Hangs, number - 1);
            assert!(control.socket().is_ok(), "that was another server");
            control.suspect(Suspicion::Hangs, number);
        }
        until(&control, |socket| socket.err().filter(|why| why.contains("too many requests to it hang")));
        assert!(!folder.path().join("control.sock").exists());
        provider.open();
        let path = until(&control, Result::ok).0;
        let pool = Pool::new(Endpoint::Unix(path), ClientConfig::default());
        assert_eq!(pool.send(&Request::get("/system/info"), Deadline::after(SOON)).unwrap().status(), 200);
        control.stop();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
