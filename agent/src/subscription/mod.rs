//! The subscription record: rules, expiry, dedupe (protocol.md §2.1).
