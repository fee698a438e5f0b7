//! The kind `dovecot`: its abilities, its keys, its advice.

use super::{Listen, Settings, driver};
use crate::source::examination::{Examiner, Finding};
use crate::source::keys::{Keys, ListenAddress};
use crate::source::kind::{Abilities, Common, ConfigContext, Configured, Kind, Running, StartError, Wiring};
use crate::source::names::Names;
use crate::source::socket_file::{self, IS_OPEN_TO_ALL};
use std::sync::Arc;

/// Dovecot's `notify_status` plugin.
pub static KIND: Kind = Kind {
    name: "dovecot",
    abilities: Abilities { reports_changes: true, asked_at: None, is_waited_for: true },
    read,
    examine_host: |_, _| None,
};

fn read(keys: &mut dyn Keys, common: Common, _: ConfigContext) -> Option<Arc<dyn Configured>> {
    let address = keys.listen_address("listen", "/run/mailbadge/dict.sock");
    let mode = keys.mode("mode", "0660");
    let connections_max = keys.number("connections-max", 8192, 1..=1_000_000) as usize;
    let listen = match address? {
        ListenAddress::Unix(path) => Listen::Unix(path),
        ListenAddress::Tcp(address) => Listen::Tcp(address),
    };
    let Common { name, names } = common;
    Some(Arc::new(Settings { name, listen, mode: mode?, connections_max, names }))
}

impl Configured for Settings {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn names(&self) -> &Names {
        &self.names
    }

    fn connections_max(&self) -> usize {
        self.connections_max
    }

    fn advice(&self) -> Vec<(&'static str, &'static str)> {
        let advice = match &self.listen {
            Listen::Tcp(address) if !address.ip().is_loopback() => {
                ("listen", "whoever reaches this address can set badges; use a Unix socket or loopback")
            }
            Listen::Unix(_) if self.mode & IS_OPEN_TO_ALL != 0 => {
                ("mode", "every user of this machine can set badges; give Dovecot's group 0660")
            }
            _ => return Vec::new(),
        };
        vec![advice]
    }

    fn start(&self, wiring: Wiring) -> Result<Arc<dyn Running>, StartError> {
        Ok(Arc::new(driver::start_wired(self, wiring)?))
    }

    fn examine(&self, _: &Examiner) -> Vec<Finding> {
        vec![match &self.listen {
            Listen::Unix(path) => socket_file::driver::examine(&self.name, path),
            Listen::Tcp(address) => {
                Finding::skipped(format!("source {}", self.name), format!("dict server on {address}"))
            }
        }]
    }
}
