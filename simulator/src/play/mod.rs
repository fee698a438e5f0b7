//! What is played in the `world`, and what is expected of it: the plan (what users do and what fails, as data that can be
//! printed, read and shrunk), the reference (what every badge must show), the checker (what must hold at each step and in
//! the end), the report.
//!
//! It knows mailboxes, devices and requests to a relay, nothing of the agent: whoever drives one tells the checker what
//! it sees from outside.

pub mod plan;
pub mod deed;
pub mod draw;
pub mod shrink;
pub mod reference;
pub mod patience;
pub mod haste;
pub mod checker;
pub mod report;

pub use checker::{Check, Checker};
pub use deed::Deed;
pub use plan::{Plan, Telling, Tokens};
pub use reference::Reference;
pub use report::StoryReport;
