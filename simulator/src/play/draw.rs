//! Draws plans: what users do in a story and what fails, from a seed and the knobs of a profile.

use super::deed::Deed;
use super::plan::{Plan, Telling, Tokens};
use crate::peers::fault::{Kind, Order};
use crate::peers::mail_store::Quirk;
use crate::world::profile::Troubles;
use crate::world::{Knobs, Profile, Seed, Weather};
use std::time::Duration;

/// How far clocks jump, either way, at most: twice what a relay tolerates.
const JUMP_MS_MAX: i64 = 600_000;
/// The life of a token that ends while the story is told: from, to.
const TOKEN_MINUTES: (u64, u64) = (10, 40);
/// Kills in the midst of a call to store or notes, at most.
const AT_CALL_MAX: u32 = 5;
/// Calls that are let pass before that, at most.
const CALLS_MAX: u32 = 24;
/// Spans in which store and notes refuse calls now and then, at most.
const FAILS_MAX: u32 = 3;
/// Shortest life of a subscription that says how long it lives.
const LIFE_MIN: Duration = Duration::from_mins(2);

/// The story of this seed.
pub(super) fn plan(seed: Seed, profile: Profile, knobs: &Knobs) -> Plan {
    // What was drawn before there were such faults stays as it was.
    let (rng, disk_rng) = (&mut seed.stream("plan"), &mut seed.stream("disk"));
    let mailboxes = rng.usize(1..=knobs.mailboxes_max);
    let devices = mailboxes * rng.usize(1..=knobs.devices_max);
    let telling = rng.choice(Telling::ALL).unwrap_or(Telling::Events);
    let (has_modseq, has_esearch) = (rng.u8(0..4) > 0, rng.u8(0..4) > 0);
    let (is_reporting, weather) = (rng.bool(), weather(rng, knobs.weather));
    let events = (rng.u32(0..=knobs.events.0), rng.u32(0..=knobs.events.1));
    let count = rng.usize(knobs.deeds.0..=knobs.deeds.1);
    let (tokens, token_life) = tokens(&mut seed.stream("tokens"));
    let mut draw = Draw { rng, knobs, mailboxes, devices, is_reporting, tokens };
    let mut deeds: Vec<(Duration, Deed)> = (0..count).map(|_| (draw.at(), draw.deed())).collect();
    draw.rng = disk_rng;
    let at_calls = draw.rng.u32(0..=AT_CALL_MAX.min(knobs.troubles.agent));
    deeds.extend((0..at_calls).map(|_| (draw.at(), draw.at_call())));
    let fails = draw.rng.u32(0..=FAILS_MAX.min(knobs.troubles.machine));
    deeds.extend((0..fails).map(|_| (draw.at(), Deed::DiskFails(draw.span()))));
    deeds.sort_by_key(|(at, _)| *at);
    Plan {
        seed,
        profile,
        mailboxes,
        devices,
        telling,
        has_modseq,
        has_esearch,
        is_reporting,
        tokens,
        token_life,
        weather,
        events,
        trouble: knobs.trouble,
        deeds,
    }
}

/// Every other story has a token service; in every other one tokens end while it is told.
fn tokens(rng: &mut fastrand::Rng) -> (Tokens, Duration) {
    let tokens = rng.choice(Tokens::ALL).unwrap_or(Tokens::Own);
    let minutes = if rng.bool() { 24 * 60 } else { rng.u64(TOKEN_MINUTES.0..=TOKEN_MINUTES.1) };
    (tokens, Duration::from_mins(minutes))
}

/// Fine weather in every other story.
fn weather(rng: &mut fastrand::Rng, most: Weather) -> Weather {
    if rng.bool() {
        return Weather::default();
    }
    let mut up_to = |most: u32| rng.u32(0..=most);
    Weather {
        delay: up_to(most.delay),
        loss: up_to(most.loss),
        duplicate: up_to(most.duplicate),
        cut: up_to(most.cut),
        slow: up_to(most.slow),
    }
}

struct Draw<'a> {
    rng: &'a mut fastrand::Rng,
    knobs: &'a Knobs,
    mailboxes: usize,
    devices: usize,
    is_reporting: bool,
    tokens: Tokens,
}

impl Draw<'_> {
    /// In bursts: deeds fall into a few seconds as often as anywhere.
    fn at(&mut self) -> Duration {
        let trouble = self.knobs.trouble.as_micros() as u64;
        if self.rng.bool() {
            Duration::from_micros(self.rng.u64(0..trouble))
        } else {
            let burst = self.rng.u64(0..8) * (trouble / 8);
            Duration::from_micros(burst + self.rng.u64(0..2_000_000))
        }
    }

    fn deed(&mut self) -> Deed {
        let Troubles { relay, mail_host, quirks, devices, agent, machine } = self.knobs.troubles;
        let mut drawn = self.rng.u32(0..100 + relay + mail_host + quirks + devices + agent + machine);
        for (share, kind) in [relay, mail_host, quirks, devices, agent, machine].into_iter().zip(0..) {
            if drawn < share {
                return self.trouble(kind);
            }
            drawn -= share;
        }
        self.of_user()
    }

    fn trouble(&mut self, kind: u8) -> Deed {
        match kind {
            0 if self.tokens == Tokens::Service && self.rng.u8(0..3) == 0 => {
                Deed::TokenService(self.token_service())
            }
            0 => Deed::Relay(self.relay()),
            1 => self.of_mail_host(),
            2 => self.quirk(),
            3 => Deed::DeviceGone(self.device()),
            4 => self.of_agent(),
            _ => self.of_machine(),
        }
    }

    fn mailbox(&mut self) -> usize {
        self.rng.usize(..self.mailboxes)
    }

    fn device(&mut self) -> usize {
        self.rng.usize(..self.devices)
    }

    fn span(&mut self) -> Duration {
        let most = (self.knobs.fault_max.as_millis() as u64).max(2);
        Duration::from_millis(self.rng.u64(1..most))
    }

    fn of_user(&mut self) -> Deed {
        let mailbox = self.mailbox();
        match self.rng.u32(0..100) {
            0..40 => Deed::Deliver(mailbox),
            40..62 => Deed::Read(mailbox),
            62..70 => Deed::Unread(mailbox),
            70..76 => Deed::ReadAll(mailbox),
            76..81 => Deed::Expunge(mailbox),
            81..84 => Deed::MoveOut(mailbox),
            84..87 => Deed::MoveIn(mailbox),
            87..96 => Deed::Subscribe(self.device(), self.life()),
            96..98 => Deed::Unsubscribe(self.device()),
            _ => Deed::BumpUidValidity(mailbox),
        }
    }

    /// One in eight subscriptions ends while the story is told.
    fn life(&mut self) -> Option<Duration> {
        let most = LIFE_MIN + self.knobs.trouble;
        let ms = LIFE_MIN.as_millis() as u64..most.as_millis() as u64;
        (self.rng.u8(0..8) == 0).then(|| Duration::from_millis(self.rng.u64(ms)))
    }

    fn of_mail_host(&mut self) -> Deed {
        match self.rng.u32(0..10) {
            0..3 => Deed::MassDisconnect,
            3..6 => Deed::Hang(self.mailbox()),
            6 => Deed::BumpUidValidity(self.mailbox()),
            7 => Deed::OrderGoesBack(self.mailbox(), self.rng.bool()),
            _ => Deed::SourceLost(self.span()),
        }
    }

    fn quirk(&mut self) -> Deed {
        // Whether a server miscounts is learned once: one that begins to later is none that there is.
        // Under the last two every log-in fails, and the pauses after that outlast a story.
        let is_left_out =
            |quirk: &Quirk| matches!(quirk, Quirk::EsearchCountTotal | Quirk::Preauth | Quirk::DelegateFirst);
        let is_lasting = |quirk: &Quirk| !quirk.acts_once() && !is_left_out(quirk);
        let lasting: Vec<Quirk> = Quirk::of_imap().filter(is_lasting).collect();
        let quirk = self.rng.choice(lasting).unwrap_or(Quirk::DuplicateStatus);
        Deed::Quirk(quirk, self.rng.u8(0..3) > 0)
    }

    fn of_agent(&mut self) -> Deed {
        match self.rng.u32(0..10) {
            0..2 => Deed::Restart,
            2..8 => Deed::Kill(self.span()),
            _ => Deed::PowerCut(self.span()),
        }
    }

    fn at_call(&mut self) -> Deed {
        let (calls, pause) = (self.rng.u32(0..CALLS_MAX), self.span());
        if self.rng.u8(0..5) == 0 {
            Deed::PowerCutAtCall(calls, pause)
        } else {
            Deed::KillAtCall(calls, pause)
        }
    }

    fn of_machine(&mut self) -> Deed {
        match self.rng.u32(0..3) {
            0 => Deed::RotateCertificate(self.span()),
            1 => Deed::ClockJump(self.rng.i64(-JUMP_MS_MAX..=JUMP_MS_MAX)),
            _ => Deed::DiskFull(self.span()),
        }
    }

    fn relay(&mut self) -> Order {
        let seconds = self.rng.u32(1..60);
        let kinds = [
            Kind::Refuse,
            Kind::Reset,
            Kind::BlackHole,
            Kind::Delay { ms: self.rng.u64(1..8_000) },
            Kind::SlowBytes { rate_bytes: self.rng.u32(10..1000) },
            Kind::Cut { after_bytes: self.rng.u32(0..50) },
            Kind::Unauthorized,
            Kind::BackOff { ms: u64::from(seconds) * 1000 },
            Kind::CanRetry,
            Kind::TooLarge,
            Kind::TooManyRequests { retry_after_s: seconds },
            Kind::Unavailable { retry_after_s: seconds },
            Kind::Internal,
            Kind::BadRequest,
            Kind::Html { status: 502 },
            Kind::Html { status: 200 },
            Kind::Redirect { location: "https://elsewhere.example/".to_owned() },
            Kind::AnswerLost,
            Kind::Duplicate,
            Kind::ClockOffset { ms: self.rng.i64(-JUMP_MS_MAX..=JUMP_MS_MAX) },
            Kind::DeviceGone,
            Kind::OverBudget,
        ];
        // Without a report, or with one that was replaced, nobody could know that devices got nothing while they were taken for gone.
        let is_silent = |kind: &Kind| match kind {
            Kind::DeviceGone => !self.is_reporting,
            Kind::Html { status: 200 } => self.is_reporting,
            _ => false,
        };
        let kind = self.rng.choice(kinds).filter(|kind| !is_silent(kind)).unwrap_or(Kind::Internal);
        self.order(kind)
    }

    fn token_service(&mut self) -> Order {
        let kinds = [
            Kind::Refuse,
            Kind::Refuse,
            Kind::Reset,
            Kind::BlackHole,
            Kind::Delay { ms: self.rng.u64(1..8_000) },
            Kind::SlowBytes { rate_bytes: self.rng.u32(10..1000) },
            Kind::Cut { after_bytes: self.rng.u32(0..50) },
            Kind::Unauthorized,
            Kind::TooManyRequests { retry_after_s: self.rng.u32(1..60) },
            Kind::Unavailable { retry_after_s: self.rng.u32(1..60) },
            Kind::Internal,
            Kind::BadRequest,
            Kind::Html { status: 502 },
            Kind::Html { status: 200 },
            Kind::AnswerLost,
            Kind::ClockOffset { ms: self.rng.i64(-JUMP_MS_MAX..=JUMP_MS_MAX) },
        ];
        let kind = self.rng.choice(kinds).unwrap_or(Kind::Internal);
        self.order(kind)
    }

    fn order(&mut self, kind: Kind) -> Order {
        let duration_ms = Some(self.span().as_millis() as u64);
        // Two digits, so that a printed plan is read as it was.
        let rate = if self.rng.bool() { 1.0 } else { f64::from(self.rng.u32(1..100)) / 100.0 };
        Order { kind, rate, duration_ms, count: None }
    }
}
