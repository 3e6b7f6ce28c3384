//! Which part of the control plane a request is for.

use super::answer::Problem;
use crate::function::name;

/// Where a request goes. Names are valid but not necessarily known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Functions,
    Function(&'a str),
    Scale(&'a str),
    Alert,
    Info,
}

/// The route of a request; `target` is its path, with a query or without.
///
/// # Errors
/// What the answer says.
pub(super) fn route<'a>(method: &str, target: &'a str) -> Result<Route<'a>, Problem> {
    let path = target.split('?').next().unwrap_or_default();
    if path == "/ui" || path.starts_with("/ui/") {
        return Err(Problem::NoUi);
    }
    let below = path.strip_prefix("/system/").ok_or(Problem::NoRoute)?;
    let (first, rest) = below.split_once('/').map_or((below, None), |(first, rest)| (first, Some(rest)));
    let (route, is_read): (fn(&'a str) -> Route<'a>, bool) = match first {
        "functions" => (|_| Route::Functions, true),
        "info" => (|_| Route::Info, true),
        "alert" => (|_| Route::Alert, false),
        "function" => (Route::Function, true),
        "scale-function" => (Route::Scale, false),
        _ => return Err(Problem::NoRoute),
    };
    let is_named = matches!(first, "function" | "scale-function");
    if is_named != rest.is_some() {
        return Err(Problem::NoRoute);
    }
    match (is_read, method) {
        (true, "GET" | "HEAD") | (false, "POST") => {}
        (true, _) => return Err(Problem::MethodNotAllowed("GET, HEAD")),
        (false, _) => return Err(Problem::MethodNotAllowed("POST")),
    }
    let rest = rest.unwrap_or_default();
    match is_named && name::valid(rest.as_bytes()).is_none() {
        true => Err(Problem::BadName),
        false => Ok(route(rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods() {
        let reads = Err(Problem::MethodNotAllowed("GET, HEAD"));
        let writes = Err(Problem::MethodNotAllowed("POST"));
        let cases = [
            ("GET /system/functions", Ok(Route::Functions)),
            ("HEAD /system/functions?x=/y", Ok(Route::Functions)),
            ("POST /system/functions", reads.clone()),
            ("GET /system/function/echo", Ok(Route::Function("echo"))),
            ("GET /system/function/a.b-c_9?", Ok(Route::Function("a.b-c_9"))),
            ("DELETE /system/function/echo", reads.clone()),
            ("POST /system/scale-function/echo", Ok(Route::Scale("echo"))),
            ("GET /system/scale-function/echo", writes.clone()),
            ("POST /system/alert", Ok(Route::Alert)),
            ("HEAD /system/alert", writes),
            ("GET /system/info", Ok(Route::Info)),
            ("post /system/info", reads),
            ("GET /system", Err(Problem::NoRoute)),
            ("GET /system/", Err(Problem::NoRoute)),
            ("GET /system/functions/", Err(Problem::NoRoute)),
            ("GET /system/info/x", Err(Problem::NoRoute)),
            ("GET /system/function", Err(Problem::NoRoute)),
            ("GET /system/function/", Err(Problem::BadName)),
            ("GET /system/function/a/b", Err(Problem::BadName)),
            ("GET /system/function/%65cho", Err(Problem::BadName)),
            ("GET /system/function/..", Err(Problem::BadName)),
            ("GET //system/functions", Err(Problem::NoRoute)),
            ("GET /healthz", Err(Problem::NoRoute)),
            ("GET http://x/system/info", Err(Problem::NoRoute)),
            ("GET /ui", Err(Problem::NoUi)),
            ("POST /ui/x", Err(Problem::NoUi)),
            ("GET /uix", Err(Problem::NoRoute)),
            ("GET ", Err(Problem::NoRoute)),
        ];
        for (request, want) in cases {
            let (method, target) = request.split_once(' ').unwrap();
            assert_eq!(route(method, target), want, "{request}");
        }
    }
}
