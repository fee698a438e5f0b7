//! TLS without a buffer per connection, over rustls' unbuffered API: whole records are taken in a buffer that all
//! connections of a thread share, and an idle connection keeps nothing but rustls' own state. tokio-rustls would keep
//! 4 KiB for each.

use rustls::ClientConfig;
use rustls::client::UnbufferedClientConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls_pki_types::ServerName;
use std::cell::RefCell;
use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use zeroize::Zeroize;

/// Bytes of records that are looked at together: a handshake message of 64 KiB, the longest that rustls takes, in records.
const RECORDS: usize = 80 * 1024;
/// Bytes without any content, at most: a handshake, a few tickets. rustls takes further tickets without end.
const EMPTY_MAX: u32 = 1024 * 1024;
/// A record's header (RFC 8446 §5.1); its last two bytes are the length of what follows.
const HEADER: usize = 5;

thread_local! {
    static TAKEN: RefCell<Vec<u8>> = RefCell::new(vec![0; RECORDS]);
}

/// A TLS connection on a socket that never waits.
pub(super) struct TlsStream {
    socket: TcpStream,
    tls: UnbufferedClientConnection,
    /// The begin of a record that is not whole, or records there was no room to take.
    incoming: Vec<u8>,
    /// Records that the socket did not take yet.
    outgoing: Vec<u8>,
    is_shaking: bool,
    /// Bytes read since the last content.
    empty: u32,
}

/// Why no further record was taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pause {
    /// The handshake needs more.
    Handshake,
    /// Nothing more to take, or no room for it.
    Open,
    /// The server said that it ends.
    Closed,
}

impl TlsStream {
    /// On a connection that nothing was said on, or STARTTLS was.
    pub(super) fn new(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        socket: TcpStream,
    ) -> io::Result<Self> {
        let tls = UnbufferedClientConnection::new(config, name).map_err(broken)?;
        Ok(Self { socket, tls, incoming: Vec::new(), outgoing: Vec::new(), is_shaking: true, empty: 0 })
    }

    /// As far with the handshake as the socket allows; done where it does not fail.
    pub(super) fn shake(&mut self) -> io::Result<()> {
        self.with_records(|this, taken, held| {
            loop {
                let pause = this.take(taken, held, &mut Cursor::new(&mut []))?;
                this.flush()?;
                match pause {
                    Pause::Open => {
                        this.is_shaking = false;
                        return Ok(());
                    }
                    Pause::Closed => return Err(ErrorKind::UnexpectedEof.into()),
                    Pause::Handshake => this.fill(taken, held)?,
                }
            }
        })
    }

    /// Reads into `buffer`, which must have room for 16 KiB, a record's most; nothing read is the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = Cursor::new(buffer);
        self.with_records(|this, taken, held| {
            loop {
                let pause = this.take(taken, held, &mut buffer)?;
                // Answers to what the server asked of the connection itself; what does not go now goes later.
                this.flush().or_else(unless_full)?;
                let read = buffer.position() as usize;
                if pause == Pause::Closed || read > 0 {
                    this.empty = 0;
                    return Ok(read);
                }
                match this.fill(taken, held) {
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                    other => other?,
                }
            }
        })
    }

    /// Reads of what is held already, where there is something to give.
    pub(super) fn read_held(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = Cursor::new(buffer);
        self.with_records(|this, taken, held| {
            let pause = this.take(taken, held, &mut buffer)?;
            this.flush().or_else(unless_full)?;
            match buffer.position() as usize {
                0 if pause != Pause::Closed => Err(ErrorKind::WouldBlock.into()),
                read => Ok(read),
            }
        })
    }

    /// Encrypts `unsent` and writes what the socket takes.
    pub(super) fn send(&mut self, unsent: &mut Vec<u8>) -> io::Result<()> {
        if !unsent.is_empty() {
            let encrypted = self.encrypt(unsent);
            unsent.zeroize();
            *unsent = Vec::new();
            encrypted?;
        }
        self.flush()
    }

    /// Whether the handshake is not done.
    pub(super) fn is_shaking(&self) -> bool {
        self.is_shaking
    }

    /// Whether a whole record is held that there was no room for.
    pub(super) fn holds_more(&self) -> bool {
        !self.is_shaking && record_length(&self.incoming).is_some_and(|length| length <= self.incoming.len())
    }

    /// Whether records wait until the socket takes more.
    pub(super) fn is_full(&self) -> bool {
        !self.outgoing.is_empty()
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match self.socket.write(&self.outgoing)? {
                0 => return Err(ErrorKind::WriteZero.into()),
                written => drop(self.outgoing.drain(..written)),
            }
        }
        // Nothing stays with an idle connection.
        self.outgoing = Vec::new();
        Ok(())
    }

    /// Has `step` work on the shared buffer, at whose begin stands what was kept, and keeps what it leaves of it.
    fn with_records<T>(
        &mut self,
        step: impl FnOnce(&mut Self, &mut [u8], &mut usize) -> io::Result<T>,
    ) -> io::Result<T> {
        TAKEN.with_borrow_mut(|taken| {
            let incoming = std::mem::take(&mut self.incoming);
            if let Some(place) = taken.get_mut(..incoming.len()) {
                place.copy_from_slice(&incoming);
            }
            let mut held = incoming.len();
            let outcome = step(self, taken, &mut held);
            self.incoming = taken.get(..held).unwrap_or_default().to_vec();
            outcome
        })
    }

    /// Reads more behind what is held.
    fn fill(&mut self, taken: &mut [u8], held: &mut usize) -> io::Result<()> {
        let room = taken.get_mut(*held..).unwrap_or_default();
        if room.is_empty() {
            return Err(ErrorKind::InvalidData.into());
        }
        match self.socket.read(room)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            read => {
                *held += read;
                self.empty = self.empty.saturating_add(read as u32);
                if self.empty > EMPTY_MAX { Err(ErrorKind::InvalidData.into()) } else { Ok(()) }
            }
        }
    }

    /// Takes records from the front of what is held while there is room for what they carry.
    fn take(
        &mut self,
        taken: &mut [u8],
        held: &mut usize,
        buffer: &mut Cursor<&mut [u8]>,
    ) -> io::Result<Pause> {
        let mut done = 0;
        let pause = loop {
            let records = taken.get_mut(done..*held).unwrap_or_default();
            if !is_room(records, buffer) {
                break Pause::Open;
            }
            let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(records);
            let pause = match state.map_err(broken)? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(broken)?;
                        discard += record.discard;
                        buffer.write_all(record.payload)?;
                    }
                    None
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    append(&mut self.outgoing, |room| data.encode(room))?;
                    None
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    None
                }
                ConnectionState::BlockedHandshake => Some(Pause::Handshake),
                ConnectionState::WriteTraffic(_) => Some(Pause::Open),
                ConnectionState::PeerClosed | ConnectionState::Closed => Some(Pause::Closed),
                _ => return Err(ErrorKind::InvalidData.into()),
            };
            done += discard;
            if let Some(pause) = pause {
                break pause;
            }
        };
        taken.copy_within(done..*held, 0);
        *held -= done;
        Ok(pause)
    }

    fn encrypt(&mut self, plain: &[u8]) -> io::Result<()> {
        loop {
            match self.tls.process_tls_records(&mut []).state.map_err(broken)? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    return append(&mut self.outgoing, |room| traffic.encrypt(plain, room));
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    append(&mut self.outgoing, |room| data.encode(room))?;
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => {}
                _ => return Err(ErrorKind::BrokenPipe.into()),
            }
        }
    }
}

/// Bytes of the first record of `records`, where its header is there.
fn record_length(records: &[u8]) -> Option<usize> {
    match records.get(..HEADER)? {
        [_, _, _, high, low] => Some(HEADER + usize::from(u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}

/// Whether the next record's content fits; into an empty buffer every one does.
fn is_room(records: &[u8], buffer: &Cursor<&mut [u8]>) -> bool {
    let used = buffer.position() as usize;
    used == 0 || record_length(records).unwrap_or(0) <= buffer.get_ref().len() - used
}

/// A socket that takes nothing now is no failure.
fn unless_full(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::WouldBlock { Ok(()) } else { Err(error) }
}

/// Has `write` write behind what is there, with as much room as it says that it needs.
fn append<E: Needs>(
    out: &mut Vec<u8>,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> io::Result<()> {
    let start = out.len();
    let mut room = 0;
    loop {
        out.resize(start + room, 0);
        match write(out.get_mut(start..).unwrap_or_default()) {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            Err(error) => match error.needs().filter(|needs| *needs > room) {
                Some(needs) => room = needs,
                None => return Err(io::Error::other("TLS cannot write")),
            },
        }
    }
}

/// An error that may say how much room was needed.
trait Needs {
    fn needs(&self) -> Option<usize>;
}

impl AsFd for TlsStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Needs for EncodeError {
    fn needs(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(error) => Some(error.required_size),
            Self::AlreadyEncoded => None,
        }
    }
}

impl Needs for EncryptError {
    fn needs(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(error) => Some(error.required_size),
            Self::EncryptExhausted => None,
        }
    }
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};
    use rustls::crypto::aws_lc_rs;
    use rustls::{RootCertStore, ServerConfig};
    use rustls_pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    /// What the server says at once: several records, and one that fills the reader's buffer to the last byte.
    const LONG: usize = 100_000;

    fn configs() -> (Arc<ClientConfig>, TlsAcceptor) {
        let issued = rcgen::generate_simple_self_signed(["mail.test".to_owned()]).unwrap();
        let certificate = issued.cert.der().clone();
        let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider.clone());
        let client = client.with_safe_default_protocol_versions().unwrap();
        let client = client.with_root_certificates(roots).with_no_client_auth();
        let server =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let server = server.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        (Arc::new(client), TlsAcceptor::from(Arc::new(server)))
    }

    /// Tries until the socket allows it.
    fn patiently<T>(
        stream: &mut TlsStream,
        mut step: impl FnMut(&mut TlsStream) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match step(stream) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let flags = if stream.is_full() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
                    poll(&mut [PollFd::new(stream, flags)], None)?;
                }
                other => return other,
            }
        }
    }

    fn read(stream: &mut TlsStream) -> io::Result<Vec<u8>> {
        let mut room = vec![0; 16 * 1024];
        let length = patiently(stream, |stream| stream.read(&mut room))?;
        room.truncate(length);
        Ok(room)
    }

    /// Client and server on loopback; what the server does with its end is the test's.
    async fn connected<F: Future<Output = ()> + Send + 'static>(
        serve: impl FnOnce(tokio_rustls::server::TlsStream<tokio::net::TcpStream>) -> F + Send + 'static,
    ) -> TlsStream {
        let (config, acceptor) = configs();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let socket = listener.accept().await.unwrap().0;
            serve(acceptor.accept(socket).await.unwrap()).await;
        });
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut stream = TlsStream::new(config, "mail.test".try_into().unwrap(), socket).unwrap();
        patiently(&mut stream, TlsStream::shake).unwrap();
        stream
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_both_sides_say_arrives_whole_and_an_idle_connection_keeps_no_buffer() {
        let mut stream = connected(|mut server| async move {
            let mut asked = [0; 5];
            server.read_exact(&mut asked).await.unwrap();
            server.write_all(&asked.repeat(LONG / 5)).await.unwrap();
            server.shutdown().await.unwrap();
        })
        .await;
        let mut unsent = b"ask\r\n".to_vec();
        patiently(&mut stream, |stream| stream.send(&mut unsent)).unwrap();
        assert_eq!((unsent.capacity(), stream.incoming.len(), stream.outgoing.capacity()), (0, 0, 0));
        let mut answer = Vec::new();
        let mut pieces_held = 0;
        loop {
            let piece = read(&mut stream).unwrap();
            if piece.is_empty() {
                break;
            }
            answer.extend(piece);
            while stream.holds_more() {
                pieces_held += 1;
                let mut room = vec![0; 16 * 1024];
                let length = stream.read_held(&mut room).unwrap();
                answer.extend(&room[..length]);
            }
            let nothing = stream.read_held(&mut vec![0; 16 * 1024]).map_err(|error| error.kind());
            assert!(matches!(nothing, Err(ErrorKind::WouldBlock) | Ok(0)), "{nothing:?}");
        }
        assert_eq!(answer, b"ask\r\n".repeat(LONG / 5));
        assert!(pieces_held > 0, "several records came at once, and the buffer has room for one");
        assert_eq!((stream.incoming.capacity(), stream.outgoing.capacity()), (0, 0));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_no_record_ends_the_connection_and_so_does_an_end_in_its_middle() {
        for broken in [&b"* OK in the clear\r\n"[..], &[23, 3, 3, 255, 255], &[23, 3, 3, 0, 20, 1, 2]] {
            let mut stream = connected(move |mut server| async move {
                server.get_mut().0.write_all(broken).await.unwrap();
            })
            .await;
            let read = read(&mut stream);
            assert!(read.as_ref().is_err() || read.as_ref().is_ok_and(Vec::is_empty), "{read:?}");
        }
    }
}
