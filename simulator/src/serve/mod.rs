//! The peers on real sockets: HTTPS, IMAP, the page, the control API.

pub mod imap;
