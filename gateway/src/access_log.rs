//! The access log: a line on STDOUT for each request, `time key=value …`. A line that nobody reads in time is lost and
//! counted, as those of the log are.

use http1::server::Answered;
use kit::call;
use kit::exposition::{self, Value};
use kit::log::{Lines, stamped};
use kit::number::push_seconds;
use kit::sys::Output;

use crate::failure::CLIENT_GONE;
use crate::proxies::Proxies;
use crate::route::Route;

/// What stands for a value that there is not.
const NONE: &str = "-";

static LINES: Lines = Lines::new(Output::Out, |lost| stamped(&format!("lost={lost}")));

/// To be called before threads are started, see [`Output::open_again`].
pub(crate) fn open() {
    Output::Out.open_again();
}

/// Writes the line of a request. The client is the one that `proxies` tell of.
pub(crate) fn write(answered: &Answered<'_>, proxies: &Proxies) {
    LINES.write(&stamped(&line(answered, proxies)));
}

/// Appends the count of lost lines in the Prometheus text format.
pub(crate) fn write_metrics(page: &mut String) {
    let help = "Lines of the access log that nobody read in time.";
    exposition::single(
        page,
        ["gateway_access_log_lines_lost_total", "counter", help],
        Value::Count(LINES.lost()),
    );
}

fn line(answered: &Answered<'_>, proxies: &Proxies) -> String {
    let mut client = answered.peer.ip().to_canonical();
    let (mut method, mut function, mut id) = (NONE, NONE, None);
    if let Some(request) = answered.request {
        let headers = request.headers();
        client = proxies.client(client, headers);
        method = request.method();
        let x_function = headers.get_all("x-function");
        let route = Route::of(method, request.path(), request.query(), x_function);
        if let Route::Function { name, .. } | Route::Async { name, .. } = route {
            function = name;
        }
        id = headers.get(call::ID).and_then(call::id);
    }
    let id = call_id(answered.head).or(id).unwrap_or(NONE);
    let status = answered.status.unwrap_or(CLIENT_GONE);
    let bytes = answered.bytes;
    let mut line =
        format!("peer={client} method={method} function={function} status={status} bytes={bytes} duration=");
    push_seconds(&mut line, answered.took);
    line + " call=" + id
}

/// The name of the call, as the head of its answer tells it.
fn call_id(head: &[u8]) -> Option<&str> {
    let lines = head.split(|byte| *byte == b'\n').take_while(|line| line.len() > 1);
    lines.filter_map(|line| line.split_at_checked(call::ID.len())).find_map(|(name, rest)| {
        let value = rest.strip_prefix(b": ").filter(|_| name.eq_ignore_ascii_case(call::ID.as_bytes()))?;
        call::id(value.trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http1::RequestHead;
    use std::time::Duration;

    #[test]
    fn a_line_tells_of_the_client_behind_its_proxy() {
        let bytes = b"POST /function/echo/x HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 9.9.9.9, 1.2.3.4\r\n\r\n";
        let request = RequestHead::parse(bytes.to_vec(), 9).unwrap();
        let answered = Answered {
            peer: "[::ffff:10.0.0.1]:5".parse().unwrap(),
            request: Some(&request),
            status: Some(200),
            head: b"HTTP/1.1 200 OK\r\nX-Call-Id: c1\r\n\r\nX-Call-Id: no\r\n",
            bytes: 12,
            took: Duration::from_millis(34),
        };
        let rest = "method=POST function=echo status=200 bytes=12 duration=0.034 call=c1";
        let proxies = Proxies::parse("10.0.0.0/8").unwrap();
        assert_eq!(line(&answered, &proxies), format!("peer=1.2.3.4 {rest}"));
        assert_eq!(line(&answered, &Proxies::default()), format!("peer=10.0.0.1 {rest}"));
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        let peer = "[fd00::1]:5".parse().unwrap();
        let refused =
            Answered { peer, request: None, status: None, head: b"", bytes: 0, took: Duration::ZERO };
        let want = "peer=fd00::1 method=- function=- status=499 bytes=0 duration=0.000 call=-";
        assert_eq!(line(&refused, &Proxies::default()), want);
    }
}
