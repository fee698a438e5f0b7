//! Mail servers behave oddly, and the agent still finds the true count: each quirk of sources.md §7 in virtual time
//! and, where the server reports by itself, with a running agent. The `unarmed` modules show that each quirk deceives a
//! reader that does not know it.

mod imap;
mod imap_unarmed;
mod limits;

mod told;
mod told_unarmed;

mod order_goes_back;
