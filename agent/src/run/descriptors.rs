//! How the file descriptors that the system grants are shared out, so that whatever one side holds, the mail server's
//! sockets and the relay keep theirs.

/// Those that the daemon itself has open: database, notes, logs, listeners, threads' wake-ups; and a reserve for files that
/// are read in between.
pub(super) const OWN: usize = 40;
/// Beside the connections of the relay: its token service, and one being opened while another closes.
const RELAY_RESERVE: usize = 4;
/// Fewer than these no listener and no source is given: with one it could not even tell somebody to go.
const SHARE_MIN: usize = 4;

/// What would be held if there were plenty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Connections to the relay at once.
    pub(super) relay: usize,
    /// Connections to the admin endpoint.
    pub(super) admin: usize,
    /// Connections to the endpoint for relays.
    pub(super) endpoint: usize,
    /// Connections of mail servers, of all sources that they connect to, and how many such sources there are.
    pub(super) mail_server: (usize, usize),
    /// Sources that connect to a mail server.
    pub(super) connecting: usize,
}

/// What each may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shares {
    /// The admin endpoint.
    pub(super) admin: usize,
    /// The endpoint for relays.
    pub(super) endpoint: usize,
    /// Each source that its mail server connects to.
    pub(super) mail_server: usize,
    /// Each source that connects to its mail server.
    pub(super) connecting: usize,
}

impl Shares {
    /// Of `limit` descriptors. The mail server may take half of what the daemon and the relay leave, each endpoint an
    /// eighth; sources that connect take the rest.
    pub(super) fn of(limit: usize, wanted: Wanted) -> Self {
        let free = limit.saturating_sub(OWN + wanted.relay + RELAY_RESERVE);
        let endpoint = |wanted: usize| wanted.min((free / 8).max(SHARE_MIN));
        let (mail_server, sources) = wanted.mail_server;
        let (admin, relays) = (endpoint(wanted.admin), endpoint(wanted.endpoint));
        let mail_server = mail_server.min((free / 2).max(SHARE_MIN * sources));
        let rest = free.saturating_sub(admin + relays + mail_server);
        Self {
            admin,
            endpoint: relays,
            mail_server: mail_server.checked_div(sources).unwrap_or_default(),
            connecting: rest.checked_div(wanted.connecting).unwrap_or_default().max(SHARE_MIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const USUAL: Wanted =
        Wanted { relay: 4, admin: 64, endpoint: 256, mail_server: (8192, 1), connecting: 1 };

    #[test]
    fn with_plenty_everybody_has_what_he_wants_and_imap_the_rest() {
        let shares = Shares::of(200_000, USUAL);
        assert_eq!((shares.admin, shares.endpoint, shares.mail_server), (64, 256, 8192));
        assert_eq!(shares.connecting, 200_000 - OWN - 8 - 64 - 256 - 8192);
    }

    #[test]
    fn with_few_the_mail_server_has_most() {
        assert_eq!(
            Shares::of(200, USUAL),
            Shares { admin: 19, endpoint: 19, mail_server: 76, connecting: 38 }
        );
        assert_eq!(Shares::of(64, USUAL), Shares { admin: 4, endpoint: 4, mail_server: 8, connecting: 4 });
        let off = Wanted { admin: 0, endpoint: 0, mail_server: (0, 0), ..USUAL };
        assert_eq!(Shares::of(200, off), Shares { connecting: 152, ..Shares::default() });
    }

    proptest! {
        #[test]
        fn together_they_never_hold_more_than_there_is(
            limit in 128_usize..500_000,
            relay in 1_usize..=32,
            admin in 0_usize..1000,
            endpoint in 0_usize..1000,
            held in 0_usize..100_000,
            sources in 0_usize..3,
            connecting in 0_usize..4,
        ) {
            let mail_server = (if sources == 0 { 0 } else { held }, sources);
            let wanted = Wanted { relay, admin, endpoint, mail_server, connecting };
            let shares = Shares::of(limit, wanted);
            let all = shares.admin + shares.endpoint + shares.mail_server * sources + shares.connecting * connecting;
            prop_assert!(OWN + relay + all <= limit, "{all} of {limit}: {shares:?}");
        }
    }
}
