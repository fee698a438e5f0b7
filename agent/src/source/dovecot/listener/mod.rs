//! The listening socket of the dict server, Unix or TCP, and its connections. What is said on them stands elsewhere.

pub mod driver;
