//! Server-to-server tokens: challenge, claims, signer, keeper (protocol.md §5).
