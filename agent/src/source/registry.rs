//! Which kinds of sources there are: a row a kind.

use super::kind::Kind;
use super::{cyrus, doveadm, dovecot, imap, maildir};

/// All kinds, in the order in which texts name them.
pub static KINDS: [&Kind; 5] = [&dovecot::KIND, &cyrus::KIND, &maildir::KIND, &doveadm::KIND, &imap::KIND];

/// The kind of this name.
pub fn find(name: &str) -> Option<&'static Kind> {
    KINDS.into_iter().find(|kind| kind.name == name)
}

/// The names of the kinds for which this holds, for a sentence: `dovecot or cyrus`.
pub fn names_of(is_meant: impl Fn(&Kind) -> bool) -> String {
    let meant: Vec<_> = KINDS.iter().filter(|kind| is_meant(kind)).map(|kind| kind.name).collect();
    meant.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_kind_is_found_by_its_name_and_no_two_share_one() {
        let names: HashSet<_> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), KINDS.len());
        for kind in KINDS {
            assert!(find(kind.name).is_some_and(|found| std::ptr::eq(found, kind)), "{}", kind.name);
        }
        assert!(find("pop3").is_none());
        assert_eq!(names_of(|kind| kind.abilities.is_waited_for), "dovecot or cyrus");
    }

    #[test]
    fn every_kind_reports_changes_or_can_be_asked() {
        for kind in KINDS {
            let abilities = kind.abilities;
            assert!(abilities.reports_changes || abilities.asked_at.is_some(), "{}", kind.name);
        }
    }
}
