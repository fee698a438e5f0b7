//! The token service on a real socket, and trust by documents: what flows through a roll-over on either side.

use super::*;
use crate::peers::metadata::Document;
use crate::peers::principal::TOKEN_SERVICE_APPLICATION_ID;
use crate::peers::token_service::request::GRANT_TYPES;

/// A token of the token service, for the relay.
async fn issued(running: &Running) -> Result<String, Failed> {
    let (status, answer) = ask(running, &assertion(running)).await?;
    assert_eq!(status, 200, "{answer}");
    Ok(answer["access_token"].as_str().expect("a token").to_owned())
}

fn assertion(running: &Running) -> String {
    let authority = address(&running.token_service_url);
    signed(&json!({
        "iss": format!("{EXCHANGE_APPLICATION_ID}@{TENANT}"),
        "aud": format!("{TOKEN_SERVICE_APPLICATION_ID}/{authority}@{TENANT}"),
    }))
}

async fn ask(running: &Running, assertion: &str) -> Result<(u16, Value), Failed> {
    let authority = address(&running.token_service_url);
    let stream = connect_trusting(&running.ca_pem_path, authority, "http/1.1").await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let resource = resource(running);
    let fields = [("grant_type", GRANT_TYPES[0]), ("assertion", assertion), ("resource", &resource)];
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let request = hyper::Request::post(format!("/{TENANT}/tokens/OAuth/2"))
        .header("host", authority)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(form)))?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

/// The same world, with the agent's certificate registered for the token service alone.
async fn running_by_token_service() -> Running {
    let running = running().await;
    let credential = json!({ "key": STANDARD.encode(&agent().1), "kind": "service-principal" });
    control(&running, Call::post("/control/tenants/fabrikam.com/credentials", &credential), 200).await;
    let changed = running.world.change_tenants(|tenants| {
        tenants.change("fabrikam.com", |tenant| tenant.partner_applications.clear())
    });
    changed.expect("a good tenant");
    running
}

#[tokio::test]
async fn an_assertion_becomes_a_token_that_the_relay_takes() {
    let running = running_by_token_service().await;
    assert_eq!(publish(&running, 1).await.expect("an answer").0, 401, "no direct trust");
    let token = issued(&running).await.expect("an answer");
    assert_eq!(publish_with(&running, &token, 2).await.expect("an answer").0, 200);
    assert_eq!(badge(&running), Some(2));

    let stranger = format!("{}x", assertion(&running));
    let (status, refused) = ask(&running, &stranger).await.expect("an answer");
    assert_eq!((status, refused["error"].as_str()), (401, Some("invalid_client")));
    let tokens = control(&running, Call::get("/control/tokens"), 200).await;
    assert_eq!(tokens["requests"][0]["claims"]["aud"], resource(&running));
    assert_eq!(tokens["requests"][1]["refused"]["error"], "invalid_client");
    let state = control(&running, Call::get("/control/state"), 200).await;
    assert_eq!(state["tokenService"]["issued"], 1);
    let signature = token.rsplit_once('.').expect("parts").1;
    assert!(!tokens.to_string().contains(signature) && !state.to_string().contains(signature));
    running.stop().await;
}

#[tokio::test]
async fn counts_flow_through_a_roll_over_of_the_token_services_key() {
    let running = running_by_token_service().await;
    let step = |step: &str| Call::post("/control/token-service/rotate", &json!({ "step": step }));
    let first = issued(&running).await.expect("an answer");
    assert_eq!(publish_with(&running, &first, 1).await.expect("an answer").0, 200);

    // Announced: the document was read again by hand before the new key signs.
    control(&running, step("publish"), 200).await;
    control(&running, step("publish"), 409).await;
    control(&running, Call::post("/control/tenants/fabrikam.com/refresh", &json!({})), 200).await;
    control(&running, step("use"), 200).await;
    let second = issued(&running).await.expect("an answer");
    for (count, token) in [(2, &second), (3, &first)] {
        assert_eq!(publish_with(&running, token, count).await.expect("an answer").0, 200);
    }
    control(&running, step("forget"), 200).await;

    // Unannounced: one refusal has the document read again, as soon as the last reading is long enough ago.
    control(&running, step("use"), 200).await;
    let third = issued(&running).await.expect("an answer");
    let taken = async {
        while publish_with(&running, &third, 4).await.expect("an answer").0 != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, taken).await.expect("soon");
    assert_eq!(publish_with(&running, &first, 5).await.expect("an answer").0, 401, "its key was forgotten");
    running.stop().await;
}

/// Answers every request with this document, until it is dropped.
async fn publisher(document: Value) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let url = format!("http://{}/autodiscover/metadata/json/1", listener.local_addr().expect("bound"));
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let text = document.to_string();
            let answer = hyper::service::service_fn(move |_request: hyper::Request<_>| {
                let body = Full::new(Bytes::from(text.clone()));
                async move { Ok::<_, std::convert::Infallible>(hyper::Response::new(body)) }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), answer));
        }
    });
    (url, serving)
}

fn document(certificate: &[u8]) -> Value {
    let document = Document {
        name: "agent".to_owned(),
        application_id: EXCHANGE_APPLICATION_ID.to_owned(),
        realm: "fabrikam.com".to_owned(),
        authority: "mail.fabrikam.com".to_owned(),
        certificates: vec![certificate.to_vec()],
        issuance: None,
        metadata: String::new(),
    };
    document.to_json()
}

#[tokio::test]
async fn a_partner_is_trusted_by_the_document_that_it_publishes() {
    let running = running_by_token_service().await;
    let (url, publishing) = publisher(document(&agent().1)).await;
    let trust = |url: &str| Call::post("/control/tenants/fabrikam.com/documents", &json!({ "url": url }));
    let nobody = control(&running, trust("http://127.0.0.1:1/metadata"), 200).await;
    let error = nobody["partnerApplications"][0]["error"].as_str().expect("an error");
    assert!(error.contains("cannot connect"), "{error}");
    assert_eq!(publish(&running, 1).await.expect("an answer").0, 401);

    let partner = &control(&running, trust(&url), 200).await["partnerApplications"][0];
    let thumbprint = KeyCredential::from_der(&agent().1).expect("a certificate").thumbprint();
    assert_eq!(
        (&partner["error"], &partner["published"][0]["thumbprint"]),
        (&Value::Null, &json!(thumbprint))
    );
    assert_eq!(publish(&running, 2).await.expect("an answer").0, 200);
    publishing.abort();
    running.stop().await;
}

#[tokio::test]
async fn faults_and_the_listener_are_each_peers_own() {
    let running = running_by_token_service().await;
    let fault = json!({ "kind": "unavailable", "retryAfterS": 3, "peer": "token-service" });
    let added = control(&running, Call::post("/control/faults", &fault), 200).await;
    let relays = json!({ "kind": "device-gone", "peer": "token-service" });
    control(&running, Call::post("/control/faults", &relays), 400).await;
    assert_eq!(ask(&running, &assertion(&running)).await.expect("an answer").0, 503);
    assert_eq!(publish(&running, 1).await.expect("an answer").0, 401, "the relay has no fault");
    let faults = control(&running, Call::get("/control/faults"), 200).await;
    assert_eq!(faults["faults"][0]["peer"], "token-service");
    control(&running, Call::delete(&format!("/control/faults/{}", added["id"])), 404).await;
    control(&running, Call::delete(&format!("/control/faults/{}?peer=token-service", added["id"])), 200)
        .await;
    issued(&running).await.expect("an answer");

    control(&running, Call::post("/control/token-service/stop", &json!({})), 200).await;
    assert!(issued(&running).await.is_err());
    assert!(running.world.is_up(Peer::Relay) && !running.world.is_up(Peer::TokenService));
    control(&running, Call::post("/control/token-service/start", &json!({})), 200).await;
    issued(&running).await.expect("an answer");
    running.stop().await;
}
