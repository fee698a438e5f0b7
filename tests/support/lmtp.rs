//! A blocking LMTP client (RFC 2033) that delivers small messages and times the answer.

use mailbadge::time::driver::Clock;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longest wait for any answer: above what a delivery takes whose dict server does not answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// One connection to an LMTP server.
#[derive(Debug)]
pub struct LmtpClient {
    reader: BufReader<TcpStream>,
    clock: Clock,
    delivered: u64,
}

/// What a delivery's answer told.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// From the end of the message to the 250.
    pub took: Duration,
    /// When the 250 was read.
    pub accepted_at: Instant,
}

impl LmtpClient {
    /// Connects and says hello.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client = Self { reader: BufReader::new(stream), clock: Clock::start(), delivered: 0 };
        client.answer("220")?;
        client.ask("LHLO localhost\r\n", "250")?;
        Ok(client)
    }

    /// Delivers one small message.
    pub fn deliver(&mut self, user: &str) -> io::Result<Delivery> {
        self.delivered += 1;
        self.ask("MAIL FROM:<sender@example.org>\r\n", "250")?;
        self.ask(&format!("RCPT TO:<{user}>\r\n"), "250")?;
        self.ask("DATA\r\n", "354")?;
        let message = format!(
            "From: sender@example.org\r\nTo: {user}\r\nSubject: message {}\r\n\r\nA small message.\r\n.\r\n",
            self.delivered
        );
        let start = self.clock.now().moment;
        self.ask(&message, "250")?;
        let end = self.clock.now().moment;
        Ok(Delivery { took: end.since(start), accepted_at: self.clock.instant(end) })
    }

    fn ask(&mut self, command: &str, expected: &str) -> io::Result<()> {
        self.reader.get_mut().write_all(command.as_bytes())?;
        self.answer(expected)
    }

    /// Reads an answer of one or more lines.
    fn answer(&mut self, expected: &str) -> io::Result<()> {
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the LMTP server hung up"));
            }
            if !line.starts_with(expected) {
                let text = format!("LMTP: expected {expected}, got {}", line.trim_end());
                return Err(io::Error::other(text));
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(());
            }
        }
    }
}
