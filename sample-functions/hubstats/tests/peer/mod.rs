//! A stand-in for the hub: each connection gets the next act, over TCP or TLS.
#![allow(dead_code)] // each of the two test binaries uses a part of it

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What the server does on one connection.
#[derive(Clone)]
pub(crate) enum Act {
    /// Reads a request and answers it.
    Answer(Vec<u8>),
    /// Reads a request and answers it byte by byte, with this pause after each.
    Drip(Vec<u8>, Duration),
    /// Reads a request and closes.
    Close,
    /// Answers nothing until the client leaves.
    Stall,
}

/// An answer with `status`, header lines and `body`.
pub(crate) fn answer(status: &str, fields: &str, body: &str) -> Act {
    let length = body.len();
    Act::Answer(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{fields}\r\n{body}").into_bytes())
}

/// An answer with a count.
pub(crate) fn count(count: u64) -> Act {
    let body = format!(r#"{{"count":{count},"next":null,"previous":null,"results":[]}}"#);
    answer("200 OK", "Content-Type: application/json\r\n", &body)
}

/// A server that listens until it is dropped.
pub(crate) struct Peer {
    addr: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    is_stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// The certificate of a TLS server.
    pub(crate) certificate: Vec<u8>,
}

impl Peer {
    pub(crate) fn plain(acts: Vec<Act>) -> Peer {
        Peer::start(acts, None, vec![])
    }

    /// A TLS server with a self-signed certificate for `host`.
    pub(crate) fn tls(host: &str, acts: Vec<Act>) -> Peer {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed([host.to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key))
            .expect("a certificate that fits its key");
        Peer::start(acts, Some(config.into()), cert.der().to_vec())
    }

    fn start(acts: Vec<Act>, tls: Option<Arc<ServerConfig>>, certificate: Vec<u8>) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let heads = Arc::new(Mutex::new(Vec::new()));
        let is_stopping = Arc::new(AtomicBool::new(false));
        let (seen, is_over) = (heads.clone(), is_stopping.clone());
        let thread = thread::spawn(move || {
            // The last act is repeated. A connection wakes the thread, also the one that `drop` makes.
            for number in 0.. {
                let Ok((stream, _)) = listener.accept() else { return };
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let act = &acts[number.min(acts.len() - 1)];
                // Many tests have the client leave.
                let _ = match &tls {
                    None => serve(stream, act, &seen),
                    Some(config) => ServerConnection::new(config.clone())
                        .map_err(io::Error::other)
                        .and_then(|connection| serve(StreamOwned::new(connection, stream), act, &seen)),
                };
            }
        });
        Peer { addr, heads, is_stopping, thread: Some(thread), certificate }
    }

    pub(crate) fn port(&self) -> u16 {
        self.addr.port()
    }

    /// The heads of the requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("the server lives").clone()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr); // the thread may have ended already
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // its panic was already printed
        }
    }
}

fn serve(mut stream: impl Read + Write, act: &Act, heads: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    heads.lock().expect("the test lives").push(String::from_utf8_lossy(&head).into_owned());
    match act {
        Act::Answer(bytes) => stream.write_all(bytes)?,
        Act::Drip(bytes, pause) => {
            for byte in bytes {
                stream.write_all(&[*byte])?;
                stream.flush()?;
                thread::sleep(*pause);
            }
        }
        Act::Close => return Ok(()),
        Act::Stall => {}
    }
    stream.flush()?;
    // The client closes first, so that no reset loses a part of the answer.
    io::copy(&mut stream, &mut io::sink()).map(drop)
}
