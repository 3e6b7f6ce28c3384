//! TLS with a trust that the test chooses; `tests/it.rs` tests the rest from outside.

use ureq::tls::Certificate;

use super::*;

#[path = "../../tests/peer/mod.rs"]
mod peer;

use peer::{Peer, answer, count};

/// The hub at `https://localhost`, with the certificate of `root` as trust.
fn hub(peer: &Peer, root: &Peer) -> Hub {
    let config = Config {
        hub_url: format!("https://localhost:{}", peer.port()),
        hub_timeout: Duration::from_secs(10),
    };
    let certificate = Certificate::from_der(&root.certificate).to_owned();
    Hub::trusting(&config, RootCerts::new_with_certs(&[certificate]))
}

fn name() -> Name {
    Name::parse(b"library").expect("a name")
}

#[test]
fn a_trusted_certificate_is_accepted() {
    let peer = Peer::tls("localhost", vec![count(128)]);
    assert_eq!(hub(&peer, &peer).count(&name()).expect("it answers"), Some(128));
    assert!(peer.heads()[0].starts_with("GET /v2/repositories/library/?page_size=1 HTTP/1.1\r\n"));
}

#[test]
fn untrusted_certificates_are_refused() {
    let other = Peer::tls("localhost", vec![count(1)]);
    let cases = [("signed by nobody we trust", "localhost"), ("of another host", "example.org")];
    for (kind, host) in cases {
        let peer = Peer::tls(host, vec![count(1)]);
        let root = if host == "localhost" { &other } else { &peer };
        let error = hub(&peer, root).count(&name()).expect_err(kind);
        assert!(matches!(error, Error::Untrusted(_)), "{kind}: {error:?}");
        assert!(peer.heads().is_empty(), "nothing was asked");
    }
}

#[test]
fn a_server_without_tls_is_refused() {
    let plain = Peer::plain(vec![count(1)]);
    let other = Peer::tls("localhost", vec![count(1)]);
    let config = Config {
        hub_url: format!("https://localhost:{}", plain.port()),
        hub_timeout: Duration::from_millis(300),
    };
    let roots = RootCerts::new_with_certs(&[Certificate::from_der(&other.certificate).to_owned()]);
    // The server waits for the end of a head, the client for the end of a handshake.
    let error = Hub::trusting(&config, roots).count(&name()).expect_err("there is no TLS");
    assert!(matches!(error, Error::Timeout(_)), "{error:?}");
}

#[test]
fn a_redirect_out_of_tls_is_refused() {
    let plain = Peer::plain(vec![count(1)]);
    let location = format!("Location: http://localhost:{}/\r\n", plain.port());
    let peer = Peer::tls("localhost", vec![answer("301 Moved Permanently", &location, "")]);
    let error = hub(&peer, &peer).count(&name()).expect_err("it leads out");
    assert!(matches!(error, Error::Redirects(_)), "{error:?}");
    assert!(plain.heads().is_empty(), "nothing was asked");
}
