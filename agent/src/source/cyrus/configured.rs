//! The kind `cyrus`: its abilities, its keys, its advice.

use super::{Settings, driver};
use crate::source::examination::{Examiner, Finding};
use crate::source::keys::Keys;
use crate::source::kind::{Abilities, Common, ConfigContext, Configured, Kind, Running, StartError, Wiring};
use crate::source::names::Names;
use crate::source::socket_file::{self, IS_OPEN_TO_ALL};
use std::sync::Arc;

/// Cyrus's notify socket.
pub static KIND: Kind = Kind {
    name: "cyrus",
    abilities: Abilities { reports_changes: true, asked_at: None, is_waited_for: true },
    read,
    examine_host: |_, _| None,
};

fn read(keys: &mut dyn Keys, common: Common, _: ConfigContext) -> Option<Arc<dyn Configured>> {
    let listen = keys.socket_path("listen", "/run/mailbadge/cyrus.sock");
    let mode = keys.mode("mode", "0660");
    Some(Arc::new(Settings { name: common.name, listen: listen?, mode: mode?, names: common.names }))
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

    fn advice(&self) -> Vec<(&'static str, &'static str)> {
        let advice = "every user of this machine can set badges; give Cyrus's group 0660";
        (self.mode & IS_OPEN_TO_ALL != 0).then_some(("mode", advice)).into_iter().collect()
    }

    fn start(&self, wiring: Wiring) -> Result<Arc<dyn Running>, StartError> {
        Ok(Arc::new(driver::start_wired(self, wiring)?))
    }

    fn examine(&self, _: &Examiner) -> Vec<Finding> {
        vec![socket_file::driver::examine(&self.name, &self.listen)]
    }
}
