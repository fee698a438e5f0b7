//! TLS without a buffer per connection, over rustls' unbuffered API: whole records are taken in a buffer that all
//! connections of a thread share, and an idle connection keeps nothing but rustls' own state. tokio-rustls would keep
//! 4 KiB for each.

use rustls::ClientConfig;
use rustls::client::UnbufferedClientConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls_pki_types::ServerName;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use zeroize::Zeroize;

/// Bytes of records that are looked at together: a handshake message of 64 KiB, the longest that rustls takes, in records.
const RECORDS: usize = 80 * 1024;
/// A record's header (RFC 8446 §5.1); its last two bytes are the length of what follows.
const HEADER: usize = 5;

thread_local! {
    static TAKEN: RefCell<Vec<u8>> = RefCell::new(vec![0; RECORDS]);
}

/// A TLS connection.
pub(super) struct TlsStream {
    socket: TcpStream,
    tls: UnbufferedClientConnection,
    /// The begin of a record that is not whole, or records there was no room to take.
    incoming: Vec<u8>,
    /// Records that the socket did not take yet.
    outgoing: Vec<u8>,
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
    /// The handshake, on a connection that nothing was said on or STARTTLS was.
    pub(super) async fn connect(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        socket: TcpStream,
    ) -> io::Result<Self> {
        let tls = UnbufferedClientConnection::new(config, name).map_err(broken)?;
        let mut stream = Self { socket, tls, incoming: Vec::new(), outgoing: Vec::new() };
        poll_fn(|context| stream.poll_handshake(context)).await?;
        Ok(stream)
    }

    fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        TAKEN.with_borrow_mut(|taken| {
            let mut held = self.restore(taken);
            loop {
                let pause = self.take(taken, &mut held, &mut ReadBuf::new(&mut []))?;
                let flushed = self.poll_flush(context)?;
                let is_done = match pause {
                    Pause::Open => flushed.is_ready(),
                    Pause::Closed => return Poll::Ready(Err(ErrorKind::UnexpectedEof.into())),
                    Pause::Handshake => false,
                };
                if is_done || self.poll_fill(context, taken, &mut held)?.is_pending() {
                    self.incoming = taken.get(..held).unwrap_or_default().to_vec();
                    return if is_done { Poll::Ready(Ok(())) } else { Poll::Pending };
                }
            }
        })
    }

    /// Reads into `buffer`; nothing read is the end. It must have room for 16 KiB, a record's most.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        TAKEN.with_borrow_mut(|taken| {
            let mut held = self.restore(taken);
            let read = loop {
                let pause = self.take(taken, &mut held, buffer)?;
                // Answers to what the server asked of the connection itself; what does not go now goes later.
                let _ = self.poll_flush(context)?;
                if pause == Pause::Closed || !buffer.filled().is_empty() {
                    break Poll::Ready(Ok(()));
                }
                match self.poll_fill(context, taken, &mut held) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                        break Poll::Ready(Ok(()));
                    }
                    other => break other,
                }
            };
            self.incoming = taken.get(..held).unwrap_or_default().to_vec();
            read
        })
    }

    /// Encrypts `unsent` and writes what the socket takes.
    pub(super) fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        unsent: &mut Vec<u8>,
    ) -> Poll<io::Result<()>> {
        if !unsent.is_empty() {
            let encrypted = self.encrypt(unsent);
            unsent.zeroize();
            *unsent = Vec::new();
            encrypted?;
        }
        self.poll_flush(context)
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_write(context, &self.outgoing))? {
                0 => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                written => drop(self.outgoing.drain(..written)),
            }
        }
        // Nothing stays with an idle connection.
        self.outgoing = Vec::new();
        Poll::Ready(Ok(()))
    }

    /// What was kept goes to the begin of the shared buffer; says how much it is.
    fn restore(&mut self, taken: &mut [u8]) -> usize {
        let incoming = std::mem::take(&mut self.incoming);
        if let Some(place) = taken.get_mut(..incoming.len()) {
            place.copy_from_slice(&incoming);
        }
        incoming.len()
    }

    /// Reads more behind what is held.
    fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
        taken: &mut [u8],
        held: &mut usize,
    ) -> Poll<io::Result<()>> {
        let room = taken.get_mut(*held..).unwrap_or_default();
        if room.is_empty() {
            return Poll::Ready(Err(ErrorKind::InvalidData.into()));
        }
        let mut room = ReadBuf::new(room);
        ready!(Pin::new(&mut self.socket).poll_read(context, &mut room))?;
        let read = room.filled().len();
        *held += read;
        if read == 0 { Poll::Ready(Err(ErrorKind::UnexpectedEof.into())) } else { Poll::Ready(Ok(())) }
    }

    /// Takes records from the front of what is held while there is room for what they carry.
    fn take(&mut self, taken: &mut [u8], held: &mut usize, buffer: &mut ReadBuf<'_>) -> io::Result<Pause> {
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
                        if record.payload.len() > buffer.remaining() {
                            return Err(ErrorKind::InvalidData.into());
                        }
                        buffer.put_slice(record.payload);
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

/// Whether the next record's content fits; into an empty buffer every one does.
fn is_room(records: &[u8], buffer: &ReadBuf<'_>) -> bool {
    let length = match records.get(..HEADER) {
        Some([_, _, _, high, low]) => usize::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    };
    buffer.filled().is_empty() || length <= buffer.remaining()
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

    async fn read(stream: &mut TlsStream) -> io::Result<Vec<u8>> {
        let mut room = vec![0; 16 * 1024];
        let mut buffer = ReadBuf::new(&mut room);
        poll_fn(|context| stream.poll_read(context, &mut buffer)).await?;
        Ok(buffer.filled().to_vec())
    }

    /// Client and server on loopback; what the server does with its end is the test's.
    async fn connected<F: Future<Output = ()> + Send + 'static>(
        serve: impl FnOnce(tokio_rustls::server::TlsStream<TcpStream>) -> F + Send + 'static,
    ) -> TlsStream {
        let (config, acceptor) = configs();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let socket = listener.accept().await.unwrap().0;
            serve(acceptor.accept(socket).await.unwrap()).await;
        });
        let socket = TcpStream::connect(address).await.unwrap();
        TlsStream::connect(config, "mail.test".try_into().unwrap(), socket).await.unwrap()
    }

    #[tokio::test]
    async fn what_both_sides_say_arrives_whole_and_an_idle_connection_keeps_no_buffer() {
        let mut stream = connected(|mut server| async move {
            let mut asked = [0; 5];
            server.read_exact(&mut asked).await.unwrap();
            server.write_all(&asked.repeat(LONG / 5)).await.unwrap();
            server.shutdown().await.unwrap();
        })
        .await;
        let mut unsent = b"ask\r\n".to_vec();
        poll_fn(|context| stream.poll_send(context, &mut unsent)).await.unwrap();
        assert_eq!((unsent.capacity(), stream.incoming.len(), stream.outgoing.capacity()), (0, 0, 0));
        let mut answer = Vec::new();
        loop {
            let piece = read(&mut stream).await.unwrap();
            if piece.is_empty() {
                break;
            }
            answer.extend(piece);
        }
        assert_eq!(answer, b"ask\r\n".repeat(LONG / 5));
        assert_eq!((stream.incoming.capacity(), stream.outgoing.capacity()), (0, 0));
    }

    #[tokio::test]
    async fn what_is_no_record_ends_the_connection_and_so_does_an_end_in_its_middle() {
        for broken in [&b"* OK in the clear\r\n"[..], &[23, 3, 3, 255, 255], &[23, 3, 3, 0, 20, 1, 2]] {
            let mut stream = connected(move |mut server| async move {
                server.get_mut().0.write_all(broken).await.unwrap();
            })
            .await;
            let read = read(&mut stream).await;
            assert!(read.as_ref().is_err() || read.as_ref().is_ok_and(Vec::is_empty), "{read:?}");
        }
    }
}
