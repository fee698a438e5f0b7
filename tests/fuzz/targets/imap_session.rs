//! What an IMAP server sends, to the machine of one connection (sources.md §4). The first byte chooses log-in, way of watching and errand;
//! the rest is cut at NUL: between two pieces time passes until the next timer, or a reading is asked for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailbadge::source::imap::exchange::{Errand, Input, Output};
use mailbadge::source::imap::session::Session;
use mailbadge::source::imap::{Login, Settings, Tls, Watch};
use mailbadge::time::Now;
use std::sync::Arc;

/// Outputs of one input: more would be a machine that talks to itself.
const OUTPUTS_MAX: usize = 10_000;

struct Played {
    session: Session,
    now: Now,
}

impl Played {
    fn input(&mut self, input: Input<'_>) {
        self.session.handle(self.now, input);
        for _ in 0..OUTPUTS_MAX {
            match self.session.poll_output() {
                Some(Output::StartTls) => self.session.handle(self.now, Input::TlsDone),
                Some(_) => {}
                None => return,
            }
        }
        panic!("it does not come to rest");
    }

    fn pass(&mut self) {
        if let Some(at) = self.session.poll_timeout() {
            self.now = self.now.after(at.since(self.now.moment));
            self.input(Input::Timeout);
        }
    }
}

fn session(choice: u8) -> Session {
    let (user, separator, password) = ("agent".into(), "*".into(), String::from("secret").into());
    let login = match choice % 3 {
        0 => Login::Master { user, separator, password },
        1 => Login::AuthzId { user, password },
        _ => Login::Password { user: None, password },
    };
    let tls = [Tls::None, Tls::StartTls, Tls::Implicit][usize::from(choice / 3) % 3];
    let errand = if choice < 128 { Errand::Watch } else { Errand::Visit };
    let watch = [Watch::Auto, Watch::IdleUnselected, Watch::Idle][usize::from(choice / 9) % 3];
    let settings = Settings { tls, watch, ..Settings::new("fuzz", "127.0.0.1", login) };
    Session::new(Arc::new(settings), Arc::default(), "u1".into(), errand, 1)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let mut played = Played { session: session(*choice), now: Now::default() };
    played.input(Input::Connected);
    for (number, piece) in rest.split(|byte| *byte == 0).enumerate() {
        match number % 4 {
            0 => {}
            3 => played.input(Input::Ask),
            _ => played.pass(),
        }
        played.input(Input::Bytes(piece));
    }
    played.input(Input::Closed);
    assert!(played.session.is_closed());
});
