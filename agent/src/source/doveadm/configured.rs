//! The kind `doveadm`: its abilities, its keys, its advice.

use super::{Credential, Error, Settings, driver};
use crate::https::url::Url;
use crate::source::examination::{Examiner, Finding};
use crate::source::keys::Keys;
use crate::source::kind::{
    Abilities, Common, ConfigContext, Configured, Cost, Kind, Pace, Running, StartError, Wiring,
};
use crate::source::names::Names;
use crate::source::sweep;
use std::sync::Arc;
use std::time::Duration;

/// doveadm's HTTP API.
pub static KIND: Kind = Kind {
    name: "doveadm",
    abilities: Abilities { reports_changes: false, asked_at: Some(Cost::Low), is_waited_for: false },
    read,
    examine_host: |_, _| None,
};

fn read(keys: &mut dyn Keys, common: Common, context: ConfigContext) -> Option<Arc<dyn Configured>> {
    let expected =
        "an address like \"https://mail.fabrikam.com:8080/doveadm/v1\", with plain http to loopback only";
    let url = keys.spelled("url", None, expected, |text| Url::parse(text).ok());
    let credential = credential(keys);
    let authorities = keys.authorities();
    let seconds = Duration::from_secs;
    let sweep_interval = keys.duration("sweep-interval", "15m", seconds(1)..=Duration::from_hours(168));
    let timeout = keys.duration("timeout", "5m", seconds(1)..=Duration::from_hours(24));
    Some(Arc::new(Settings {
        name: common.name,
        names: common.names,
        url: Arc::new(url?),
        authorities,
        credential: credential?,
        sweep_interval,
        timeout,
        is_searching: context.watches_all,
    }))
}

/// The keys `api-key-file` and `password-file`, one of them.
fn credential(keys: &mut dyn Keys) -> Option<Credential> {
    let is_given = ["api-key-file", "password-file"].map(|key| keys.is_given(key));
    match is_given {
        [true, true] => keys.refuse("api-key-file", "stands beside password-file; keep one of them".to_owned()),
        [false, false] => keys.refuse("api-key-file", "is missing; expected it or password-file: a file with Dovecot's doveadm_api_key or doveadm_password, mode 0600".to_owned()),
        [false, true] => return keys.secret("password-file", "password").map(Credential::Password),
        [true, false] => return keys.secret("api-key-file", "API key").map(Credential::ApiKey),
    }
    None
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
        driver::examine(self, examiner)
    }

    fn count(&self, mailbox: &str, examiner: &Examiner) -> Option<u32> {
        examiner.runtime.block_on(driver::count_of(self, mailbox)).ok()
    }
}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        match error {
            Error::Client { .. } => Self::Refused(Box::new(error)),
            Error::Credential { .. } => Self::Settings(Box::new(error)),
        }
    }
}
