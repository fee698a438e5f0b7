//! Who may know whom: arrows between the agent's rooms point down, its files form no circles, some rooms know few
//! others, agent and simulator do not know each other.
//!
//! What does not hold yet is listed with its reason. An entry that is no longer needed fails, so that the lists shrink.

use crate::modules::{Arrow, Modules, circles, is_parent_and_child, room};
use crate::sources::{none, read, sources};
use std::collections::BTreeSet;

/// Rooms that know few others, with those that they may know besides the vocabulary.
const FEW: &[(&str, &[&str])] = &[
    ("source", &["files", "https"]),
    ("tracker", &[]),
    ("store", &["files", "identity", "subscription"]),
    ("identity", &["https"]),
    ("subscription", &[]),
    ("endpoint", &["listen"]),
    ("admin", &["listen"]),
];

/// What every room may know.
const VOCABULARY: &[&str] = &["event", "time", "counters"];

/// Arrows from a room of [`FEW`] that are still there.
const ARROWS_KNOWN: &[(&str, &str, &str)] = &[];

/// Circles of files that are still there.
const CIRCLES_KNOWN: &[(&[&str], &str)] = &[];

#[test]
fn arrows_between_the_agents_rooms_point_down() {
    let modules = Modules::of_the_agent();
    let rank = |module: &str| modules.rooms.iter().position(|known| known == room(module));
    let mut complaints = Vec::new();
    for (from, to) in modules.arrows() {
        let is_up = matches!((rank(&from), rank(&to)), (Some(from), Some(to)) if to < from);
        if is_up {
            complaints.push(format!("`{from}` knows `{to}`, whose room stands above in agent/src/lib.rs"));
        }
    }
    assert!(modules.rooms.len() > 10, "only {} rooms were read", modules.rooms.len());
    none(&complaints);
}

#[test]
fn some_rooms_know_few_others() {
    let mut arrows: BTreeSet<Arrow> = BTreeSet::new();
    for (from, to) in Modules::of_the_agent().arrows() {
        let (from, to) = (room(&from), room(&to));
        let few = FEW.iter().find(|(few, _)| *few == from).map(|(_, allowed)| *allowed);
        if few.is_some_and(|allowed| from != to && !VOCABULARY.contains(&to) && !allowed.contains(&to)) {
            arrows.insert((from.to_owned(), to.to_owned()));
        }
    }
    let known = |(from, to, _): &(&str, &str, &str)| ((*from).to_owned(), (*to).to_owned());
    let known: BTreeSet<Arrow> = ARROWS_KNOWN.iter().map(known).collect();
    let fresh = arrows.difference(&known).map(|(from, to)| format!("`{from}` knows `{to}`"));
    let gone = known.difference(&arrows).map(|arrow| format!("{arrow:?} is gone: take it off ARROWS_KNOWN"));
    none(&fresh.chain(gone).collect::<Vec<_>>());
}

#[test]
fn the_agents_files_form_no_circle_but_of_a_parent_and_its_children() {
    let arrows: BTreeSet<Arrow> = Modules::of_the_agent()
        .arrows()
        .into_iter()
        .filter(|(from, to)| !is_parent_and_child(from, to))
        .collect();
    assert!(arrows.len() > 100, "only {} arrows were read", arrows.len());
    let circles: BTreeSet<BTreeSet<String>> = circles(&arrows).into_iter().collect();
    let known = |(circle, _): &(&[&str], &str)| circle.iter().map(|&name| name.to_owned()).collect();
    let known: BTreeSet<BTreeSet<String>> = CIRCLES_KNOWN.iter().map(known).collect();
    let mut complaints = Vec::new();
    for circle in circles.difference(&known) {
        let inside = arrows.iter().filter(|(from, to)| circle.contains(from) && circle.contains(to));
        let inside: Vec<String> = inside.map(|(from, to)| format!("  {from} → {to}")).collect();
        complaints.push(format!("a circle:\n{}", inside.join("\n")));
    }
    for circle in known.difference(&circles) {
        complaints.push(format!("{circle:?} is no circle any more: take it off CIRCLES_KNOWN"));
    }
    none(&complaints);
}

#[test]
fn agent_and_simulator_do_not_know_each_other() {
    let mut complaints = Vec::new();
    for (folder, other) in [("agent", "mailbadge-sim"), ("simulator", "mailbadge.workspace")] {
        if read(&format!("{folder}/Cargo.toml")).contains(other) {
            complaints.push(format!("{folder}/Cargo.toml depends on {other}"));
        }
    }
    for (folder, other) in [("agent/src", "mailbadge_sim::"), ("simulator/src", "mailbadge::")] {
        for source in sources(&[folder]) {
            if source.text.contains(other) {
                complaints.push(format!("{} names {other}", source.path));
            }
        }
    }
    none(&complaints);
}
