//! Tokens: what a signature costs, what reading a challenge and a metadata document costs, and whether a renewal under
//! way delays a batch.

use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use mailbadge::counters::FlowCounters;
use mailbadge::event::{MailboxId, News, Reading, Recipient, SourceId, SubscriptionKey};
use mailbadge::flow::{Flow, Input, Output, Settings};
use mailbadge::forwarder::answer::Answer;
use mailbadge::forwarder::wire::Stamp;
use mailbadge::https::Response;
use mailbadge::identity::issue::self_signed;
use mailbadge::identity::metadata::{Document, TokenService};
use mailbadge::identity::principal::{Audience, Principal, Realm};
use mailbadge::time::{Moment, Now, UnixMs};
use mailbadge::token::challenge::Challenge;
use mailbadge::token::choice::{AuthServer, Configured};
use mailbadge::token::claims::Claims;
use mailbadge::token::keeper;
use mailbadge::token::signer::{SignedToken, Signer};
use mailbadge::tracker::Tracker;
use secrecy::SecretString;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const NOW: UnixMs = UnixMs(1_800_000_000_000);
const ID: &str = "00000002-0000-0ff1-ce00-000000000000";
const STS: &str = "00000001-0000-0000-c000-000000000000";
/// A third of the token's life is left then.
const RENEWAL: Duration = Duration::from_hours(17);

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("token");
    costs(&mut group);
    group.bench_function("a batch leaves, token at rest", |bencher| {
        let mut scene = Scene::settled();
        bencher.iter(|| scene.round());
    });
    group.bench_function("a batch leaves, signature under way", |bencher| {
        let mut scene = Scene::settled();
        scene.renew(false);
        bencher.iter(|| scene.round());
    });
    group.bench_function("a batch leaves, token service asked", |bencher| {
        let mut scene = Scene::settled();
        scene.renew(true);
        bencher.iter(|| scene.round());
    });
    group.finish();
}

fn costs(group: &mut BenchmarkGroup<WallTime>) {
    let (certificate, key) = self_signed("fabrikam.com", NOW).expect("a domain is given");
    let signer = Signer::new(certificate, key);
    let own = Principal::new(ID, "fabrikam.com");
    let audience =
        Audience { id: ID.into(), authority: "relay.example".into(), realm: Realm::new("fabrikam.com") };
    let claims = Claims::self_issued(&own, &audience, false, Duration::from_hours(24), NOW);
    group.bench_function("sign, RS256 2048", |bencher| bencher.iter(|| signer.sign(black_box(&claims))));
    let line = format!(
        "Bearer client_id=\"{ID}\", trusted_issuers=\"{ID}@fabrikam.com,{ID}@*\", realm=\"fabrikam.com\""
    );
    group
        .bench_function("read a challenge", |bencher| bencher.iter(|| Challenge::parse(&[black_box(&line)])));
    let document = include_bytes!("../fixtures/metadata/good.json");
    group.bench_function("read a metadata document", |bencher| {
        bencher.iter(|| Document::read(black_box(document)));
    });
}

/// A flow whose relay asks for tokens of a token service, with one mailbox.
struct Scene {
    flow: Flow,
    tracker: Arc<Tracker>,
    now: Now,
    unseen: u32,
}

impl Scene {
    /// With a token in hand.
    fn settled() -> Self {
        let tracker = Arc::new(Tracker::default());
        let now = Now { moment: Moment::START, unix: NOW };
        let mailbox = tracker.enroll("u1").expect("one fits");
        let recipient = Recipient {
            key: SubscriptionKey(1),
            app_id: "com.microsoft.exchange.mowa".to_owned().into(),
            device_id: "reg-1".into(),
            installation_id: None,
            last_update: UnixMs(0),
            expires_at: UnixMs(u64::MAX),
            background_sync: false,
        };
        tracker.subscribe(mailbox, recipient, Some(0), now);
        let settings = Settings { hold_max: Duration::ZERO, ..Settings::default() };
        let counters = Arc::new(FlowCounters::default());
        let mut flow = Flow::new(settings, Arc::clone(&tracker), counters, Stamp::new(NOW), 7);
        flow.handle(Input::Relay(Some(keeper_settings())), now);
        let mut scene = Self { flow, tracker, now, unseen: 0 };
        while let Some(output) = scene.flow.poll_output(scene.now) {
            scene.answer(output);
        }
        scene
    }

    /// Lets the renewal begin and leaves it under way: the signature, or the question to the token service.
    fn renew(&mut self, is_signed: bool) {
        self.now = self.now.after(RENEWAL);
        while let Some(output) = self.flow.poll_output(self.now) {
            match output {
                Output::Sign(_) if !is_signed => return,
                Output::Exchange(_) => return,
                other => self.answer(other),
            }
        }
        panic!("no renewal is due");
    }

    fn answer(&mut self, output: Output) {
        let input = match output {
            Output::AskChallenge => Input::Challenged(Ok(Answer {
                status: 401,
                www_authenticate: vec![format!("Bearer client_id=\"{ID}\", trusted_issuers=\"{STS}@*\"")],
                ..Answer::default()
            })),
            Output::Sign(claims) => {
                let token = Arc::new(SecretString::from("assertion"));
                Input::Signed(Ok(SignedToken { token, expires: claims.expires() }))
            }
            Output::Exchange(_) => {
                let content = "{\"access_token\":\"issued\",\"expires_in\":\"86400\"}".into();
                Input::Exchanged(Ok(Response { status: 200, content, ..Response::default() }))
            }
            Output::Fetch(fetch) => Input::Fetched { name: fetch.name, is_good: true },
            Output::Post(post) => {
                let answer = Answer { status: 200, ..Answer::default() };
                Input::Answered { attempt: post.attempt, outcome: Ok(answer) }
            }
            Output::Forget { .. } => return,
        };
        self.flow.handle(input, self.now);
    }

    /// A count moves, its batch leaves at once and is taken.
    fn round(&mut self) {
        self.now.moment = self.now.moment.after(Duration::from_micros(1));
        self.unseen = self.unseen.wrapping_add(1);
        let reading = Reading { unseen: self.unseen, uid_validity: None, modseq: None, asked_at: None };
        self.tracker.observe(MailboxId(0), SourceId(0), News::Reading(reading), self.now);
        match self.flow.poll_output(self.now) {
            Some(output @ Output::Post(_)) => self.answer(output),
            other => panic!("{other:?} instead of a batch"),
        }
    }
}

fn keeper_settings() -> keeper::Settings {
    let document = include_bytes!("../fixtures/metadata/good.json");
    let service: TokenService = Document::read(document)
        .and_then(|document| document.token_service())
        .expect("the fixture is a good document");
    keeper::Settings {
        configured: Configured {
            own: Principal::new(ID, "fabrikam.com"),
            organization: "fabrikam.com".to_owned(),
            relay_authority: "relay.example".to_owned(),
            auth_servers: vec![AuthServer { name: "sts".to_owned(), service: Ok(service) }],
            partners: Vec::new(),
        },
        may_delegate: false,
        lifetime: Duration::from_hours(24),
    }
}

criterion_group! { name = benches; config = Criterion::default().sample_size(20); targets = bench }
criterion_main!(benches);
