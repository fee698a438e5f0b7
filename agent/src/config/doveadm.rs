//! The keys of a `[[source]]` of kind `doveadm`.

use super::secret;
use super::sections::ca_file;
use super::sheet::Section;
use super::value::Spelling;
use crate::source::doveadm::{Credential, Settings};
use crate::source::names::Names;
use std::sync::Arc;
use std::time::Duration;

/// Reads the source; `is_searching` says that users whom nobody watches are looked for.
pub(super) fn source(mut section: Section, name: &str, names: Names, is_searching: bool) -> Option<Settings> {
    let url = section.spelled("url", None, &Spelling::url());
    let credential = credential(&mut section);
    let ca_pem = ca_file(&mut section).map(|(pem, _)| pem);
    let seconds = Duration::from_secs;
    let sweep_interval = section.duration("sweep-interval", "15m", seconds(1)..=Duration::from_hours(168));
    let timeout = section.duration("timeout", "5m", seconds(1)..=Duration::from_hours(24));
    section.finish();
    let (url, credential) = (Arc::new(url?), credential?);
    Some(Settings {
        name: name.into(),
        names,
        url,
        ca_pem,
        credential,
        sweep_interval,
        timeout,
        is_searching,
    })
}

/// The keys `api-key-file` and `password-file`, one of them.
fn credential(section: &mut Section) -> Option<Credential> {
    let is_given = ["api-key-file", "password-file"].map(|key| section.table(key).is_some());
    match is_given {
        [true, true] => {
            section.refuse("api-key-file", "stands beside password-file; keep one of them");
            None
        }
        [false, true] => {
            secret::first_line_of(section, "password-file", "password").map(Credential::Password)
        }
        [false, false] => {
            section.refuse("api-key-file", "is missing; expected it or password-file: a file with Dovecot's doveadm_api_key or doveadm_password, mode 0600");
            None
        }
        [true, false] => secret::first_line_of(section, "api-key-file", "API key").map(Credential::ApiKey),
    }
}
