//! One connection of Dovecot to a dict server, on a real socket: carries bytes to and from the machine, keeps its timer
//! and ends what stands still.

use super::StatusChange;
use crate::peers::dovecot_client::{DovecotClient, Input, Output};
use std::io;
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::sleep_until;

/// Bytes of answers read at once.
const READ_BYTES: usize = 4096;

/// Why a conversation with a dict server ended early.
#[derive(Debug, Error)]
pub(crate) enum Trouble {
    /// The system's word.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The dict server went.
    #[error("it closed the connection")]
    Closed,
    /// It said what Dovecot does not bear.
    #[error("{0}")]
    Broken(String),
    /// It owes an answer.
    #[error("it did not answer within {0:?}")]
    Silent(Duration),
    /// It did not come.
    #[error("nobody listened for {0:?}")]
    Away(Duration),
}

/// How long a connection stands still; `None` where that has no limit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    /// With nothing to tell: then the connection ends well.
    pub(crate) idle: Option<Duration>,
    /// With a commit that is not answered, or bytes that are not taken.
    pub(crate) answer: Option<Duration>,
}

/// Tells what comes through `changes` until that ends or has been silent for long; `client` counts time from `started`.
/// Says of each change that was answered how long that took.
pub(crate) async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    client: &mut DovecotClient,
    changes: &mut mpsc::Receiver<StatusChange>,
    started: Instant,
    limits: Limits,
    mut committed: impl FnMut(Duration),
) -> Result<(), Trouble> {
    let mut buffer = vec![0; READ_BYTES];
    let mut is_last_told = false;
    // When something was told or answered last.
    let mut since = started.elapsed();
    loop {
        while let Some(output) = client.poll_output() {
            match output {
                Output::Send(bytes) => write(&mut stream, &bytes, limits.answer).await?,
                Output::Committed { waited, .. } => {
                    since = started.elapsed();
                    committed(waited);
                }
                Output::Broken(why) => return Err(Trouble::Broken(why)),
            }
        }
        let is_owed = client.outstanding() > 0;
        if is_last_told && !is_owed {
            return Ok(());
        }
        let limit = if is_owed { limits.answer } else { limits.idle };
        tokio::select! {
            change = changes.recv(), if !is_last_told => match change {
                Some(StatusChange { name, status }) => {
                    let now = started.elapsed();
                    since = if is_owed { since } else { now };
                    client.handle(now, Input::Changed { user: &name, status, token: 0 });
                }
                None => is_last_told = true,
            },
            read = stream.read(&mut buffer) => match buffer.get(..read?) {
                Some(bytes) if !bytes.is_empty() => client.handle(started.elapsed(), Input::Bytes(bytes)),
                _ => return Err(Trouble::Closed),
            },
            () = at(started, client.poll_timeout()) => client.handle(started.elapsed(), Input::Timeout),
            () = at(started, limit.map(|limit| since + limit)) => match limit {
                Some(limit) if is_owed => return Err(Trouble::Silent(limit)),
                // What is told at this very moment still goes out.
                _ => changes.close(),
            },
        }
    }
}

async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    limit: Option<Duration>,
) -> Result<(), Trouble> {
    let Some(limit) = limit else { return Ok(stream.write_all(bytes).await?) };
    let written = tokio::time::timeout(limit, stream.write_all(bytes)).await;
    Ok(written.map_err(|_| Trouble::Silent(limit))??)
}

/// Waits until that long after `started`; for ever without a time.
async fn at(started: Instant, due: Option<Duration>) {
    match due {
        Some(due) => sleep_until((started + due).into()).await,
        None => std::future::pending().await,
    }
}
