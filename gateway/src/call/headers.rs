//! The heads that cross the gateway: what is dropped, what is added.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http1::writer::is_taken_for;
use http1::{HeadWriter, Headers, RequestHead, ResponseHead};
use kit::call::{self, CallId};

use crate::failure::X_GATEWAY_ERROR;
use crate::proxies::{Proxies, X_FORWARDED_FOR, tells_the_way};

/// It means nothing, and programs with the Common Gateway Interface take it for their own proxy setting (httpoxy,
/// CVE-2016-5385).
const PROXY: &str = "Proxy";
const X_FORWARDED_HOST: &str = "X-Forwarded-Host";
const X_FORWARDED_PROTO: &str = "X-Forwarded-Proto";
const X_DURATION_SECONDS: &str = "X-Duration-Seconds";

/// The fields of an answer that only the gateway writes.
const OURS: [&str; 4] = [call::ID, X_DURATION_SECONDS, call::COLD_START_MS, X_GATEWAY_ERROR];

/// What a caller asks of the gateway in fields that functions get with other values.
#[derive(Default)]
pub(super) struct Asked<'a> {
    /// The caller's own name for the call.
    pub(super) id: Option<&'a str>,
    /// The caller's own limit for the call.
    pub(super) timeout: Option<Duration>,
}

impl<'a> Asked<'a> {
    /// Reads the first field of each name. A value that cannot be read counts as none.
    pub(super) fn of(request: &'a RequestHead) -> Asked<'a> {
        let headers = request.headers();
        Asked {
            id: headers.get(call::ID).and_then(call::id),
            timeout: headers.get(call::TIMEOUT).and_then(call::time_limit),
        }
    }
}

/// What the head for the function tells besides the request.
pub(super) struct Way<'a> {
    pub(super) id: &'a CallId,
    pub(super) target: &'a [u8],
    pub(super) peer: SocketAddr,
    /// Whose word about the client counts.
    pub(super) proxies: &'a Proxies,
    /// Whether fields with `_` in their names go on.
    pub(super) keeps_underscores: bool,
    /// The replica's address, for callers of HTTP/1.0 that name no host.
    pub(super) address: SocketAddr,
    /// What is left of the call's time, if that is limited.
    pub(super) left: Option<Duration>,
    /// Whether `Authorization` is for the gateway.
    pub(super) takes_authorization: bool,
}

/// The head that goes to the function.
pub(super) fn to_function(request: &RequestHead, way: &Way<'_>) -> HeadWriter {
    let headers = request.headers();
    let mut head = HeadWriter::request(request.method(), way.target);
    let host = headers.get("host");
    if host.is_none() {
        head.text("Host", &way.address.to_string());
    }
    let is_proxy = way.proxies.have(way.peer.ip());
    let drops_underscores = !way.keeps_underscores && headers.have_underscores();
    head.forward(headers, &|name| {
        drops_underscores && has_underscore(name, way.id) || is_left_out(name, way, is_proxy)
    });
    head.header(call::ID, way.id.as_bytes());
    match is_proxy {
        true => pass_the_way_on(&mut head, headers, way.peer.ip()),
        false => {
            head.address(X_FORWARDED_FOR, way.peer.ip());
            host.map(|host| head.header(X_FORWARDED_HOST, host));
            head.line("X-Forwarded-Proto: http\r\n");
        }
    }
    if let Some(protocol) = request.upgrade() {
        head.upgrade(protocol);
    }
    if let Some(left) = way.left {
        head.number(call::TIMEOUT, (left.as_millis() as u64).max(1), "ms");
    }
    head
}

/// Whether a field of the call `id` stays here for its name.
fn has_underscore(name: &[u8], id: &CallId) -> bool {
    let has = name.contains(&b'_');
    if has {
        log::debug!("call {id}: left out {}: its name has a `_`, see underscores", name.escape_ascii());
    }
    has
}

/// Whether a client's field stays here: the gateway writes or reads that field, or programs could take the field for
/// another one.
fn is_left_out(name: &[u8], way: &Way<'_>, is_proxy: bool) -> bool {
    match name {
        [b'A' | b'a', ..] => way.takes_authorization && name.eq_ignore_ascii_case(b"Authorization"),
        [b'X' | b'x', ..] => {
            let ours =
                if is_proxy { &[X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO][..] } else { &[] };
            is_one_of(name, &[call::ID, call::TIMEOUT])
                || is_one_of(name, ours)
                || !is_proxy && tells_the_way(name)
        }
        [b'E' | b'e', ..] => is_taken_for(name, "Expect"),
        [b'P' | b'p', ..] => is_taken_for(name, PROXY),
        [b'F' | b'f', ..] => !is_proxy && tells_the_way(name),
        _ => false,
    }
}

/// Adds to what a trusted proxy says of the way of a request. From others nothing of it is believed.
fn pass_the_way_on(head: &mut HeadWriter, headers: Headers<'_>, peer: IpAddr) {
    match joined(headers, X_FORWARDED_FOR) {
        None => head.address(X_FORWARDED_FOR, peer),
        Some(hops) => head.header(X_FORWARDED_FOR, &[&hops, peer.to_string().as_bytes()].join(&b", "[..])),
    };
    if let Some(host) = joined(headers, X_FORWARDED_HOST).as_deref().or(headers.get("host")) {
        head.header(X_FORWARDED_HOST, host);
    }
    head.header(X_FORWARDED_PROTO, joined(headers, X_FORWARDED_PROTO).as_deref().unwrap_or(b"http"));
}

/// All values of a field as one list, unless all of them are empty.
fn joined(headers: Headers<'_>, name: &str) -> Option<Vec<u8>> {
    let values: Vec<&[u8]> = headers.get_all(name).filter(|value| !value.is_empty()).collect();
    (!values.is_empty()).then(|| values.join(&b", "[..]))
}

fn is_one_of(name: &[u8], names: &[&str]) -> bool {
    names.iter().any(|one| is_taken_for(name, one))
}

/// What the head of an answer tells besides the function's own fields.
pub(super) struct Answer<'a> {
    pub(super) id: &'a CallId,
    pub(super) took: Duration,
    /// How long the call waited for a first replica. How long it waited there for a process, the replica tells.
    pub(super) cold_start: Option<Duration>,
}

/// The head that goes back to the client.
pub(super) fn to_client(response: &ResponseHead, answer: &Answer<'_>) -> HeadWriter {
    let headers = response.headers();
    let mut head = HeadWriter::response(response.status());
    head.forward(headers, &|name| matches!(name, [b'X' | b'x', ..]) && is_one_of(name, &OURS));
    if response.status() < 200 {
        return head; // of the answer nothing is known yet
    }
    own(&mut head, answer.id, answer.took);
    let theirs = headers.get(call::COLD_START_MS).and_then(|value| str::from_utf8(value).ok()?.parse().ok());
    let waits = [answer.cold_start.map(|waited| waited.as_millis() as u64), theirs];
    if let Some(waited) = waits.into_iter().flatten().reduce(u64::saturating_add) {
        head.number(call::COLD_START_MS, waited, "");
    }
    head
}

/// What every answer to a call carries.
pub(super) fn own(head: &mut HeadWriter, id: &CallId, took: Duration) {
    head.header(call::ID, id.as_bytes());
    head.seconds(X_DURATION_SECONDS, took);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::LazyLock;

    fn request(fields: &str) -> RequestHead {
        RequestHead::parse(format!("POST /x HTTP/1.1\r\n{fields}\r\n").into_bytes(), 128).unwrap()
    }

    static ID: LazyLock<CallId> = LazyLock::new(|| CallId::of(Some("id1"), || 0));
    static NOBODY: LazyLock<Proxies> = LazyLock::new(Proxies::default);
    static PROXY: LazyLock<Proxies> = LazyLock::new(|| Proxies::parse("10.1.2.3").unwrap());

    fn way() -> Way<'static> {
        Way {
            id: &ID,
            target: b"/a?b",
            peer: "10.1.2.3:4".parse().unwrap(),
            proxies: &NOBODY,
            keeps_underscores: false,
            address: "10.0.0.9:8080".parse().unwrap(),
            left: Some(Duration::from_millis(4812)),
            takes_authorization: false,
        }
    }

    fn ours(took: Duration, cold_start: Option<Duration>) -> Answer<'static> {
        Answer { id: &ID, took, cold_start }
    }

    fn written(head: HeadWriter) -> String {
        String::from_utf8(head.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_request_keeps_what_is_its_own_and_gets_what_is_ours() {
        let request = request(
            "Host: gw:8080\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\nx-a: \u{e4}\r\nX-A: 2\r\n\
             Content-Length: 3\r\nExpect: 100-continue\r\nx-call-id: theirs\r\nX-Timeout: 99s\r\n",
        );
        assert_eq!(
            written(to_function(&request, &way())),
            "POST /a?b HTTP/1.1\r\nHost: gw:8080\r\nx-a: \u{e4}\r\nX-A: 2\r\nX-Call-Id: id1\r\n\
             X-Forwarded-For: 10.1.2.3\r\nX-Forwarded-Host: gw:8080\r\nX-Forwarded-Proto: http\r\n\
             X-Timeout: 4812ms\r\n"
        );
        let endless = written(to_function(&request, &Way { left: None, ..way() }));
        assert!(!endless.contains("X-Timeout"), "{endless}");
    }

    /// The fields in which a proxy says where a request comes from.
    const WAY: &str = "Host: gw\r\nX-Forwarded-For: 1.1.1.1\r\nx-forwarded-for: 2.2.2.2\r\n\
        X-Forwarded-Host: shop\r\nX-FORWARDED-PROTO: https\r\nX-Forwarded-Port: 443\r\nX-Forwarded-Prefix: /a\r\n\
        Forwarded: for=1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\nX-Forwarded: x\r\n";

    #[test]
    fn only_a_proxy_that_is_trusted_can_say_where_a_request_comes_from() {
        assert_eq!(
            written(to_function(&request(WAY), &way())),
            "POST /a?b HTTP/1.1\r\nHost: gw\r\nX-Call-Id: id1\r\nX-Forwarded-For: 10.1.2.3\r\n\
             X-Forwarded-Host: gw\r\nX-Forwarded-Proto: http\r\nX-Timeout: 4812ms\r\n"
        );
        assert_eq!(
            written(to_function(&request(WAY), &Way { proxies: &PROXY, ..way() })),
            "POST /a?b HTTP/1.1\r\nHost: gw\r\nX-Forwarded-Port: 443\r\nX-Forwarded-Prefix: /a\r\n\
             Forwarded: for=1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\nX-Forwarded: x\r\nX-Call-Id: id1\r\n\
             X-Forwarded-For: 1.1.1.1, 2.2.2.2, 10.1.2.3\r\nX-Forwarded-Host: shop\r\nX-Forwarded-Proto: https\r\n\
             X-Timeout: 4812ms\r\n"
        );
    }

    #[test]
    fn authorization_is_passed_on_unless_it_was_for_the_gateway() {
        let request = request("Host: gw\r\nauthorization: Basic x\r\nAuthorization: Bearer y\r\nX-A: 1\r\n");
        let head =
            |takes_authorization| written(to_function(&request, &Way { takes_authorization, ..way() }));
        assert!(head(false).contains("\r\nauthorization: Basic x\r\nAuthorization: Bearer y\r\nX-A: 1\r\n"));
        let head = head(true);
        assert!(!head.to_ascii_lowercase().contains("authorization") && head.contains("X-A: 1"), "{head}");
    }

    #[test]
    fn what_a_trusted_proxy_does_not_say_is_set() {
        for fields in
            ["Host: gw\r\n", "Host: gw\r\nX-Forwarded-For:\r\nX-Forwarded-Host:\r\nX-Forwarded-Proto: \r\n"]
        {
            let head = written(to_function(&request(fields), &Way { proxies: &PROXY, ..way() }));
            let want = "X-Forwarded-For: 10.1.2.3\r\nX-Forwarded-Host: gw\r\nX-Forwarded-Proto: http\r\n";
            assert!(head.contains(want), "{head}");
            assert_eq!(head.matches("X-Forwarded-").count(), 3, "{head}");
        }
    }

    #[test]
    fn nobody_can_have_a_field_dropped_that_the_gateway_adds() {
        let connection =
            "Connection: x-call-id, X-Forwarded-For, x-forwarded-host, X-Forwarded-Proto, x-timeout\r\n";
        let fields = format!("{connection}{WAY}X-Call-Id: theirs\r\nX-Timeout: 5s\r\n");
        for (proxies, own) in [
            (&*NOBODY, ["10.1.2.3", "gw", "http"]),
            (&*PROXY, ["1.1.1.1, 2.2.2.2, 10.1.2.3", "shop", "https"]),
        ] {
            let head = written(to_function(&request(&fields), &Way { proxies, ..way() }));
            let [hops, host, proto] = own;
            let want = format!(
                "X-Call-Id: id1\r\nX-Forwarded-For: {hops}\r\nX-Forwarded-Host: {host}\r\nX-Forwarded-Proto: {proto}\r\n\
                 X-Timeout: 4812ms\r\n"
            );
            assert!(head.ends_with(&want), "{head}");
        }
    }

    #[test]
    fn no_field_can_be_taken_for_another_one() {
        let request = request(
            "Host: gw\r\nX-Auth-User: me\r\nX-Auth_User: you\r\nX_Other: 1\r\nX_Forwarded_Proto: https\r\n\
             X_Real_IP: 9.9.9.9\r\nX_Call_Id: x\r\nX-Timeout: 5s\r\nX_Timeout: 9s\r\nContent_Length: 9\r\n\
             Transfer_Encoding: chunked\r\nProxy_Authorization: x\r\nproxy: evil\r\n",
        );
        let ours = "X-Call-Id: id1\r\nX-Forwarded-For: 10.1.2.3\r\nX-Forwarded-Host: gw\r\nX-Forwarded-Proto: http\r\n\
             X-Timeout: 4812ms\r\n";
        let head = written(to_function(&request, &way()));
        assert_eq!(head, format!("POST /a?b HTTP/1.1\r\nHost: gw\r\nX-Auth-User: me\r\n{ours}"));
        let head = written(to_function(&request, &Way { keeps_underscores: true, ..way() }));
        let kept = "X-Auth-User: me\r\nX-Auth_User: you\r\nX_Other: 1\r\n";
        assert_eq!(head, format!("POST /a?b HTTP/1.1\r\nHost: gw\r\n{kept}{ours}"));
    }

    #[test]
    fn nobody_can_have_the_host_dropped() {
        let request = request("Host: gw\r\nConnection: host, X-A\r\nX-A: 1\r\n");
        let head = written(to_function(&request, &way()));
        assert!(head.starts_with("POST /a?b HTTP/1.1\r\nHost: gw\r\nX-Call-Id:"), "{head}");
    }

    #[test]
    fn a_caller_of_http_1_0_without_a_host_gets_one() {
        let request = RequestHead::parse(b"GET / HTTP/1.0\r\n\r\n".to_vec(), 8).unwrap();
        assert!(written(to_function(&request, &way())).contains("\r\nHost: 10.0.0.9:8080\r\n"));
    }

    #[test]
    fn an_answer_cannot_pass_for_ours() {
        let answer = b"HTTP/1.1 200 OK\r\nX-Gateway-Error: x\r\nX-Call-Id: x\r\nConnection: keep-alive\r\n\
            Keep-Alive: 5\r\nContent-Length: 2\r\nSet-Cookie: a\r\nset-cookie: b\r\nDate: d\r\n\r\n";
        let answer = ResponseHead::parse(answer.to_vec(), 128, false).unwrap();
        assert_eq!(
            written(to_client(&answer, &ours(Duration::from_micros(1500), Some(Duration::from_millis(7))))),
            "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nset-cookie: b\r\nDate: d\r\nX-Call-Id: id1\r\n\
             X-Duration-Seconds: 0.001500\r\nX-Cold-Start-Ms: 7\r\n"
        );
    }

    #[test]
    fn a_cold_start_is_the_wait_here_and_the_one_that_the_replica_tells() {
        let ms = |waited| Some(Duration::from_millis(waited));
        for (theirs, waited, want) in [
            ("", None, None),
            ("", ms(7), Some("7")),
            ("X-Cold-Start-Ms: 30\r\n", None, Some("30")),
            ("X-Cold-Start-Ms: 30\r\n", ms(7), Some("37")),
            ("X-Cold-Start-Ms: soon\r\n", ms(7), Some("7")),
            ("X-Cold-Start-Ms: 18446744073709551615\r\n", ms(7), Some("18446744073709551615")),
        ] {
            let answer = format!("HTTP/1.1 200 OK\r\n{theirs}Content-Length: 0\r\n\r\n");
            let answer = ResponseHead::parse(answer.into(), 128, false).unwrap();
            let head = written(to_client(&answer, &ours(Duration::ZERO, waited)));
            let got = head.lines().find_map(|line| line.strip_prefix("X-Cold-Start-Ms: "));
            assert_eq!(got, want, "{theirs}");
        }
    }

    #[test]
    fn an_interim_answer_gets_nothing_of_ours() {
        let hints =
            b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nX-Call-Id: x\r\nConnection: y\r\nY: z\r\n\r\n";
        let hints = ResponseHead::parse(hints.to_vec(), 128, false).unwrap();
        let head = written(to_client(&hints, &ours(Duration::ZERO, Some(Duration::ZERO))));
        assert_eq!(head, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n");
    }

    #[test]
    fn call_ids_are_kept_when_they_are_fit_to_be_logged() {
        let id =
            |fields: &str| CallId::of(Asked::of(&request(fields)).id, || 0xabc0_0000_0000_0def).to_string();
        assert_eq!(id("Host: x\r\nX-Call-Id: abc-1\r\n"), "abc-1");
        let long = format!("Host: x\r\nX-Call-Id: {}\r\n", "a".repeat(call::MAX_ID_BYTES + 1));
        for fields in
            ["Host: x\r\n", "Host: x\r\nX-Call-Id:\r\n", "Host: x\r\nX-Call-Id: a b\r\n", long.as_str()]
        {
            assert_eq!(id(fields), "abc0000000000def");
        }
    }

    #[test]
    fn a_callers_limit_is_read_or_ignored() {
        let timeout = |fields: &str| Asked::of(&request(fields)).timeout;
        assert_eq!(timeout("Host: x\r\nX-Timeout: 500ms\r\n"), Some(Duration::from_millis(500)));
        assert_eq!(timeout("Host: x\r\nX-Timeout: soon\r\n"), None);
        assert_eq!(timeout("Host: x\r\n"), None);
    }
}
