//! Sockets that the service manager holds and hands over (sd_listen_fds(3)): they stay open while the agent restarts, so
//! that a delivery waits for the new agent and is not refused. Each carries the name of the source it is for.

use crate::source::registry;
use listenfd::ListenFd;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;

/// Why the sockets were not taken over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A descriptor that no source can use.
    #[error(
        "the service manager handed over {name:?}, which is not a listening stream or a Unix datagram socket: {cause}"
    )]
    Kind {
        /// Its name.
        name: String,
        /// What the system said.
        cause: io::Error,
    },
    /// Two sockets of one name.
    #[error(
        "the service manager handed over two sockets called {name:?}; give each a FileDescriptorName= of its own"
    )]
    Twice {
        /// Their name.
        name: String,
    },
    /// Nobody would answer on it, and whoever connects would wait.
    #[error(
        "the service manager handed over a socket called {name:?}, and no source of kind {kinds} has that name; set FileDescriptorName= in the socket unit to the source's name, or stop the unit"
    )]
    Unclaimed {
        /// Its name.
        name: String,
        /// The kinds of sources that take a socket.
        kinds: String,
    },
}

/// The sockets by name. They stay open here, so that a source may be stopped and started.
#[derive(Debug, Default)]
pub(super) struct ActivatedSockets(HashMap<String, OwnedFd>);

impl ActivatedSockets {
    /// Takes what was handed to this process; once, since the environment forgets it.
    pub(super) fn take_over() -> Result<Self, Error> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut handed = ListenFd::from_env();
        let mut sockets = HashMap::new();
        for place in 0..handed.len() {
            let name = names.next().unwrap_or_default().to_owned();
            let socket =
                take(&mut handed, place).map_err(|cause| Error::Kind { name: name.clone(), cause })?;
            if sockets.insert(name.clone(), socket).is_some() {
                return Err(Error::Twice { name });
            }
        }
        Ok(Self(sockets))
    }

    /// The socket for the source of this name, if one was handed over.
    pub(super) fn socket(&self, source: &str) -> io::Result<Option<OwnedFd>> {
        self.0.get(source).map(OwnedFd::try_clone).transpose()
    }

    /// Whether each socket has a source among these names.
    pub(super) fn are_claimed(&self, sources: &[&str]) -> Result<(), Error> {
        match self.0.keys().find(|name| !sources.contains(&name.as_str())) {
            Some(name) => {
                let kinds = registry::names_of(|kind| kind.abilities.is_waited_for);
                Err(Error::Unclaimed { name: name.clone(), kinds })
            }
            None => Ok(()),
        }
    }
}

/// The descriptor at this place, whichever kind it is.
fn take(handed: &mut ListenFd, place: usize) -> io::Result<OwnedFd> {
    if let Ok(Some(listener)) = handed.take_unix_listener(place) {
        return Ok(listener.into());
    }
    if let Ok(Some(socket)) = handed.take_unix_datagram(place) {
        return Ok(socket.into());
    }
    let listener = handed.take_tcp_listener(place)?;
    listener.map(OwnedFd::from).ok_or_else(|| io::ErrorKind::NotFound.into())
}
