//! The certificates in use by what for: for our metadata document, for gauges, for warnings of their end.

use super::Error;
use super::auth_config::{AuthConfig, Role};
use super::certificate::{Certificate, StoredCertificate, Thumbprint};
use super::fitness::{Urgency, days_left, urgency};
use crate::time::UnixMs;
use std::fmt;

/// The certificates that have a role, in the order of [`Role::ALL`]. Three at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InUse(Vec<(Role, Certificate)>);

impl InUse {
    /// Reads them out of all that are kept.
    pub fn read(config: &AuthConfig, kept: &[StoredCertificate]) -> Result<Self, Error> {
        let mut found = Vec::new();
        for role in Role::ALL {
            let Some(thumbprint) = role.holder(config) else { continue };
            if let Some(stored) = kept.iter().find(|one| one.thumbprint == thumbprint) {
                found.push((role, Certificate::from_der(&stored.der, &stored.friendly_name)?));
            }
        }
        Ok(Self(found))
    }

    /// The certificate that tokens are signed with.
    pub fn current(&self) -> Option<&Certificate> {
        self.iter().find(|(role, _)| *role == Role::Current).map(|(_, certificate)| certificate)
    }

    /// Each with its role.
    pub fn iter(&self) -> impl Iterator<Item = (Role, &Certificate)> {
        self.0.iter().map(|(role, certificate)| (*role, certificate))
    }

    /// Those that our metadata document names: the current one, the previous and the next while they are valid
    /// (protocol.md §5.4).
    pub fn published(&self, now: UnixMs) -> impl Iterator<Item = &Certificate> {
        let is_published = move |role, certificate: &Certificate| {
            role == Role::Current || (certificate.not_before()..=certificate.not_after()).contains(&now)
        };
        self.iter()
            .filter(move |(role, certificate)| is_published(*role, certificate))
            .map(|(_, certificate)| certificate)
    }

    /// What must be said of their ends now. Nobody is harmed by the end of a previous one.
    pub fn endings(&self, now: UnixMs) -> Vec<Ending> {
        let ending = |(role, certificate): (Role, &Certificate)| Ending {
            role,
            thumbprint: certificate.thumbprint(),
            end: certificate.not_after(),
            urgency: urgency(certificate, now),
            days_left: days_left(certificate, now),
        };
        let spoken_of = self.iter().filter(|(role, _)| *role != Role::Previous).map(ending);
        spoken_of.filter(|ending| ending.urgency != Urgency::None).collect()
    }
}

/// A certificate whose end is near, or over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// What it is used for.
    pub role: Role,
    /// Which one.
    pub thumbprint: Thumbprint,
    /// Its last instant.
    pub end: UnixMs,
    /// How near that is.
    pub urgency: Urgency,
    /// In whole days.
    pub days_left: u64,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, thumbprint, end, days_left, .. } = self;
        match (self.urgency, days_left) {
            (Urgency::Expired, _) => write!(f, "the {role} certificate {thumbprint} has expired on {end}")?,
            (_, 1) => write!(f, "the {role} certificate {thumbprint} ends on {end}, in 1 day")?,
            _ => write!(f, "the {role} certificate {thumbprint} ends on {end}, in {days_left} days")?,
        }
        f.write_str(match (role, self.urgency) {
            (Role::Current, Urgency::Expired) => "; `mailbadge setup` makes another and signs with it",
            (Role::Current, _) => {
                "; make another with `mailbadge certificate new` and announce it with `mailbadge auth config set --next`"
            }
            _ => "; announce another with `mailbadge auth config set --next`",
        })
    }
}

/// Remembers which ends were reported, so that each step is reported once.
#[derive(Debug, Default)]
pub struct ReportedEndings(Vec<(Role, Thumbprint, Urgency)>);

impl ReportedEndings {
    /// Those of `endings` that are news.
    pub fn news(&mut self, endings: Vec<Ending>) -> Vec<Ending> {
        let key = |ending: &Ending| (ending.role, ending.thumbprint, ending.urgency);
        let known = std::mem::replace(&mut self.0, endings.iter().map(key).collect());
        endings.into_iter().filter(|ending| !known.contains(&key(ending))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::auth_config::NextCertificate;
    use crate::identity::issue::{VALIDITY, self_signed};
    use std::time::Duration;

    const NOW: UnixMs = UnixMs(1_767_268_500_000);
    const DAY: Duration = Duration::from_hours(24);

    /// So long before the end of a certificate that was made now.
    fn before_end(span: Duration) -> UnixMs {
        UnixMs(NOW.after(VALIDITY).0 - u64::try_from(span.as_millis()).unwrap())
    }

    /// Three certificates that begin now, a year ago and in a year, by thumbprint as given.
    fn three() -> (InUse, [Thumbprint; 3]) {
        let year = DAY * 365;
        let begins = [NOW, UnixMs(NOW.0 - u64::try_from(year.as_millis()).unwrap()), NOW.after(year)];
        let made = begins.map(|begin| self_signed("fabrikam.com", begin).unwrap().0);
        let kept = made.each_ref().map(|certificate| StoredCertificate {
            thumbprint: certificate.thumbprint().to_string(),
            friendly_name: "OAuth".to_owned(),
            der: certificate.der().to_vec(),
        });
        let [current, previous, next] = kept.each_ref().map(|one| one.thumbprint.clone());
        let config = AuthConfig {
            current: Some(current),
            previous: Some(previous),
            next: Some(NextCertificate { thumbprint: next, effective_at: NOW.after(year) }),
            ..AuthConfig::default()
        };
        (InUse::read(&config, &kept).unwrap(), made.map(|certificate| certificate.thumbprint()))
    }

    #[test]
    fn the_document_names_the_current_certificate_and_the_others_while_they_are_valid() {
        let (in_use, [current, previous, next]) = three();
        let rows = [
            (NOW, vec![current, previous]),
            (NOW.after(DAY * 366), vec![current, previous, next]),
            (before_end(DAY), vec![current, next]),
            (NOW.after(VALIDITY + DAY), vec![current, next]),
        ];
        for (now, expected) in rows {
            let published: Vec<_> = in_use.published(now).map(Certificate::thumbprint).collect();
            assert_eq!(published, expected, "{now}");
        }
        assert_eq!(in_use.current().unwrap().thumbprint(), current);
    }

    #[test]
    fn an_end_is_told_once_at_60_30_and_7_days_and_when_it_is_over() {
        let (in_use, _) = three();
        let mut reported = ReportedEndings::default();
        let mut days = Vec::new();
        for hour in 0..=24 * 62 {
            let now = before_end(DAY * 61).after(Duration::from_hours(hour));
            days.extend(reported.news(in_use.endings(now)).into_iter().map(|it| (it.role, it.days_left)));
        }
        assert_eq!(days, [59, 29, 6, 0].map(|days| (Role::Current, days)));
    }

    #[test]
    fn an_ending_says_when_and_what_to_do() {
        let (in_use, [current, ..]) = three();
        let text = |now| in_use.endings(now)[0].to_string();
        let soon = text(before_end(DAY * 3));
        assert!(
            soon.starts_with(&format!("the current certificate {current} ends on 2030-12-31T")),
            "{soon}"
        );
        assert!(soon.contains(", in 3 days; ") && soon.contains("mailbadge certificate new"), "{soon}");
        let over = text(NOW.after(VALIDITY + DAY));
        assert!(over.contains("has expired on 2030-12-31T") && over.contains("mailbadge setup"), "{over}");
    }

    #[test]
    fn a_role_whose_certificate_is_gone_is_left_out() {
        let config = AuthConfig { current: Some("AA".to_owned()), ..AuthConfig::default() };
        assert_eq!(InUse::read(&config, &[]).unwrap(), InUse::default());
        assert_eq!(InUse::read(&AuthConfig::default(), &[]).unwrap().current(), None);
    }
}
