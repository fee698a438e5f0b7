//! The file of a Unix socket that a mail server writes to: made, taken over from a dead agent, removed. All of it is
//! input and output, so it lives in [`driver`]; here are the errors.

pub(in crate::source) mod driver;

use std::io;
use std::path::PathBuf;

/// The bit of a socket's mode that lets every user write to it.
pub(in crate::source) const IS_OPEN_TO_ALL: u32 = 0o002;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something answers on the socket: most likely another agent.
    #[error("{path}: another process answers on this socket; stop it or choose another listen path")]
    InUse {
        /// The configured path.
        path: PathBuf,
    },
    /// The path exists and is no socket, so it is not ours to remove.
    #[error("{path}: exists and is not a socket; move it away or choose another listen path")]
    NotASocket {
        /// The configured path.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("{path}: cannot listen: {reason}; the directory must exist and be writable by the agent")]
    Unix {
        /// The configured path.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
}
