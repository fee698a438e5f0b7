//! The keys that every `[[source]]` has; a kind reads its own.

use super::config_file::{ConfigFile, Section};
use super::value::Spelling;
use crate::source::kind::{Common, ConfigContext, Configured, Kind};
use crate::source::names::{self, Names};
use crate::source::registry;
use std::collections::HashSet;
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// Sources of one agent: a `SourceId` is a byte.
const SOURCES_MAX: usize = 255;

/// Reads them all; `organization` is the domain that rules for names mean unless they say another, `watch_all` whether
/// sources look for mailboxes.
pub(super) fn all<'d>(
    file: &mut ConfigFile<'d>,
    found: Option<(usize, &'d DeValue<'d>)>,
    organization: &str,
    watch_all: bool,
) -> Vec<Arc<dyn Configured>> {
    let Some((line, value)) = found else { return Vec::new() };
    let tables: Option<Vec<_>> = value.as_array().map(|list| {
        list.iter().filter_map(|one| Some((one.span().start, one.get_ref().as_table()?))).collect()
    });
    let Some(tables) = tables.filter(|tables| {
        tables.len() <= SOURCES_MAX && Some(tables.len()) == value.as_array().map(|list| list.len())
    }) else {
        file.section("source", line, None)
            .refuse("", format!("expected [[source]] tables, {SOURCES_MAX} at most"));
        return Vec::new();
    };
    let is_reporting = |table| kind_of(table).is_some_and(|kind| kind.abilities.reports_changes);
    let context = ConfigContext {
        has_reports: tables.iter().any(|(_, table)| is_reporting(table)),
        watches_all: watch_all,
    };
    let mut names = HashSet::new();
    let mut sources = Vec::new();
    for (start, table) in tables {
        let line = file.line(start);
        let section = file.section("source", line, Some(table));
        sources.extend(one(section, organization, context, &mut names));
    }
    sources
}

fn kind_of<'d>(table: &'d DeTable<'d>) -> Option<&'static Kind> {
    let (_, name) = table.iter().find(|(key, _)| key.get_ref() == "kind")?;
    registry::find(name.get_ref().as_str()?)
}

fn one(
    mut section: Section,
    organization: &str,
    context: ConfigContext,
    names: &mut HashSet<String>,
) -> Option<Arc<dyn Configured>> {
    let kind = section.spelled("kind", None, &Spelling::kind())?;
    let name = section.text("name", kind.name);
    section.rename(format!("source.{name}"));
    if !names.insert(name.clone()) {
        section.refuse(
            "name",
            format!("another source is called {name:?} already; give each a name of its own"),
        );
    }
    // Where a word is wrong the file has the fault; the other keys are read all the same.
    let spelled = spelled_names(&mut section, organization).unwrap_or_default();
    let source = (kind.read)(&mut section, Common { name: name.into(), names: spelled }, context);
    section.finish();
    source
}

const SPELLINGS: &[(&str, names::Spelling)] = &[
    ("same", names::Spelling::Same),
    ("local-part", names::Spelling::LocalPart),
    ("with-domain", names::Spelling::WithDomain),
];

/// The keys that say how the server spells its users.
fn spelled_names(section: &mut Section, organization: &str) -> Option<Names> {
    let spelling = section.choice("names", "same", SPELLINGS);
    let domain = section.optional("domain", &Spelling::domain());
    let is_lowered = section.yes_or_no("lowercase", false);
    Some(Names {
        spelling: spelling?,
        domain: domain.unwrap_or_else(|| organization.to_owned()).into(),
        is_lowered,
    })
}
