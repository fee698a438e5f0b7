//! Others that this host deals with: token services, and applications that it trusts directly.

use crate::time::UnixMs;

/// A token service that may be asked for tokens, known by its metadata document (protocol.md §5.4).
///
/// Names are unique without regard to case, here and for [`PartnerApplication`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthServer {
    /// `Name`, for example `MicrosoftSts`.
    pub name: String,
    /// `AuthMetadataUrl`.
    pub metadata_url: String,
    /// The last good document that was read there, as it came.
    pub document: Option<Vec<u8>>,
    /// When that was.
    pub fetched_at: Option<UnixMs>,
}

/// An application that is trusted directly, without a token service (protocol.md §5.3, row 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartnerApplication {
    /// `Name`.
    pub name: String,
    /// `ApplicationIdentifier`; with the realm unique without regard to case.
    pub application_id: String,
    /// `Realm`; empty: any.
    pub realm: String,
    /// `AuthMetadataUrl`, where both came from a document.
    pub metadata_url: Option<String>,
}
