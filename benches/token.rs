//! Tokens: what a signature costs, parsed key at hand, and what reading a challenge costs.

use criterion::{Criterion, criterion_group, criterion_main};
use mailbadge::identity::issue::self_signed;
use mailbadge::identity::principal::{Audience, Principal, Realm};
use mailbadge::time::UnixMs;
use mailbadge::token::challenge::Challenge;
use mailbadge::token::claims::Claims;
use mailbadge::token::signer::Signer;
use std::hint::black_box;
use std::time::Duration;

const NOW: UnixMs = UnixMs(1_800_000_000_000);
const ID: &str = "00000002-0000-0ff1-ce00-000000000000";

fn bench(criterion: &mut Criterion) {
    let (certificate, key) = self_signed("fabrikam.com", NOW).expect("a domain is given");
    let signer = Signer::new(certificate, key);
    let own = Principal::new(ID, "fabrikam.com");
    let audience =
        Audience { id: ID.into(), authority: "relay.example".into(), realm: Realm::new("fabrikam.com") };
    let claims = Claims::self_issued(&own, &audience, false, Duration::from_hours(24), NOW);
    let mut group = criterion.benchmark_group("token");
    group.bench_function("sign, RS256 2048", |bencher| bencher.iter(|| signer.sign(black_box(&claims))));
    let line = format!(
        "Bearer client_id=\"{ID}\", trusted_issuers=\"{ID}@fabrikam.com,{ID}@*\", realm=\"fabrikam.com\""
    );
    group
        .bench_function("read a challenge", |bencher| bencher.iter(|| Challenge::parse(&[black_box(&line)])));
    group.finish();
}

criterion_group! { name = benches; config = Criterion::default().sample_size(20); targets = bench }
criterion_main!(benches);
