//! The kind `maildir`: its abilities, its keys, its advice.

use super::message::Separator;
use super::template::Template;
use super::{Settings, driver};
use crate::source::examination::{Examiner, Finding};
use crate::source::keys::Keys;
use crate::source::kind::{
    Abilities, Common, ConfigContext, Configured, Cost, Kind, Pace, Running, StartError, Wiring,
};
use crate::source::names::Names;
use crate::source::names::rulebook::Lookup;
use crate::source::sweep;
use std::sync::Arc;
use std::time::Duration;

/// Maildirs.
pub static KIND: Kind = Kind {
    name: "maildir",
    abilities: Abilities { reports_changes: true, asked_at: Some(Cost::Low), is_waited_for: false },
    read,
    examine_host: driver::examine_host,
};

const SEPARATORS: &[(&str, Separator)] =
    &[(":", Separator::Colon), (";", Separator::Semicolon), ("!", Separator::ExclamationMark)];

fn read(keys: &mut dyn Keys, common: Common, context: ConfigContext) -> Option<Arc<dyn Configured>> {
    let expected = "an absolute path with {user}, or with {local-part} and perhaps {domain}, like \"/var/mail/{user}/Maildir\"";
    let path = keys.spelled("path", None, expected, Template::parse);
    let separator = keys.choice("flag-separator", ":", SEPARATORS);
    let range = Duration::from_secs(1)..=Duration::from_hours(168);
    let sweep_interval = keys.duration("sweep-interval", "15m", range);
    let (Common { name, names }, is_searching) = (common, context.watches_all);
    let (path, separator) = (path?, separator?);
    Some(Arc::new(Settings { name, path, separator, names, sweep_interval, is_searching }))
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

    fn lookup(&self) -> Lookup<'_> {
        Lookup::Folder(&self.path)
    }

    fn pace(&self) -> Option<Pace> {
        Some(Pace { sweep_interval: self.sweep_interval, login_rate: None })
    }

    fn advice(&self) -> Vec<(&'static str, &'static str)> {
        sweep::advice(self.sweep_interval).into_iter().collect()
    }

    fn start(&self, wiring: Wiring) -> Result<Arc<dyn Running>, StartError> {
        let Wiring { id, observer, clock, counters, seed, .. } = wiring;
        Ok(Arc::new(driver::start(self, id, observer, clock, counters, seed)?))
    }

    fn examine(&self, examiner: &Examiner) -> Vec<Finding> {
        vec![driver::examine(self, examiner.mailbox)]
    }

    fn count(&self, mailbox: &str, _: &Examiner) -> Option<u32> {
        driver::read_once(self, mailbox).ok().flatten()
    }
}
