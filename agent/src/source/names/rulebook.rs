//! The rules of all sources together: whether letter case tells mailboxes apart, by which name a mailbox is kept, and which
//! names no source can mean.
//!
//! Sources with different rules share one table of mailboxes. One source whose server's names have no letter case is enough
//! for the whole agent to tell none apart: that server cannot say which of two it means. A mailbox is then kept as it was
//! subscribed, and each source asks its own server by its own rule.

use super::{Names, Spelling};
use crate::event::mailbox_name::{canonical, folded, has_capital_local_part};
use std::borrow::Cow;
use std::fmt;

/// The rule of one source, and how it finds its mailboxes.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// The source's name.
    pub source: &'a str,
    /// Its rule.
    pub names: &'a Names,
    /// How it finds its mailboxes.
    pub lookup: Lookup<'a>,
}

/// How a source finds its mailboxes.
#[derive(Clone, Copy, Debug)]
pub enum Lookup<'a> {
    /// The server names the user: a mailbox is found by what the rule makes of that name.
    Reported,
    /// The server is asked by a name: the answer is the mailbox's.
    Asked,
    /// A folder is looked for by a name.
    Folder(&'a dyn Folders),
}

/// The folders of a source: not every name leads to one.
pub trait Folders: fmt::Debug + Sync {
    /// Why a user, as the server spells it, can have no folder.
    fn refusal(&self, user: &str) -> Option<String>;
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Rulebook<'a>(pub Vec<Rule<'a>>);

/// Why nothing may ever come of a name, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Each source that reports names calls this mailbox otherwise.
    Unmeant {
        /// The name.
        mailbox: String,
        /// A source, its `names`, and what it calls the mailbox.
        source: String,
        /// The spelling of that source.
        spelling: Spelling,
        /// By which name the mailbox would be found.
        meant: String,
    },
    /// Found only where the server spells it with the same capitals.
    Capitals {
        /// The name.
        mailbox: String,
    },
    /// No folder can be its Maildir.
    NoFolder {
        /// The name.
        mailbox: String,
        /// The source, and why.
        why: String,
    },
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unmeant { mailbox, source, spelling, meant } => write!(
                f,
                "no source can report {mailbox}: source {source}, with names = {:?}, reports {meant}; subscribe that name, \
                 or change `names` of the source",
                spelling.key()
            ),
            Self::Capitals { mailbox } => write!(
                f,
                "{mailbox} has capitals before its domain, and no source has lowercase = true: it is found only where the \
                 server reports the same capitals; where the server lowers names, as most do, set lowercase = true"
            ),
            Self::NoFolder { mailbox, why } => write!(f, "{mailbox} has no Maildir: {why}"),
        }
    }
}

impl Rulebook<'_> {
    /// Whether letter case tells no mailboxes apart.
    pub fn folds_case(&self) -> bool {
        self.0.iter().any(|rule| rule.names.is_lowered)
    }

    /// The name by which a mailbox is kept: in lower case only where no source needs its capitals.
    pub fn kept<'n>(&self, name: &'n str) -> Cow<'n, str> {
        let is_lowered = !self.0.is_empty() && self.0.iter().all(|rule| rule.names.is_lowered);
        if is_lowered { folded(name) } else { canonical(name) }
    }

    /// Whether both names are one mailbox.
    pub fn is_same(&self, one: &str, other: &str) -> bool {
        if self.folds_case() { folded(one) == folded(other) } else { canonical(one) == canonical(other) }
    }

    /// What speaks against a name: `None` where a source can mean it.
    pub fn doubt(&self, name: &str) -> Option<Doubt> {
        let mailbox = canonical(name);
        let mut told = self.0.iter().filter(|rule| matches!(rule.lookup, Lookup::Reported)).peekable();
        let Some(first) = told.peek().copied() else { return self.no_folder(&mailbox) };
        let meant_by = |rule: &Rule| rule.names.mailbox(&rule.names.server(&mailbox)).into_owned();
        if !told.any(|rule| self.is_same(&meant_by(rule), &mailbox)) {
            return Some(Doubt::Unmeant {
                source: first.source.to_owned(),
                spelling: first.names.spelling,
                meant: meant_by(first),
                mailbox: mailbox.into_owned(),
            });
        }
        let has_capitals = !self.folds_case() && has_capital_local_part(&mailbox);
        has_capitals.then(|| Doubt::Capitals { mailbox: mailbox.into_owned() })
    }

    /// Where there are only Maildirs, and none can be this mailbox's.
    fn no_folder(&self, mailbox: &str) -> Option<Doubt> {
        let mut first = None;
        for rule in &self.0 {
            let Lookup::Folder(folders) = rule.lookup else { return None };
            let refusal = folders.refusal(&rule.names.server(mailbox))?;
            first = first.or_else(|| Some(format!("source {}: {refusal}", rule.source)));
        }
        first.map(|why| Doubt::NoFolder { mailbox: mailbox.to_owned(), why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::maildir::template::Template;

    fn names(spelling: Spelling, is_lowered: bool) -> Names {
        Names { spelling, domain: "Fabrikam.com".into(), is_lowered }
    }

    fn told(names: &Names) -> Rule<'_> {
        Rule { source: "dict", names, lookup: Lookup::Reported }
    }

    fn asked(names: &Names) -> Rule<'_> {
        Rule { source: "imap", names, lookup: Lookup::Asked }
    }

    #[test]
    fn what_no_source_can_mean_is_told_with_the_name_that_would_do() {
        let (local, whole) = (names(Spelling::LocalPart, false), names(Spelling::WithDomain, false));
        let text = |rules: &[Rule], name: &str| Rulebook(rules.to_vec()).doubt(name).map(|it| it.to_string());
        let unmeant = text(&[told(&local)], "kim").expect("a doubt");
        assert!(
            unmeant.starts_with("no source can report kim: source dict, with names = \"local-part\""),
            "{unmeant}"
        );
        assert!(unmeant.contains("reports kim@fabrikam.com; subscribe that name"), "{unmeant}");
        assert!(text(&[told(&whole)], "kim@FABRIKAM.com").expect("a doubt").contains("reports kim;"));
        assert_eq!(text(&[told(&whole)], "kim@other.org"), None);
        assert_eq!(text(&[told(&local), told(&whole)], "kim"), None, "the other one can");
        assert_eq!(text(&[asked(&local)], "kim"), None, "it is asked by its name");
        assert!(text(&[asked(&local), told(&local)], "kim").is_some(), "it would never be pushed");
        assert_eq!(text(&[], "Kim"), None);
    }

    #[test]
    fn capitals_are_a_doubt_only_where_a_server_reports_names_and_none_is_lowered() {
        let (plain, lowered) = (names(Spelling::Same, false), names(Spelling::Same, true));
        let doubt = |rules: &[Rule]| Rulebook(rules.to_vec()).doubt("Kim@Fabrikam.COM");
        let text = doubt(&[told(&plain)]).expect("a doubt").to_string();
        assert!(
            text.starts_with("Kim@fabrikam.com has capitals") && text.contains("lowercase = true"),
            "{text}"
        );
        assert_eq!(doubt(&[told(&lowered)]), None);
        assert_eq!(doubt(&[told(&plain), asked(&lowered)]), None);
        assert_eq!(doubt(&[asked(&plain)]), None, "the server judges");
    }

    #[test]
    fn one_source_without_letter_case_is_enough_and_each_server_is_asked_by_its_own_rule() {
        let (plain, lowered) = (names(Spelling::Same, false), names(Spelling::Same, true));
        let both = Rulebook(vec![told(&lowered), asked(&plain)]);
        assert!(both.folds_case() && both.is_same("Kim@x", "kim@X"));
        assert_eq!(both.kept("Kim@X"), "Kim@x", "the IMAP server may need the capital");
        assert_eq!((plain.server("Kim@x"), lowered.server("Kim@x")), ("Kim@x".into(), "kim@x".into()));
        let one = Rulebook(vec![told(&lowered), asked(&lowered)]);
        assert_eq!(one.kept("Kim@X"), "kim@x");
        let none = Rulebook(vec![told(&plain)]);
        assert!(!none.folds_case() && !none.is_same("Kim@x", "kim@x") && none.is_same("Kim@x", "Kim@X"));
    }

    #[test]
    fn a_name_that_no_template_takes_has_no_maildir() {
        let rule = names(Spelling::Same, false);
        let template = Template::parse("/var/mail/{domain}/{local-part}").expect("a template");
        let folder = Rule { source: "maildir", names: &rule, lookup: Lookup::Folder(&template) };
        let doubt =
            |rules: &[Rule], name: &str| Rulebook(rules.to_vec()).doubt(name).map(|it| it.to_string());
        assert!(doubt(&[folder], "kim").expect("a doubt").contains("the path needs a domain"));
        assert!(doubt(&[folder], "../x@y").is_some());
        assert_eq!(doubt(&[folder], "Kim@x"), None);
        assert_eq!(doubt(&[folder, asked(&rule)], "kim"), None);
    }
}
