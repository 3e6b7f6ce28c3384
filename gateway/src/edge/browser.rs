//! Browsers send requests for every page that somebody opens, and their users do not see for which page. What a page of
//! another site may not do is decided here, from a request's head alone.
//!
//! A browser says for which site it asks, in `Sec-Fetch-Site` or in `Origin`, and a page cannot change either. The name
//! in `Host` proves nothing: its owner can point it at this gateway (DNS rebinding).

use http1::RequestHead;

use crate::authority::{Authority, Host};
use crate::failure::Failure;

const ORIGIN: &str = "Origin";
const SEC_FETCH_SITE: &str = "Sec-Fetch-Site";

/// Checks a request for the control plane. `trusted_hosts` are the names that a browser may know the gateway by; `None`
/// where a password makes that check needless: a browser sends a password only to the name for which it was typed.
pub(super) fn check(request: &RequestHead, trusted_hosts: Option<&[String]>) -> Result<(), Failure> {
    let headers = request.headers();
    let host = headers.get("host").unwrap_or_default();
    let is_foreign = headers.get_all(SEC_FETCH_SITE).any(|site| !is_own_site(site))
        || headers.get_all(ORIGIN).any(|origin| !is_origin_of(origin, host));
    if is_foreign && !matches!(request.method(), "GET" | "HEAD") {
        return Err(Failure::CrossSite);
    }
    let is_browser = headers.get(SEC_FETCH_SITE).is_some() || headers.get(ORIGIN).is_some();
    match trusted_hosts {
        Some(names) if is_browser && !is_trusted(host, names) => Err(Failure::UntrustedHost),
        _ => Ok(()),
    }
}

/// Whether the page is of this site, or there is none: the user typed the address. A value that nobody knows yet is
/// another site's.
fn is_own_site(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"same-origin") || value.eq_ignore_ascii_case(b"none")
}

/// Whether `Origin` names the host and port of `Host`. The scheme only says which port is meant where there is none: a
/// proxy in front may speak TLS.
fn is_origin_of(origin: &[u8], host: &[u8]) -> bool {
    let Some(at) = origin.windows(3).position(|part| part == b"://") else { return false };
    let default = match &origin[..at].to_ascii_lowercase()[..] {
        b"http" => 80,
        b"https" => 443,
        _ => return false,
    };
    match (Authority::parse(&origin[at + 3..]), Authority::parse(host)) {
        (Some(origin), Some(host)) => {
            origin.host.is(&host.host) && origin.port.unwrap_or(default) == host.port.unwrap_or(default)
        }
        _ => false,
    }
}

/// Whether nobody else can have made this name lead here: an address, the own machine, or a name that the user trusts.
fn is_trusted(host: &[u8], names: &[String]) -> bool {
    match Authority::parse(host) {
        Some(Authority { host: Host::Address(_), .. }) => true,
        Some(Authority { host: Host::Name(name), .. }) => {
            name.eq_ignore_ascii_case("localhost")
                || names.iter().any(|trusted| trusted.eq_ignore_ascii_case(name))
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kind of the refusal of a request with these fields, if it is refused.
    fn refusal(method: &str, fields: &[&str], trusted_hosts: Option<&[&str]>) -> Option<&'static str> {
        let lines: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        let version = if lines.contains("Host:") { "1.1" } else { "1.0" };
        let head = format!("{method} /system/alert HTTP/{version}\r\n{lines}\r\n");
        let head =
            RequestHead::parse(head.into_bytes(), 16).unwrap_or_else(|why| panic!("{why}: {fields:?}"));
        let names =
            trusted_hosts.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        check(&head, names.as_deref()).err().map(|failure| failure.kind().name())
    }

    #[test]
    fn a_change_for_a_page_of_another_site_is_refused() {
        const FOREIGN: Option<&str> = Some("cross_site");
        let cases: &[(&[&str], Option<&str>)] = &[
            (&["Host: faas.test"], None),
            (&["Host: faas.test", "Sec-Fetch-Site: same-origin"], None),
            (&["Host: faas.test", "Sec-Fetch-Site: none"], None),
            (&["Host: faas.test", "Sec-Fetch-Site: cross-site"], FOREIGN),
            (&["Host: faas.test", "sec-fetch-site: Cross-Site"], FOREIGN),
            (&["Host: faas.test", "Sec-Fetch-Site: same-site"], FOREIGN),
            (&["Host: faas.test", "Sec-Fetch-Site: "], FOREIGN),
            (&["Host: faas.test", "Sec-Fetch-Site: none", "Sec-Fetch-Site: cross-site"], FOREIGN),
            (&["Host: faas.test", "Origin: http://faas.test"], None),
            (&["Host: faas.test", "Origin: HTTP://FAAS.TEST"], None),
            (&["Host: faas.test", "Origin: http://faas.test:80"], None),
            (&["Host: faas.test:80", "Origin: http://faas.test"], None),
            (&["Host: faas.test:", "Origin: http://faas.test"], None),
            (&["Host: faas.test", "Origin: https://faas.test"], None),
            (&["Host: faas.test:443", "Origin: https://faas.test"], None),
            (&["Host: faas.test:443", "Origin: http://faas.test"], FOREIGN),
            (&["Host: faas.test:80", "Origin: https://faas.test"], FOREIGN),
            (&["Host: faas.test:8080", "Origin: http://faas.test:8080"], None),
            (&["Host: faas.test:8080", "Origin: http://faas.test:8081"], FOREIGN),
            (&["Host: faas.test:8080", "Origin: http://faas.test"], FOREIGN),
            (&["Host: faas.test", "Origin: http://other.test"], FOREIGN),
            (&["Host: faas.test", "Origin: http://faas.test.other.test"], FOREIGN),
            (&["Host: faas.test", "Origin: http://my.faas.test"], FOREIGN),
            (&["Host: faas.test", "Origin: http://faas.test@other.test"], FOREIGN),
            (&["Host: faas.test", "Origin: http://faas.test/"], FOREIGN),
            (&["Host: faas.test", "Origin: null"], FOREIGN),
            (&["Host: faas.test", "Origin: "], FOREIGN),
            (&["Host: faas.test", "Origin: ftp://faas.test"], FOREIGN),
            (&["Host: faas.test", "Origin: faas.test"], FOREIGN),
            (&["Host: faas.test", "Origin: http://faas.test http://other.test"], FOREIGN),
            (&["Host: faas.test", "Origin: http://faas.test:99999"], FOREIGN),
            (&["Host: faas.test", "Origin: http://faas.test:+80"], FOREIGN),
            (&["Host: faas.test", "Origin: http://faas.test", "Origin: http://other.test"], FOREIGN),
            (&["Host: faas.test", "Origin: http://faas.test", "Sec-Fetch-Site: same-site"], FOREIGN),
            (&["Host: faas.test", "Origin: http://other.test", "Sec-Fetch-Site: same-origin"], FOREIGN),
            (&["Host: [::1]:8080", "Origin: http://[::1]:8080"], None),
            (&["Host: [::1]:8080", "Origin: http://[0:0:0:0:0:0:0:1]:8080"], None),
            (&["Host: [::1]", "Origin: http://[::1]:80"], None),
            (&["Host: [::1]:8080", "Origin: http://[::2]:8080"], FOREIGN),
            (&["Host: 10.0.0.1:8080", "Origin: http://10.0.0.1:8080"], None),
            (&["Host: 10.0.0.1:8080", "Origin: http://10.0.0.2:8080"], FOREIGN),
            (&["Host:", "Origin: http://faas.test"], FOREIGN),
            (&["Origin: http://faas.test"], FOREIGN),
        ];
        for (fields, want) in cases {
            for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY", "get"] {
                assert_eq!(refusal(method, fields, None), *want, "{method} {fields:?}");
            }
            for method in ["GET", "HEAD"] {
                assert_eq!(refusal(method, fields, None), None, "{method} {fields:?}");
            }
        }
    }

    #[test]
    fn without_a_password_a_browser_is_served_under_names_that_are_trusted() {
        let cases = [
            ("localhost", true),
            ("LocalHost:8080", true),
            ("127.0.0.1:8080", true),
            ("10.0.0.1", true),
            ("[::1]:8080", true),
            ("faas.lan", true),
            ("FAAS.LAN:8080", true),
            ("gateway:8080", true),
            ("faas.lan.other.test", false),
            ("my.faas.lan", false),
            ("localhost.other.test", false),
            ("other.test", false),
            ("127.1", false),
            ("2130706433", false),
            ("", false),
        ];
        let names: &[&str] = &["faas.lan", "Gateway"];
        for (host, is_trusted) in cases {
            let want = (!is_trusted).then_some("untrusted_host");
            let host_field = format!("Host: {host}");
            let origin = format!("Origin: http://{host}");
            for (method, of_browser) in
                [("GET", "Sec-Fetch-Site: none"), ("GET", &*origin), ("POST", "Sec-Fetch-Site: same-origin")]
            {
                let fields = [&*host_field, of_browser];
                assert_eq!(refusal(method, &fields, Some(names)), want, "{method} {fields:?}");
                assert_eq!(refusal(method, &fields, None), None, "a password decides: {fields:?}");
            }
            if refusal("POST", &[&host_field], Some(names)).is_some() {
                panic!("{host}: a client that is no browser is served");
            }
        }
        assert_eq!(refusal("GET", &["Sec-Fetch-Site: none"], Some(names)), Some("untrusted_host"));
        assert_eq!(refusal("GET", &["Host: faas.lan", "Origin: null"], Some(names)), None);
    }
}
