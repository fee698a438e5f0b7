//! Readers look for the one value that they need: whatever else the grammar of the other side allows, and whatever is
//! changed around that value, it is read right (ADR 0027).

mod imap;
mod maildir;
mod readers;
