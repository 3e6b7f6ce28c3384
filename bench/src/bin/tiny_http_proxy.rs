//! The prototype that decision 0001 measures: a reverse proxy of nothing but tiny_http and ureq, as they are
//! meant to be used. `tiny_http_proxy UPSTREAM` proxies everything to `http://UPSTREAM`, but refuses `/refused`
//! without reading the body, as any limit on bodies would.
#![forbid(unsafe_code)]

use std::io::{self, Read};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tiny_http::{Header, Request, Response, Server, StatusCode};
use ureq::Agent;
use ureq::SendBody;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Enough to keep two cores busy with any number of clients; each has a stack.
const WORKERS: usize = 64;
const TIMEOUT: Duration = Duration::from_secs(60);
const REFUSED: &str = "/refused";
const HOP_BY_HOP: [&str; 6] =
    ["connection", "keep-alive", "te", "transfer-encoding", "upgrade", "content-length"];

fn main() -> ExitCode {
    let Some(upstream) = std::env::args().nth(1) else {
        eprintln!("usage: tiny_http_proxy UPSTREAM_ADDRESS:PORT");
        return ExitCode::from(2);
    };
    match serve(&upstream) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tiny_http_proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(upstream: &str) -> Result<(), Failure> {
    let server = Arc::new(Server::http("127.0.0.1:0")?);
    let agent = Agent::new_with_config(
        Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(WORKERS)
            .max_idle_connections_per_host(WORKERS)
            // Not the global timeout: with it every call resolves its address in a new thread.
            .timeout_connect(Some(TIMEOUT))
            .timeout_recv_response(Some(TIMEOUT))
            .timeout_recv_body(Some(TIMEOUT))
            .allow_non_standard_methods(true)
            .build(),
    );
    eprintln!("listening on {}", server.server_addr());
    let worker = |_| {
        let (server, agent, upstream) = (Arc::clone(&server), agent.clone(), upstream.to_owned());
        thread::spawn(move || {
            while let Ok(request) = server.recv() {
                // The client may be gone; there is nobody else to tell.
                let _ = handle(request, &agent, &upstream);
            }
        })
    };
    let workers: Vec<_> = (0..WORKERS).map(worker).collect();
    for worker in workers {
        worker.join().map_err(|_| "a worker panicked")?;
    }
    Ok(())
}

fn handle(mut request: Request, agent: &Agent, upstream: &str) -> io::Result<()> {
    if request.url() == REFUSED {
        return request.respond(Response::from_string("refused\n").with_status_code(413));
    }
    match forward(&mut request, agent, upstream) {
        Ok(response) => request.respond(response),
        Err(error) => request.respond(Response::from_string(format!("{error}\n")).with_status_code(502)),
    }
}

fn forward(
    request: &mut Request,
    agent: &Agent,
    upstream: &str,
) -> Result<Response<impl Read + use<>>, Failure> {
    let mut head = ureq::http::Request::builder()
        .method(request.method().as_str())
        .uri(format!("http://{upstream}{}", request.url()));
    for header in request.headers().iter().filter(|header| !is_hop_by_hop(header.field.as_str().as_str())) {
        head = head.header(header.field.as_str().as_str(), header.value.as_str());
    }
    let answer = match request.body_length() {
        Some(length) if length > 0 => {
            let head = head.header("content-length", length);
            agent.run(head.body(SendBody::from_reader(request.as_reader()))?)?
        }
        _ => agent.run(head.body(SendBody::none())?)?,
    };
    let headers = answer.headers().iter().filter(|(name, _)| !is_hop_by_hop(name.as_str()));
    let headers =
        headers.filter_map(|(name, value)| Header::from_bytes(name.as_str(), value.as_bytes()).ok());
    let (status, headers) = (StatusCode(answer.status().as_u16()), headers.collect());
    let length = answer.body().content_length().and_then(|length| usize::try_from(length).ok());
    Ok(Response::new(status, headers, answer.into_body().into_reader(), length, None))
}

fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.iter().any(|known| known.eq_ignore_ascii_case(name))
}
