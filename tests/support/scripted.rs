//! A server on loopback that does with each connection what its test says, and from some moment on something else: silence,
//! floods, answers in other words than any real server's.

use crate::cloud::Cloud;
use mailbadge_sim::serve::certificates::Certificates;
use parking_lot::Mutex;
use rustls::{ServerConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// What is done with a connection; it ends when this returns.
pub type Script = Arc<dyn Fn(TcpStream) + Send + Sync>;

/// A server that plays a script. Its threads end with the test's process.
pub struct ScriptedServer {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    connections: Arc<AtomicUsize>,
}

impl ScriptedServer {
    /// Plays this on a free port.
    pub fn start(script: Script) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (script, connections) = (Arc::new(Mutex::new(script)), Arc::new(AtomicUsize::new(0)));
        let (played, counted) = (Arc::clone(&script), Arc::clone(&connections));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::Relaxed);
                let script = Arc::clone(&played.lock());
                thread::spawn(move || script(stream));
            }
        });
        Self { address, script, connections }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Plays this with connections from now on.
    pub fn play(&self, script: Script) {
        *self.script.lock() = script;
    }

    /// How often it was connected to.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Says this, and nothing more whatever is said to it.
pub fn says(greeting: &'static str) -> Script {
    Arc::new(move |mut stream| {
        let said = stream.write_all(greeting.as_bytes());
        // Until the other side has had enough.
        let _ = said.and_then(|()| io::copy(&mut stream, &mut io::sink()));
    })
}

/// Says this and ends the connection.
pub fn says_and_ends(greeting: &'static str) -> Script {
    Arc::new(move |mut stream| drop(stream.write_all(greeting.as_bytes())))
}

/// Hands everything on to a server and back.
pub fn hands_on_to(address: SocketAddr) -> Script {
    Arc::new(move |stream| {
        let server = TcpStream::connect(address).expect("it listens");
        let ways = [(&stream, &server), (&server, &stream)];
        thread::scope(|scope| {
            for (mut from, mut to) in ways {
                scope.spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        });
    })
}

/// Speaks TLS as the cloud's relay does, and plays this within.
pub fn within_tls(
    cloud: &Cloud,
    script: impl Fn(StreamOwned<ServerConnection, TcpStream>) + Send + Sync + 'static,
) -> Script {
    let folder = cloud.ca_file().parent().expect("it lies in a folder");
    let certificates = Certificates::open(folder, None).expect("the cloud's own authority");
    let config = certificates.server_config(&["http/1.1"]).expect("TLS can be set up");
    Arc::new(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).expect("TLS can be set up");
        script(StreamOwned::new(connection, stream));
    })
}

/// Reads an HTTP request with its body, which must have a length; `None` at the connection's end.
pub fn read_request(stream: &mut impl Read) -> Option<String> {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(body.to_owned());
            }
        }
        match stream.read(&mut piece) {
            Ok(read) if read > 0 => request.extend_from_slice(piece.get(..read).unwrap_or_default()),
            _ => return None,
        }
    }
}
