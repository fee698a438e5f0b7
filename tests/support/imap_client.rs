//! A small blocking IMAP client for tests: another mail program that reads, flags, moves and deletes.
//!
//! Shares no code with the agent's IMAP source.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for any answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// One connection, logged in.
#[derive(Debug)]
pub struct ImapClient {
    reader: BufReader<TcpStream>,
    tag: u32,
}

impl ImapClient {
    /// Connects and logs in with a password.
    pub fn connect(address: SocketAddr, user: &str, password: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client = Self { reader: BufReader::new(stream), tag: 0 };
        client.line()?;
        client.ask(&format!("LOGIN \"{user}\" \"{password}\""))?;
        Ok(client)
    }

    /// Sends a command; gives its untagged lines. `NO` and `BAD` are errors.
    pub fn ask(&mut self, command: &str) -> io::Result<Vec<String>> {
        self.tag += 1;
        let tag = format!("t{} ", self.tag);
        self.reader.get_mut().write_all(format!("{tag}{command}\r\n").as_bytes())?;
        self.answers(command, &tag)
    }

    /// Appends `count` small messages to the mailbox, with these flags (`\Seen`, or none).
    pub fn append(&mut self, mailbox: &str, flags: &str, count: u32) -> io::Result<()> {
        let message = "From: sender@example.org\r\nSubject: appended\r\n\r\nA small message.\r\n";
        for _ in 0..count {
            self.tag += 1;
            let tag = format!("t{} ", self.tag);
            let command = format!("APPEND {mailbox} ({flags}) {{{}}}", message.len());
            self.reader.get_mut().write_all(format!("{tag}{command}\r\n").as_bytes())?;
            let line = self.line()?;
            if !line.starts_with('+') {
                return Err(io::Error::other(format!("{command}: {line}")));
            }
            self.reader.get_mut().write_all(format!("{message}\r\n").as_bytes())?;
            self.answers(&command, &tag)?;
        }
        Ok(())
    }

    /// Selects a mailbox; gives how many messages lie in it.
    pub fn select(&mut self, mailbox: &str) -> io::Result<u32> {
        let lines = self.ask(&format!("SELECT {mailbox}"))?;
        let exists =
            lines.iter().find_map(|line| line.strip_prefix("* ")?.strip_suffix(" EXISTS")?.parse().ok());
        exists.ok_or_else(|| io::Error::other(format!("SELECT {mailbox}: no EXISTS in {lines:?}")))
    }

    /// Sets (`+`) or clears (`-`) a flag of messages of the selected mailbox, by sequence numbers.
    pub fn store(&mut self, messages: &str, sign: char, flag: &str) -> io::Result<()> {
        self.ask(&format!("STORE {messages} {sign}FLAGS.SILENT ({flag})")).map(drop)
    }

    /// Removes these messages of the selected mailbox for good.
    pub fn expunge(&mut self, messages: &str) -> io::Result<()> {
        self.store(messages, '+', "\\Deleted")?;
        self.ask("EXPUNGE").map(drop)
    }

    /// Moves messages of the selected mailbox elsewhere (RFC 6851).
    pub fn move_to(&mut self, messages: &str, mailbox: &str) -> io::Result<()> {
        self.ask(&format!("MOVE {messages} {mailbox}")).map(drop)
    }

    /// Asks for STATUS UNSEEN; the mailbox should not be the selected one.
    pub fn status_unseen(&mut self, mailbox: &str) -> io::Result<u32> {
        let lines = self.ask(&format!("STATUS {mailbox} (UNSEEN)"))?;
        let unseen =
            lines.iter().find_map(|line| line.split_once("(UNSEEN ")?.1.strip_suffix(')')?.parse().ok());
        unseen.ok_or_else(|| io::Error::other(format!("STATUS {mailbox}: no UNSEEN in {lines:?}")))
    }

    fn answers(&mut self, command: &str, tag: &str) -> io::Result<Vec<String>> {
        let mut untagged = Vec::new();
        loop {
            let line = self.line()?;
            match line.strip_prefix(tag) {
                None => untagged.push(line),
                Some(text) if text.starts_with("OK") => return Ok(untagged),
                Some(text) => return Err(io::Error::other(format!("{command}: {text}"))),
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the IMAP server hung up"));
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }
}
