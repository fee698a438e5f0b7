//! Threads that help to accept while more connect than one thread can serve, and sleep else.

pub(super) mod driver;
