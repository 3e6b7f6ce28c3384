//! The kinds of failure, in one table: the value of `X-Gateway-Error`, the status, and whether the request counts as
//! one that reached no function. `docs/errors.md` says what to do about each kind; a test compares its rows with this
//! table. Refusals of HTTP itself have their table in [`Refusal`].

use http1::Refusal;

macro_rules! kinds {
    ($($kind:ident $name:literal $status:literal $is_rejection:literal;)*) => {
        /// What kind of failure the gateway answers itself.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Kind {
            /// The request is not HTTP as it must be, or is over a limit of the server.
            Http(Refusal),
            $($kind,)*
        }

        impl Kind {
            /// The gateway's own kinds, in the order of the table.
            pub(crate) const OWN: &[Kind] = &[$(Kind::$kind,)*];

            const fn row(self) -> Row {
                match self {
                    Kind::Http(refusal) => {
                        Row { name: refusal.reason(), status: refusal.status(), is_rejection: true }
                    }
                    $(Kind::$kind => Row { name: $name, status: $status, is_rejection: $is_rejection },)*
                }
            }
        }
    };
}

struct Row {
    name: &'static str,
    status: u16,
    is_rejection: bool,
}

kinds! {
    // Kind            X-Gateway-Error         status  rejection
    NoRoute            "no_route"              404     true;
    UnknownFunction    "unknown_function"      404     true;
    FunctionRepeated   "function_repeated"     400     true;
    ProviderDown       "provider_down"         503     true;
    MethodNotAllowed   "method_not_allowed"    405     true;
    NotAlexa           "not_alexa"             400     true;
    Unauthorized       "unauthorized"          401     true;
    TooManyGuesses     "too_many_guesses"      429     true;
    CrossSite          "cross_site"            403     true;
    UntrustedHost      "untrusted_host"        403     true;
    BadSignature       "bad_signature"         401     true;
    NoSecret           "no_secret"             503     true;
    TooManyOfFunction  "too_many_of_function"  503     true;
    NotAvailable       "not_available"         501     false;
    NoReplicas         "no_replicas"           503     false;
    CannotStart        "cannot_start"          503     false;
    TooManyWaiting     "too_many_waiting"      503     false;
    TooManyCalls       "too_many_calls"        429     false;
    Connect            "connect"               502     false;
    UpstreamClosed     "upstream_closed"       502     false;
    UpstreamInvalid    "upstream_invalid"      502     false;
    TimeoutReplica     "timeout_replica"       504     false;
    TimeoutTurn        "timeout_turn"          504     false;
    TimeoutConnect     "timeout_connect"       504     false;
    TimeoutFirstByte   "timeout_first_byte"    504     false;
    TimeoutBody        "timeout_body"          504     false;
    BadRequest         "bad_request"           400     false;
    TooManyReplicas    "too_many_replicas"     400     false;
    NotScalable        "not_scalable"          409     false;
    InUpdate           "in_update"             409     false;
    ScaleFailed        "scale_failed"          502     false;
    ControlBusy        "control_busy"          503     false;
    ControlDown        "control_down"          503     false;
    ControlTimeout     "control_timeout"       504     false;
    Internal           "internal"              500     false;
    // Never sent: nobody is left to be told. Metrics and the access log have this status (nginx's number).
    ClientGone         "client_gone"           499     false;
}

impl Kind {
    /// The value of `X-Gateway-Error`.
    pub(crate) const fn name(self) -> &'static str {
        self.row().name
    }

    pub(crate) const fn status(self) -> u16 {
        self.row().status
    }

    /// Whether metrics count the request as one that reached no function.
    pub(crate) const fn is_rejection(self) -> bool {
        self.row().is_rejection
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of the first table of `docs/errors.md`: names, statuses, what to do.
    fn told() -> Vec<(Vec<&'static str>, Vec<u16>, &'static str)> {
        let text = include_str!("../../docs/errors.md");
        let rows = text.lines().skip_while(|line| !line.starts_with("| kind |")).skip(2);
        let rows = rows.take_while(|line| line.starts_with('|'));
        let cells = |line: &'static str| {
            let mut cells = line.trim_matches('|').splitn(3, '|').map(str::trim);
            let [names, statuses, advice] = [(); 3].map(|()| cells.next().unwrap());
            let names = names.split(", ").map(|name| name.trim_matches('`')).collect();
            (names, statuses.split(", ").map(|status| status.parse().unwrap()).collect(), advice)
        };
        rows.map(cells).collect()
    }

    #[test]
    fn the_documents_have_a_row_for_each_kind_and_no_other() {
        let rows = told();
        let http = Refusal::ALL.map(Kind::Http);
        let all: Vec<Kind> = Kind::OWN.iter().copied().chain(http).collect();
        for (names, statuses, advice) in &rows {
            assert!(!advice.is_empty(), "{names:?}");
            if *names == ["all others"] {
                continue;
            }
            let mut want = Vec::new();
            for name in names {
                let kind = all.iter().find(|kind| kind.name() == *name).unwrap_or_else(|| panic!("{name}"));
                want.push(kind.status());
            }
            want.dedup();
            assert_eq!(*statuses, want, "{names:?}");
        }
        let named: Vec<&str> = rows.iter().flat_map(|(names, ..)| names.iter().copied()).collect();
        let others = rows.iter().find(|(names, ..)| *names == ["all others"]).unwrap();
        for kind in all {
            let count = named.iter().filter(|name| **name == kind.name()).count();
            match kind {
                Kind::ClientGone => assert_eq!(count, 0),
                Kind::Http(_) if count == 0 => assert!(others.1.contains(&kind.status()), "{kind:?}"),
                _ => assert_eq!(count, 1, "{kind:?}"),
            }
        }
    }

    #[test]
    fn each_refusal_of_http_is_in_the_documents() {
        let told = include_str!("../../docs/api.md");
        for refusal in Refusal::ALL {
            assert!(told.contains(&format!("`{}`", refusal.reason())), "{}", refusal.reason());
        }
    }
}
