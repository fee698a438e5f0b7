//! The log: on standard error, where the service manager takes it.

use super::driver;
use std::io;
use tracing_subscriber::EnvFilter;

/// Starts the log. Without `-v` a daemon tells what it does, any other command only what goes wrong; `RUST_LOG` has the
/// last word.
pub fn start(is_daemon: bool, verbosity: u8, is_json: bool) {
    let level = match (is_daemon, verbosity) {
        (true, 0) => "info",
        (false, 0) => "error",
        (_, 1) => "mailbadge=debug,info",
        (..) => "mailbadge=trace,debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let has_color = driver::has_color(&io::stderr());
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(has_color);
    // A second program in one process, as in tests, keeps the first one's log.
    let _ = if is_json { builder.json().try_init() } else { builder.try_init() };
}
