//! The rules by which all configured sources spell their users, together.

use super::{Advice, Config};
use crate::source::names::rulebook::Rulebook;

/// Names that one word of advice lists, most.
const NAMES_LISTED_MAX: usize = 10;

impl Config {
    /// How all sources spell their users.
    pub fn rulebook(&self) -> Rulebook<'_> {
        Rulebook(self.sources.iter().map(|source| source.rule()).collect())
    }
}

/// Advice on subscribed mailboxes of which nothing may ever come; a name may be given more than once.
pub fn check_names<'n>(config: &Config, names: impl Iterator<Item = &'n str>) -> Vec<Advice> {
    let rulebook = config.rulebook();
    let mut doubts: Vec<String> = names.filter_map(|name| Some(rulebook.doubt(name)?.to_string())).collect();
    doubts.sort_unstable();
    doubts.dedup();
    let more = doubts.len().saturating_sub(NAMES_LISTED_MAX);
    doubts.truncate(NAMES_LISTED_MAX);
    if more > 0 {
        doubts.push(format!("{more} more subscribed mailboxes have names of which nothing may come"));
    }
    doubts.into_iter().map(|what| Advice { key: "subscription".to_owned(), what }).collect()
}

/// Advice where sources differ in whether letter case counts.
pub(super) fn check_case(config: &Config) -> Option<Advice> {
    let rules = config.rulebook();
    let other = rules.0.iter().find(|rule| rules.folds_case() && !rule.names.is_lowered)?;
    let what = "is false beside a source with true, so that letter case tells no mailboxes apart here either; set it alike \
                unless this server must be asked with capitals";
    Some(Advice { key: format!("source.{}.lowercase", other.source), what: what.to_owned() })
}
