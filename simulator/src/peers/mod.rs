//! The simulated counterparts as pure machines: time, randomness and bytes come in as arguments.

pub mod imap_server;
pub mod mail_store;
pub mod dovecot_client;
pub mod cyrus_client;
pub mod relay;
pub mod token_service;
pub mod fault;
pub mod tenant;
pub mod device;
pub mod metadata;
pub mod jwt;
pub mod principal;
pub mod http;
pub mod unix_time;
