//! Which part of the gateway a request is for, from its method, path and `X-Function` header alone.
//!
//! Nothing is decoded: a function's name has no character that would need it, and what is below the
//! name reaches the function byte for byte.

use std::borrow::Cow;

use http1::RequestHead;

use crate::function::name;

/// Where a request goes. Names are valid but not necessarily known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// `/function/NAME…`, or `/` with `X-Function: NAME`.
    Function { name: &'a str, target: Target<'a> },
    /// `POST /` without `X-Function`: an Alexa request, or a mistake.
    Root { target: Target<'a> },
    /// A browser's `GET /`: sent on to the user interface.
    RedirectToUi,
    /// The metrics page.
    Metrics,
    /// The gateway's own health.
    Health,
    /// What other gateways of the service ask for.
    Load,
    /// `/system…` and `/ui…`.
    Control,
    /// `POST /async-function/NAME…`.
    Async { name: &'a str, target: Target<'a> },
    /// A place for a function's name, and no valid name in it: like an unknown function.
    BadName,
    /// More than one `X-Function`.
    NamedTwice,
    /// The path is known, the method is not for it; `allow` is the value of the `Allow` header.
    MethodNotAllowed { allow: &'static str },
    /// No such path.
    NotFound,
}

/// What the function gets to see as its request target: the path below its name, and the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    /// Begins with `/`, or is empty.
    path: &'a [u8],
    query: Option<&'a [u8]>,
}

impl Target<'_> {
    /// The same without the request that it was found in.
    pub(crate) fn below(self) -> Below {
        let query = self.query.map_or(0, |query| query.len() + 1);
        Below { length: self.path.len() + query }
    }
}

/// The end of a request's target that the function gets to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Below {
    length: usize,
}

impl Below {
    /// The bytes for the request line, of the target of the same request. Nothing behind a function's name is `/`.
    pub(crate) fn of(self, target: &[u8]) -> Cow<'_, [u8]> {
        match &target[target.len().saturating_sub(self.length)..] {
            below @ [b'/', ..] => Cow::Borrowed(below),
            [] => Cow::Borrowed(b"/"),
            below => Cow::Owned([b"/", below].concat()),
        }
    }
}

impl<'a> Route<'a> {
    /// Whether the gateway may have a page of its own at this path.
    pub(crate) fn is_page(path: &[u8]) -> bool {
        matches!(path, b"/" | b"/metrics" | b"/metrics/" | b"/healthz" | crate::load::PATH)
    }

    /// The route of a request.
    pub(crate) fn of_request(request: &'a RequestHead) -> Route<'a> {
        let x_function = request.headers().get_all("x-function");
        Route::of(request.method(), request.path(), request.query(), x_function)
    }

    /// The route of a request with these parts. `query` is what follows the `?` in the target. `x_function` has the
    /// fields of that name. An empty field counts as none, as in the 2017 release. Of two fields nobody knows which one
    /// the next server takes.
    pub(crate) fn of(
        method: &str,
        path: &'a [u8],
        query: Option<&'a [u8]>,
        x_function: impl Iterator<Item = &'a [u8]>,
    ) -> Route<'a> {
        match path {
            b"/" => of_root(method, Target { path, query }, x_function),
            b"/metrics" | b"/metrics/" => only_reads(method, Route::Metrics),
            b"/healthz" => only_reads(method, Route::Health),
            crate::load::PATH => only_reads(method, Route::Load),
            b"/system" | b"/ui" => Route::Control,
            _ if path.starts_with(b"/system/") || path.starts_with(b"/ui/") => Route::Control,
            _ => of_named(method, path, query),
        }
    }
}

fn of_root<'a>(
    method: &str,
    target: Target<'a>,
    mut x_function: impl Iterator<Item = &'a [u8]>,
) -> Route<'a> {
    let named = x_function.next().filter(|value| !value.is_empty());
    if x_function.next().is_some() {
        return Route::NamedTwice;
    }
    match (named, method) {
        (Some(value), _) => match name::valid(value) {
            Some(name) => Route::Function { name, target },
            None => Route::BadName,
        },
        (None, "POST") => Route::Root { target },
        (None, "GET" | "HEAD") => Route::RedirectToUi,
        (None, _) => Route::MethodNotAllowed { allow: "GET, HEAD, POST" },
    }
}

fn only_reads<'a>(method: &str, route: Route<'a>) -> Route<'a> {
    match method {
        "GET" | "HEAD" => route,
        _ => Route::MethodNotAllowed { allow: "GET, HEAD" },
    }
}

fn of_named<'a>(method: &str, path: &'a [u8], query: Option<&'a [u8]>) -> Route<'a> {
    let (is_async, below) = if let Some(below) = path.strip_prefix(b"/function/") {
        (false, below)
    } else if let Some(below) = path.strip_prefix(b"/async-function/") {
        (true, below)
    } else {
        return Route::NotFound;
    };
    let end = below.iter().position(|byte| *byte == b'/').unwrap_or(below.len());
    let (name, rest) = below.split_at(end);
    let target = Target { path: rest, query };
    match name::valid(name) {
        None => Route::BadName,
        Some(name) if !is_async => Route::Function { name, target },
        Some(name) if method == "POST" => Route::Async { name, target },
        Some(_) => Route::MethodNotAllowed { allow: "POST" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `method path?query` to a route, with the header if there is one.
    fn route<'a>(request: &'a str, x_function: Option<&'a str>) -> Route<'a> {
        let (method, target) = request.split_once(' ').unwrap();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.as_bytes())),
            None => (target, None),
        };
        Route::of(method, path.as_bytes(), query, x_function.map(str::as_bytes).into_iter())
    }

    fn check_function(request: &str, x_function: Option<&str>, want: (&str, &str)) {
        match route(request, x_function) {
            Route::Function { name, target } => {
                let whole = request.split_once(' ').unwrap().1.as_bytes();
                let target = String::from_utf8(target.below().of(whole).into_owned()).unwrap();
                assert_eq!((name, target.as_str()), want, "{request}");
            }
            other => panic!("{request}: expected a function, got {other:?}"),
        }
    }

    #[test]
    fn functions_get_the_path_below_their_name_untouched() {
        let cases = [
            ("POST /function/echo", ("echo", "/")),
            ("GET /function/echo", ("echo", "/")),
            ("BREW /function/echo", ("echo", "/")),
            ("POST /function/echo/", ("echo", "/")),
            ("POST /function/echo?", ("echo", "/?")),
            ("POST /function/echo?a=b?c", ("echo", "/?a=b?c")),
            ("POST /function/echo/a/b?q=%20", ("echo", "/a/b?q=%20")),
            ("POST /function/echo//a/../%2e%2E/./b/", ("echo", "//a/../%2e%2E/./b/")),
            ("POST /function/echo/?x", ("echo", "/?x")),
            ("POST /function/a.b-c_9/x", ("a.b-c_9", "/x")),
            ("POST /function/metrics", ("metrics", "/")),
        ];
        for (request, want) in cases {
            check_function(request, None, want);
            check_function(request, Some("other"), want); // the header counts on `/` alone
        }
    }

    #[test]
    fn the_header_names_a_function_on_the_root_path() {
        for method in ["GET", "POST", "HEAD", "DELETE"] {
            check_function(&format!("{method} /"), Some("echo"), ("echo", "/"));
            check_function(&format!("{method} /?a=b"), Some("echo"), ("echo", "/?a=b"));
        }
        for bad in ["a b", "../x", "é", "http://x", "a,b"] {
            assert_eq!(route("POST /", Some(bad)), Route::BadName, "{bad}");
        }
    }

    #[test]
    fn of_two_headers_that_name_a_function_none_counts() {
        for values in [["echo", "echo"], ["echo", "other"], ["echo", ""], ["", "echo"], ["", ""]] {
            let named = |path: &'static [u8]| {
                Route::of("POST", path, None, values.iter().map(|value| value.as_bytes()))
            };
            assert_eq!(named(b"/"), Route::NamedTwice, "{values:?}");
            assert_eq!(named(b"/healthz"), Route::MethodNotAllowed { allow: "GET, HEAD" });
        }
    }

    #[test]
    fn the_root_path_without_a_function() {
        for header in [None, Some("")] {
            assert!(matches!(route("POST /", header), Route::Root { .. }));
            assert_eq!(route("GET /", header), Route::RedirectToUi);
            assert_eq!(route("HEAD /?x", header), Route::RedirectToUi);
            for method in ["PUT", "DELETE", "post", "OPTIONS"] {
                let want = Route::MethodNotAllowed { allow: "GET, HEAD, POST" };
                assert_eq!(route(&format!("{method} /"), header), want);
            }
        }
        match route("POST /?locale=de", None) {
            Route::Root { target } => assert_eq!(target.below().of(b"/?locale=de"), &b"/?locale=de"[..]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn everything_else() {
        let reads = Route::MethodNotAllowed { allow: "GET, HEAD" };
        let cases = [
            ("GET /metrics", Route::Metrics),
            ("HEAD /metrics/", Route::Metrics),
            ("GET /metrics?x=y", Route::Metrics),
            ("POST /metrics", reads),
            ("GET /metrics/x", Route::NotFound),
            ("GET /healthz", Route::Health),
            ("HEAD /healthz", Route::Health),
            ("PUT /healthz", reads),
            ("GET /load", Route::Load),
            ("POST /load", reads),
            ("GET /load/", Route::NotFound),
            ("GET /loads", Route::NotFound),
            ("GET /healthz/", Route::NotFound),
            ("GET /system", Route::Control),
            ("DELETE /system/functions", Route::Control),
            ("GET /ui", Route::Control),
            ("GET /ui/", Route::Control),
            ("GET /uix", Route::NotFound),
            ("GET /systems/x", Route::NotFound),
            ("POST /function", Route::NotFound),
            ("POST /function/", Route::BadName),
            ("POST /function//x", Route::BadName),
            ("POST /function/../metrics", Route::BadName),
            ("POST /function/%65cho", Route::BadName),
            ("POST /functions/echo", Route::NotFound),
            ("POST /Function/echo", Route::NotFound),
            ("GET /async-function/echo", Route::MethodNotAllowed { allow: "POST" }),
            ("POST /async-function/", Route::BadName),
            ("GET /async-function/.x", Route::BadName),
            ("OPTIONS *", Route::NotFound),
            ("GET ", Route::NotFound),
            ("GET //", Route::NotFound),
            ("GET /favicon.ico", Route::NotFound),
        ];
        for (request, want) in cases {
            assert_eq!(route(request, None), want, "{request}");
        }
    }

    #[test]
    fn asynchronous_calls_keep_their_target_too() {
        match route("POST /async-function/echo/a?b", None) {
            Route::Async { name, target } => {
                assert_eq!((name, &*target.below().of(b"/function/echo/a?b")), ("echo", &b"/a?b"[..]));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_name_at_its_limit() {
        let longest = "n".repeat(crate::function::name::MAX_NAME_BYTES);
        check_function(&format!("POST /function/{longest}/p"), None, (&longest, "/p"));
        assert_eq!(route(&format!("POST /function/{longest}n/p"), None), Route::BadName);
    }
}
