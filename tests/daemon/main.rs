//! The daemon as a process: it starts, reloads and stops as a service manager and an administrator expect, and never
//! reports a count as known that it does not know.

mod damage;
mod full_disk;
mod life;
mod mute;
mod relay;
mod state;
mod strangers;
mod unknown;
