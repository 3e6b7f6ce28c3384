//! Which paths are served at which address. With `admin_listen` the control plane and the metrics are served at its
//! addresses alone, and functions at the others alone.

use crate::failure::Failure;
use crate::route::Route;

/// The listeners of the server: those for functions first, then those of `admin_listen`.
#[derive(Clone, Copy)]
pub(crate) struct Listeners {
    /// The number of the first listener of `admin_listen`. `usize::MAX` where each listener serves everything.
    first_admin: usize,
}

impl Listeners {
    /// `first_admin` is the number of the first listener of `admin_listen`, if there is one.
    pub(crate) fn new(first_admin: Option<usize>) -> Listeners {
        Listeners { first_admin: first_admin.unwrap_or(usize::MAX) }
    }

    /// Whether a client of this listener may call functions.
    pub(super) fn serve_functions(self, listener: usize) -> bool {
        listener < self.first_admin
    }

    /// Checks that the route is served at this listener.
    pub(super) fn check(self, route: &Route<'_>, listener: usize) -> Result<(), Failure> {
        if self.first_admin == usize::MAX {
            return Ok(());
        }
        let is_for_admin = match route {
            Route::Health
            | Route::BadName
            | Route::NamedTwice
            | Route::NotFound
            | Route::MethodNotAllowed { .. } => {
                return Ok(());
            }
            Route::Control | Route::Metrics | Route::RedirectToUi => true,
            Route::Function { .. } | Route::Root { .. } | Route::Async { .. } | Route::Load => false,
        };
        match self.serve_functions(listener) {
            is_main if is_main != is_for_admin => Ok(()),
            true => Err(Failure::NotHere("admin_listen")),
            false => Err(Failure::NotHere("listen, or at port")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_route_is_served_where_it_belongs() {
        let (one, two) = (Listeners::new(None), Listeners::new(Some(2)));
        for (request, at_main, at_admin) in [
            ("GET /healthz", true, true),
            ("GET /metrics", false, true),
            ("GET /system/info", false, true),
            ("POST /system/alert", false, true),
            ("GET /ui/", false, true),
            ("GET /", false, true),
            ("POST /", true, false),
            ("POST /function/one", true, false),
            ("POST /async-function/one", true, false),
            ("GET /load", true, false),
        ] {
            let (method, path) = request.split_once(' ').unwrap();
            let route = Route::of(method, path.as_bytes(), None, [].into_iter());
            for listener in 0..4 {
                assert_eq!(one.check(&route, listener), Ok(()), "{request}");
                let want = if listener < 2 { at_main } else { at_admin };
                assert_eq!(two.check(&route, listener).is_ok(), want, "{request} at {listener}");
            }
        }
        assert!(one.serve_functions(3) && two.serve_functions(1) && !two.serve_functions(2));
    }
}
