//! A connection over TLS that ends after each number of bytes, in the handshake, in the answer, and where one follows the
//! other: the client never hangs, and says what went wrong.

use mailbadge::https::driver::{Client, Request, Roots, Settings};
use mailbadge::https::url::Url;
use mailbadge::https::{Authorities, Failure};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use support::cloud::Cloud;

/// The client gives up after this: only a hang would take so long.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Between two places where the connection is cut, in bytes.
const STEP: usize = 13;

/// Passes bytes on in both directions, and ends each connection after so many of the server's.
struct Scissors {
    address: SocketAddr,
    after: Arc<AtomicUsize>,
    /// Bytes of the server on the last connection that ended by itself.
    passed: Arc<AtomicUsize>,
}

impl Scissors {
    fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let address = listener.local_addr().expect("it is bound");
        let (after, passed) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(AtomicUsize::new(0)));
        let (limit, count) = (Arc::clone(&after), Arc::clone(&passed));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (limit, count) = (limit.load(Ordering::Acquire), Arc::clone(&count));
                thread::spawn(move || pass(client, server, limit, &count));
            }
        });
        Self { address, after, passed }
    }
}

fn pass(client: TcpStream, server: SocketAddr, limit: usize, passed: &AtomicUsize) -> io::Result<()> {
    let mut server = TcpStream::connect(server)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        // Its end is the connection's.
        io::copy(&mut from_client, &mut to_server).ok();
        to_server.shutdown(Shutdown::Both).ok();
    });
    let (mut client, mut buffer, mut count) = (client, [0; 16 * 1024], 0);
    while count < limit {
        let room = u64::try_from(limit - count).unwrap_or(u64::MAX);
        let read = (&mut server).take(room).read(&mut buffer)?;
        if read == 0 {
            break;
        }
        client.write_all(buffer.get(..read).unwrap_or_default())?;
        count += read;
        passed.store(count, Ordering::Release);
    }
    client.shutdown(Shutdown::Both)?;
    server.shutdown(Shutdown::Both)
}

#[test]
fn a_tls_connection_may_end_anywhere() {
    let cloud = Cloud::start();
    let relay = cloud.url().strip_prefix("https://").and_then(|rest| rest.split('/').next());
    let relay: SocketAddr = relay.and_then(|authority| authority.parse().ok()).expect("an address");
    let scissors = Scissors::start(relay);
    let extra = CertificateDer::pem_file_iter(cloud.ca_file()).expect("a file of ours");
    let extra = extra.collect::<Result<_, _>>().expect("certificates of ours");
    let roots = Roots { key: "relay.ca-file".to_owned(), authorities: Authorities { extra, is_only: true } };
    let settings = Settings { roots, concurrency: 1, timeout: TIMEOUT, user_agent: "test".to_owned() };
    let url =
        Arc::new(Url::parse(&format!("https://{}/PushNotifications", scissors.address)).expect("a URL"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    // A client each, so that every request has a connection of its own.
    let ask = || {
        let client = Client::new(&settings).expect("settings of ours");
        let request = Request {
            method: hyper::Method::POST,
            url: Arc::clone(&url),
            headers: hyper::HeaderMap::new(),
            body: "{}".into(),
        };
        runtime.block_on(client.send(request))
    };
    let status = ask().expect("nothing is cut").status;
    let whole = scissors.passed.load(Ordering::Acquire);
    assert!(whole > 1000, "a handshake and an answer take more than {whole} bytes");
    let mut answered = 0;
    for after in (0..whole).step_by(STEP) {
        scissors.after.store(after, Ordering::Release);
        match ask() {
            // What follows the answer's last byte is TLS's own.
            Ok(response) => answered += usize::from(response.status == status),
            Err(Failure::Timeout(text)) => panic!("cut after {after} bytes: {text}"),
            Err(error) => assert!(error.to_string().len() > 10, "cut after {after} bytes: {error}"),
        }
    }
    assert!(answered * STEP <= whole / 4, "{answered} answers came although they were cut");
    scissors.after.store(usize::MAX, Ordering::Release);
    assert_eq!(ask().expect("nothing is cut").status, status);
}
