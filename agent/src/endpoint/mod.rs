//! What others on the network may ask this host: so far its metadata document (protocol.md §5.4), by which a relay can
//! trust it and learn of its next certificate in time.
//!
//! What the document says comes from [`Host`]; sockets are the [`driver`]'s.

pub mod driver;

use crate::listen::Listen;

/// Where the document is.
pub const METADATA_PATH: &str = "/autodiscover/metadata/json/1";

/// How the endpoint is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `None`: the endpoint is off.
    pub listen: Option<Listen>,
    /// Connections at once, at least one.
    pub connections_max: usize,
}

/// Who is asked. Calls return at once.
pub trait Host: Send + Sync {
    /// The metadata document as JSON; `None` while there is no certificate.
    fn metadata(&self) -> Option<Vec<u8>>;
}
