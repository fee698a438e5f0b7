//! Certificates and what they are used for (protocol.md §5.7).
