//! Forwarding: a batch as bytes, and batches over HTTPS to a relay on loopback that reads their JSON.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use mailbadge::event::{MailboxId, Notification, Recipient, SubscriptionKey};
use mailbadge::forwarder::driver::{Bearer, Client, Post};
use mailbadge::forwarder::url::RelayUrl;
use mailbadge::forwarder::wire::{Stamp, batch};
use mailbadge::https::Authorities;
use mailbadge::https::driver::{Roots, Settings};
use mailbadge::time::{Moment, UnixMs};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::SecretString;
use serde::Deserialize;
use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

const NOW: UnixMs = UnixMs(1_800_000_000_000);
const BATCH: u64 = 256;
/// About what a token of ours has.
const TOKEN_CHARS: usize = 800;

/// As a relay reads it.
#[derive(Deserialize)]
struct Batch {
    notifications: Vec<Element>,
}

#[derive(Deserialize)]
struct Element {
    id: String,
    payload: Payload,
    recipients: Vec<Device>,
}

#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "unseenEmailCount")]
    unseen: i32,
}

#[derive(Deserialize)]
struct Device {
    #[serde(rename = "appId")]
    app: String,
    #[serde(rename = "deviceId")]
    id: String,
    #[serde(rename = "lastSubscriptionUpdate")]
    updated: String,
}

fn notifications(count: u64) -> Vec<Notification> {
    let app = Arc::new("com.microsoft.exchange.iphone".to_owned());
    let notification = |number: u64| {
        let recipient = Recipient {
            key: SubscriptionKey(1),
            app_id: Arc::clone(&app),
            device_id: format!("{number:064x}").into(),
            installation_id: Some(format!("DEV-{number}").into()),
            last_update: NOW,
            expires_at: UnixMs(u64::MAX),
            background_sync: false,
        };
        Notification {
            mailbox: MailboxId(number as u32),
            number,
            unseen: (number % 100) as u32,
            background_sync: number.is_multiple_of(2),
            recipients: vec![recipient],
            changed_at: Moment::START,
            taken_at: UnixMs(0),
        }
    };
    (1..=count).map(notification).collect()
}

async fn accept(request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.expect("the client sends whole bodies").to_bytes();
    let batch: Batch = serde_json::from_slice(&body).expect("the client sends batches");
    for element in &batch.notifications {
        black_box((&element.id, element.payload.unseen));
        element.recipients.iter().for_each(|device| {
            black_box((&device.app, &device.id, &device.updated));
        });
    }
    Ok(Response::new(Empty::new()))
}

/// A relay on loopback; its URL, and its certificate in PEM.
async fn relay() -> (Arc<RelayUrl>, CertificateDer<'static>) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([String::from("localhost")]).expect("a name is given");
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a fresh key is one");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key))
        .expect("certificate and key belong together");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                stream.set_nodelay(true).expect("TCP has that option");
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let http = hyper::server::conn::http1::Builder::new();
                // Ends with the client's connection.
                let _ = http.serve_connection(TokioIo::new(stream), service_fn(accept)).await;
            });
        }
    });
    let url = RelayUrl::parse(&format!("https://localhost:{port}/P")).expect("that is a URL");
    (Arc::new(url), cert.der().clone())
}

/// Sends `batches` of `size` over `concurrency` connections.
async fn forward(client: &Client, url: &Arc<RelayUrl>, size: u64, batches: u64, concurrency: u64) {
    let stamp = Stamp::new(NOW);
    let notifications = Arc::new(notifications(size));
    let token = Arc::new(SecretString::from("x".repeat(TOKEN_CHARS)));
    let tasks = (0..concurrency).map(|task| {
        let (client, url, stamp) = (client.clone(), Arc::clone(url), stamp.clone());
        let (notifications, token) = (Arc::clone(&notifications), Arc::clone(&token));
        tokio::spawn(async move {
            for number in (task..batches).step_by(concurrency as usize) {
                let post = Post {
                    url: Arc::clone(&url),
                    request_id: Uuid::from_u128(number.into()),
                    bearer: Bearer::Token(Arc::clone(&token)),
                    is_probe: false,
                    body: Bytes::from(batch(&stamp, &notifications)),
                };
                let answer = client.post(post).await.expect("the relay answers");
                assert_eq!(answer.status, 200);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no batch failed");
    }
}

fn bench_writing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forward");
    let (stamp, notifications) = (Stamp::new(NOW), notifications(BATCH));
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("write a batch of 256", |bencher| {
        bencher.iter(|| batch(&stamp, black_box(&notifications)));
    });
    group.finish();
}

fn bench_https(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("threads can be started");
    let (url, ca) = runtime.block_on(relay());
    let settings = Settings {
        roots: Roots {
            key: String::from("relay.ca-file"),
            authorities: Authorities { extra: vec![ca], is_only: false },
        },
        concurrency: 4,
        timeout: Duration::from_secs(10),
        user_agent: String::from("mailbadge/bench"),
    };
    let client = Client::new(&settings).expect("the root is one");
    let mut group = criterion.benchmark_group("forward");
    for (size, batches, concurrency) in [(1, 100, 1), (BATCH, 400, 4)] {
        let name = format!("{batches} batches of {size}, {concurrency} at a time");
        group.throughput(Throughput::Elements(size * batches));
        group.bench_function(BenchmarkId::new("HTTPS", name), |bencher| {
            bencher.iter(|| runtime.block_on(forward(&client, &url, size, batches, concurrency)));
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = Criterion::default().sample_size(20); targets = bench_writing, bench_https }
criterion_main!(benches);
