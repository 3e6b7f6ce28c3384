use serde_json::json;
use testkit::unreachable::Refusing;
use testkit::{Peer, Script};

use crate::{is_text, rust, serve};

/// A stand-in for the hub that answers everything with `status` and `body`.
fn hub(status: &str, body: &str) -> Peer {
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    Peer::tcp(Script::new().request().send(answer).repeat())
}

#[test]
fn hubstats_asks_the_hub() {
    let hub = hub("200 OK", r#"{"count":99,"next":null,"previous":null,"results":[]}"#);
    let hub_url = format!("http://{}", hub.addr());
    let gateway = serve(&rust("hubstats", json!({ "hub_url": hub_url, "content_type": "text/plain" })));
    let want = "The organisation or user alexellis2 has 99 repositories on the Docker hub.\n";
    is_text(&gateway.post("/function/hubstats", "alexellis2"), 200, want);
    let request = &hub.requests()[0];
    assert_eq!(request.target, "/v2/repositories/alexellis2/?page_size=1");
    assert_eq!(request.header("x-call-id"), None, "nothing of the caller's goes to the hub");
    let want = "expected a name of 2 to 255 characters a-z, 0-9, - and _, got nothing\n";
    is_text(&gateway.post("/function/hubstats", ""), 500, want);
    assert_eq!(hub.requests().len(), 1);
}

#[test]
fn hubstats_says_what_is_wrong_with_the_hub() {
    let prefix = "failed to count the repositories of `library`: the Docker hub";
    let cases = [
        (hub("429 Too Many Requests", ""), "limits the rate of requests, try again later"),
        (hub("500 Internal Server Error", "oops"), "answered with status 500"),
    ];
    for (hub, want) in cases {
        let gateway = serve(&rust("hubstats", json!({ "hub_url": format!("http://{}", hub.addr()) })));
        is_text(&gateway.post("/function/hubstats", "library"), 500, &format!("{prefix} {want}\n"));
    }
    let gone = Refusing::new();
    let gateway = serve(&rust("hubstats", json!({ "hub_url": format!("http://{}", gone.addr()) })));
    let reply = gateway.post("/function/hubstats", "library");
    is_text(&reply, 500, &format!("{prefix} cannot be reached, see hub_url\n"));
}
