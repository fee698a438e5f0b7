//! Letter case and spelling of names: what a device subscribes to and what a server reports are one mailbox wherever a rule
//! can mean that, and a name that no source can mean is told of. The rules by themselves, by data; then a running agent
//! beside a simulator that reports by dict and by datagrams, and the commands.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

use mailbadge::source::names::rulebook::{Doubt, Lookup, Rule, Rulebook};
use mailbadge::source::names::{Names, Spelling};
use mailbadge::tracker::Tracker;
use mailbadge_sim::peers::mail_store::{AccountId, MailStore};
use mailbadge_sim::serve::notifiers::{DictAddress, Options};
use proptest::prelude::*;
use proptest::sample::select;
use std::time::Duration;
use support::cloud::{Cloud, ORGANIZATION};
use support::command_line;
use support::host::{Host, badges};
use support::wait_until;

/// How long a running agent may take; far above what it takes.
const LIMIT: Duration = Duration::from_secs(30);

/// The user behind a name, as RFC 5321 sees it: written anew from the contract and not from the agent.
fn identity(name: &str, is_without_case: bool) -> (String, Option<String>) {
    let (local_part, domain) = match name.rsplit_once('@') {
        Some((local_part, domain)) => (local_part, Some(domain.to_lowercase())),
        None => (name, None),
    };
    let local_part = if is_without_case { local_part.to_lowercase() } else { local_part.to_owned() };
    (local_part, domain)
}

/// The mailbox of the user that a server calls `told`.
fn meant(told: &str, spelling: Spelling, is_without_case: bool) -> (String, Option<String>) {
    let (local_part, domain) = identity(told, is_without_case);
    match (spelling, domain) {
        (Spelling::LocalPart, None) => (local_part, Some(ORGANIZATION.to_owned())),
        (Spelling::WithDomain, Some(domain)) if domain == ORGANIZATION => (local_part, None),
        (_, domain) => (local_part, domain),
    }
}

const SPELLINGS: [Spelling; 3] = [Spelling::Same, Spelling::LocalPart, Spelling::WithDomain];

fn name() -> impl Strategy<Value = String> {
    let local_part = select(vec!["kim", "Kim", "KIM", "lee"]);
    let domain = select(vec!["", "@fabrikam.com", "@Fabrikam.COM", "@other.org", "@Other.Org"]);
    (local_part, domain).prop_map(|(local_part, domain)| format!("{local_part}{domain}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// For each rule and each way a server may spell a user.
    #[test]
    fn a_mailbox_is_found_where_the_rule_can_mean_it_and_nowhere_else(
        spelling in select(SPELLINGS.to_vec()), is_lowered: bool, domain_in_capitals: bool, subscribed in name(), told in name(),
    ) {
        let domain = if domain_in_capitals { "FABRIKAM.com" } else { ORGANIZATION };
        let names = Names { spelling, domain: domain.into(), is_lowered };
        let rules = Rulebook(vec![Rule { source: "dict", names: &names, lookup: Lookup::Reported }]);
        let tracker = Tracker::default();
        tracker.fold_case(rules.folds_case());
        let enrolled = tracker.enroll(&rules.kept(&subscribed)).unwrap();
        let is_found = tracker.find(&names.mailbox(&told)) == Some(enrolled);
        let is_meant = identity(&subscribed, is_lowered) == meant(&told, spelling, is_lowered);
        prop_assert_eq!(is_found, is_meant, "{} reported as {}", subscribed, told);
        if is_found {
            let doubt = rules.doubt(&subscribed);
            prop_assert!(!matches!(doubt, Some(Doubt::Unmeant { .. })), "{:?}", doubt);
        }
    }

    #[test]
    fn a_name_that_no_source_can_mean_is_told_of_with_one_that_a_source_can(
        spelling in select(SPELLINGS.to_vec()), is_lowered: bool, subscribed in name(),
    ) {
        let names = Names { spelling, domain: ORGANIZATION.into(), is_lowered };
        let rules = Rulebook(vec![Rule { source: "dict", names: &names, lookup: Lookup::Reported }]);
        let everything = ["kim", "Kim", "KIM", "lee"].into_iter().flat_map(|local_part| {
            ["", "@fabrikam.com", "@other.org"].map(|domain| format!("{local_part}{domain}"))
        });
        let mut everything = everything.map(|told| meant(&told, spelling, is_lowered));
        let can_be_meant = everything.any(|meant| meant == identity(&subscribed, is_lowered));
        let has_capitals = subscribed.split('@').next().unwrap().contains(char::is_uppercase);
        match rules.doubt(&subscribed) {
            Some(Doubt::Unmeant { meant, .. }) => {
                prop_assert!(!can_be_meant);
                let better = rules.doubt(&meant);
                prop_assert!(!matches!(better, Some(Doubt::Unmeant { .. })), "{:?}", better);
            }
            Some(Doubt::Capitals { .. }) => prop_assert!(can_be_meant && has_capitals && !is_lowered),
            Some(other) => prop_assert!(false, "{}", other),
            None => prop_assert!(can_be_meant && (is_lowered || !has_capitals)),
        }
    }
}

#[test]
fn a_mailbox_keeps_the_spelling_that_a_server_may_need_when_letter_case_is_of_no_account() {
    let tracker = Tracker::default();
    assert!(tracker.fold_case(true) && !tracker.fold_case(true));
    let id = tracker.enroll("Kim@Fabrikam.COM").unwrap();
    assert_eq!(tracker.enroll("kim@fabrikam.com").unwrap(), id);
    assert_eq!(tracker.find("KIM@fabrikam.com"), Some(id));
    assert_eq!(tracker.names(), [(id, "Kim@fabrikam.com".into())]);
    assert!(tracker.fold_case(false));
    assert_eq!((tracker.find("Kim@fabrikam.com"), tracker.names().len()), (None, 0));
    assert_ne!(tracker.enroll("Kim@fabrikam.com").unwrap(), id, "a place is never given to another");
}

/// A running agent beside a simulator that tells it, with one mailbox subscribed by a name of its own.
struct Scene {
    cloud: Cloud,
    host: Host,
    mailbox: &'static str,
}

impl Scene {
    fn start(
        tell: fn(&Host) -> Options,
        server: MailStore,
        source: fn(&Host) -> String,
        mailbox: &'static str,
    ) -> Self {
        let mut host = Host::new();
        let cloud = Cloud::start_telling(server, tell(&host));
        host.configure(&cloud, &source(&host));
        host.subscribe(&[mailbox.to_owned()]);
        host.start();
        Self { cloud, host, mailbox }
    }

    /// Delivers to the server's first user.
    fn deliver(&self) {
        self.cloud.mail_store().unwrap().0.lock().deliver(AccountId(0)).unwrap();
    }

    #[track_caller]
    fn shows(&self, unseen: u32) {
        let what = format!("{} shows {unseen}", self.mailbox);
        wait_until(&what, LIMIT, || (badges(&self.cloud, self.mailbox) == [Some(unseen); 2]).then_some(()));
    }
}

fn dict(host: &Host) -> Options {
    Options { dict: Some(DictAddress::Unix(host.dict_socket())), cyrus: None }
}

fn cyrus(host: &Host) -> Options {
    Options { dict: None, cyrus: Some(host.cyrus_socket()) }
}

#[test]
fn what_a_dict_reports_in_lower_case_reaches_who_subscribed_with_capitals() {
    let lowered = |host: &Host| host.dovecot_source() + "lowercase = true\n";
    let scene = Scene::start(dict, MailStore::new(2, ORGANIZATION), lowered, "U1@Fabrikam.COM");
    scene.deliver();
    scene.shows(1);
    let listed =
        scene.host.command(&["subscription", "list", "--mailbox", "u1@fabrikam.com", "--json"]).unwrap();
    assert!(listed.contains("\"u1@fabrikam.com\""), "{listed}");
    assert!(
        scene
            .host
            .command(&["subscription", "remove", "--mailbox", "U1@FABRIKAM.com"])
            .unwrap()
            .contains("Removed 2")
    );
}

#[test]
fn the_domain_that_a_device_gave_in_capitals_is_the_servers() {
    let scene = Scene::start(dict, MailStore::new(2, ORGANIZATION), Host::dovecot_source, "u1@Fabrikam.COM");
    scene.deliver();
    scene.shows(1);
    let by_local_part =
        |host: &Host| host.dovecot_source() + "names = \"local-part\"\ndomain = \"Fabrikam.com\"\n";
    let scene = Scene::start(dict, MailStore::new(2, ""), by_local_part, "user1@FABRIKAM.COM");
    scene.deliver();
    scene.shows(1);
}

#[test]
fn a_datagram_of_cyrus_may_have_the_domain_in_capitals() {
    let scene = Scene::start(cyrus, MailStore::new(2, "Fabrikam.COM"), Host::cyrus_source, "u1@fabrikam.com");
    scene.deliver();
    scene.shows(1);
}

#[test]
fn letter_case_can_be_switched_off_and_on_while_the_agent_runs() {
    let scene = Scene::start(dict, MailStore::new(2, ORGANIZATION), Host::dovecot_source, "U1@fabrikam.com");
    scene.deliver();
    let is_heard = |line: &str| line.contains("kind=\"unknown\"") && !line.ends_with(" 0");
    let metrics = || scene.host.ask("/metrics").lines().any(is_heard).then_some(());
    wait_until("a name that nobody subscribed is reported", LIMIT, metrics);
    let lowered = scene.host.dovecot_source() + "lowercase = true\n";
    scene.host.write_configuration(&scene.cloud, "", &lowered);
    scene.host.signal("HUP");
    wait_until("the next delivery arrives", LIMIT, || {
        scene.deliver();
        badges(&scene.cloud, scene.mailbox).iter().all(Option::is_some).then_some(())
    });
    let unseen = scene.cloud.mail_store().unwrap().0.lock().status(AccountId(0)).unwrap().unseen;
    scene.shows(unseen);
}

#[test]
fn commands_say_which_names_no_source_can_mean() {
    let host = command_line::Host::with(
        "[[source]]\nkind = \"dovecot\"\nlisten = \"/run/mailbadge/dict.sock\"\nnames = \"local-part\"\n",
    );
    let add = |mailbox: &str| {
        let ended = host.run(&format!(
            "subscription add --mailbox {mailbox} --app-id a --device-id {mailbox} --type GCM"
        ));
        assert_eq!(ended.code, 0, "{}", ended.err);
        ended.err
    };
    assert_eq!(add("lee@Fabrikam.COM"), "");
    let unmeant = add("kim");
    assert!(
        unmeant.contains("no source can report kim") && unmeant.contains("kim@fabrikam.com"),
        "{unmeant}"
    );
    let capitals = add("Kim@fabrikam.com");
    assert!(
        capitals.contains("Kim@fabrikam.com has capitals") && capitals.contains("lowercase = true"),
        "{capitals}"
    );
    let checked = host.run("check").out;
    assert!(checked.contains("advice: subscription: no source can report kim"), "{checked}");
    assert!(checked.contains("advice: subscription: Kim@fabrikam.com has capitals"), "{checked}");
    assert!(!checked.contains("lee"), "{checked}");
}
