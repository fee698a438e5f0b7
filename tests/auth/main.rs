//! Certificates, keys and tokens: what the commands make of them, that others accept them, and that counts flow while
//! they change.

mod certificate;
mod commands;
mod openssl;
mod registration;

mod rotation;
mod token_service;
