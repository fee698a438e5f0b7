//! A server that lets in fewer connections than there are mailboxes.

use super::*;
use std::collections::BTreeSet;

/// What the roster wants, with the connections that are on their way.
struct Slow {
    roster: Roster,
    now: Now,
    flying: Vec<(MailboxId, u32, Errand)>,
    held: BTreeSet<MailboxId>,
}

impl Slow {
    fn carry_out(&mut self) {
        while let Some(output) = self.roster.poll_output() {
            match output {
                Output::Connect { mailbox, number, errand, .. } => {
                    self.flying.push((mailbox, number, errand));
                }
                Output::HangUp(mailbox) => {
                    self.held.remove(&mailbox);
                    self.flying.retain(|(flying, ..)| *flying != mailbox);
                }
                Output::Ask(..) | Output::Note(_) => {}
            }
        }
    }

    fn pass(&mut self, wait: Duration) {
        self.now = self.now.after(wait);
        self.roster.handle(self.now, Input::Timeout);
        self.carry_out();
    }

    fn report(&mut self, mailbox: MailboxId, number: u32, reports: &[ConnectionReport]) {
        for report in reports {
            self.roster.handle(self.now, Input::Connection(mailbox, number, report.clone()));
        }
        self.carry_out();
    }

    /// The first that is on its way is let in; its mailbox.
    fn let_in(&mut self) -> MailboxId {
        let (mailbox, number, errand) = self.flying.remove(0);
        if errand == Errand::Watch {
            self.held.insert(mailbox);
            self.report(
                mailbox,
                number,
                &[
                    ConnectionReport::LoggedIn,
                    ConnectionReport::Watching(Method::Idle),
                    ConnectionReport::Read,
                ],
            );
        } else {
            self.report(
                mailbox,
                number,
                &[ConnectionReport::LoggedIn, ConnectionReport::Read, ConnectionReport::Ended(Ending::Done)],
            );
        }
        mailbox
    }
}

#[test]
fn without_descriptors_for_all_some_are_watched_and_the_rest_is_visited() {
    const MAILBOXES: u32 = 30;
    const OWN: usize = 8;
    let now = Now::default().after(Duration::from_secs(1000));
    let mut roster = Roster::new(&settings(Watch::Auto), 3);
    roster.hold_at_most(OWN);
    let mut slow = Slow { roster, now, flying: Vec::new(), held: BTreeSet::new() };
    for id in 0..MAILBOXES {
        slow.roster.handle(now, Input::Watch(MailboxId(id), format!("u{id}").into()));
    }
    slow.carry_out();
    let mut read = BTreeSet::new();
    for _ in 0..300 {
        assert!(slow.flying.len() + slow.held.len() <= OWN, "{:?}", slow.flying);
        while !slow.flying.is_empty() {
            read.insert(slow.let_in());
        }
        slow.pass(Duration::from_secs(1));
    }
    read.extend(&slow.held);
    assert_eq!(read.len(), MAILBOXES as usize, "held {:?}", slow.held);
    assert!(slow.held.len() >= OWN / 2, "{:?}", slow.held);
    let limit = slow.roster.limit().unwrap();
    assert!(limit.contains("8 connections") && limit.contains("LimitNOFILE"), "{limit}");
}

/// Found by seed 2390 of the profile swarm: connections that were on their way when a limit was learned held all the room
/// there was, and nobody else was read for an hour.
#[test]
fn connections_on_their_way_when_a_limit_is_learned_give_way_too() {
    const MAILBOXES: u32 = 8;
    let now = Now::default().after(Duration::from_secs(1000));
    let roster = Roster::new(&settings(Watch::Auto), 3);
    let mut slow = Slow { roster, now, flying: Vec::new(), held: BTreeSet::new() };
    for id in 0..MAILBOXES {
        slow.roster.handle(now, Input::Watch(MailboxId(id), format!("u{id}").into()));
    }
    slow.carry_out();
    while slow.flying.len() < 4 {
        slow.let_in();
        slow.pass(Duration::from_secs(1));
    }
    for _ in 0..2 {
        let (mailbox, number, _) = slow.flying.pop().unwrap();
        slow.report(mailbox, number, &[ConnectionReport::Ended(Ending::Lost)]);
    }
    assert_ne!(slow.roster.limit.most(), usize::MAX, "the server is taken for full");
    let mut read = BTreeSet::new();
    for _ in 0..300 {
        while !slow.flying.is_empty() {
            read.insert(slow.let_in());
        }
        slow.pass(Duration::from_secs(1));
    }
    read.extend(&slow.held);
    assert_eq!(read.len(), MAILBOXES as usize, "held {:?}, read {read:?}", slow.held);
}
