//! `probe` and `token` against a simulated relay: each trouble is told by its component with what to do about it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where it stopped"
)]

use serde_json::Value;
use std::fs;
use std::time::Duration;
use support::command_line::Host;
use support::process::{Running, program, spawn_simulator};
use support::wait_until;

/// How long the simulator may take to start on a busy machine.
const START: Duration = Duration::from_secs(30);

/// A relay that trusts one host.
struct Relay {
    host: Host,
    places: Value,
    simulator: Running,
}

impl Relay {
    fn start() -> Self {
        let host = Host::new();
        assert_eq!(host.run("setup").code, 0);
        let arguments = [
            "serve",
            "--relay",
            "127.0.0.1:0",
            "--page",
            "127.0.0.1:0",
            "--credential",
            "OAuthCert.cer",
            "--state-dir",
            "simulator",
            "--json",
        ];
        let simulator = spawn_simulator(&arguments, &host.path("")).unwrap();
        let places = wait_until("the simulator says where it is", START, || {
            simulator.log().lines().find_map(|line| serde_json::from_str::<Value>(line).ok())
        });
        let relay = Self { host, places, simulator };
        relay.trust("simulator/ca.pem");
        relay.enable("fabrikam.com");
        relay
    }

    fn trust(&self, ca_file: &str) {
        let text = format!(
            "organization = \"fabrikam.com\"\nstate-dir = \"state\"\n[relay]\nca-file = {ca_file:?}\n"
        );
        self.host.configure(&text);
    }

    fn enable(&self, organization: &str) {
        let uri = self.places["relayUrl"].as_str().unwrap();
        let ended = self.host.run(&format!("proxy enable --organization {organization} --uri {uri}"));
        assert_eq!(ended.code, 0, "{}", ended.err);
    }

    fn control(&self, line: &str) {
        let page = self.places["pageUrl"].as_str().unwrap();
        let address = page.trim_start_matches("http://").trim_end_matches('/');
        let mut command = std::process::Command::new(program());
        command.arg("simulator").args(line.split_whitespace()).args(["--control", address]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    #[track_caller]
    fn fails_with(&self, component: &str, advice: &str) {
        let ended = self.host.run("probe");
        assert_eq!(ended.code, 69, "{}{}", ended.out, ended.err);
        let error = format!("Error      : {component}: ");
        assert!(
            ended.out.starts_with("ResultType : Failed\n") && ended.out.contains(&error),
            "{}",
            ended.out
        );
        assert!(ended.out.contains(advice), "{advice:?} is not in {}", ended.out);
        let told = self.host.run("probe --json");
        assert_eq!((told.code, told.json()["Component"].as_str()), (69, Some(component)));
    }
}

#[test]
fn a_probe_before_anything_is_set_up_says_what_to_do() {
    let host = Host::new();
    for (remedy, cure) in
        [("mailbadge setup", "setup"), ("proxy enable", "proxy enable --organization fabrikam.com")]
    {
        let ended = host.run("probe");
        assert_eq!(ended.code, 69);
        assert!(ended.out.contains("Configuration: ") && ended.out.contains(remedy), "{}", ended.out);
        host.run("token").refused(78, &[remedy]);
        assert_eq!(host.run(cure).code, 0);
    }
}

#[test]
fn a_probe_succeeds_and_names_every_trouble() {
    let mut relay = Relay::start();
    let ended = relay.host.run("probe");
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (0, "ResultType : Succeeded\nError      :\nException  :\n"),
        "{}",
        ended.err
    );
    assert_eq!(relay.host.json("probe")["ResultType"], "Succeeded");

    relay.enable("unknown.example");
    relay.fails_with("Authentication", "unknown.example");
    relay.enable("fabrikam.com");

    relay.control("fault add clock-offset ms=600000");
    let ahead = relay.host.run("probe");
    assert!(ahead.code == 0 && ahead.out.contains("synchronize the clock"), "{}", ahead.out);
    relay.control("fault clear");
    relay.control("fault add clock-offset ms=-600000");
    relay.fails_with("Authentication", "clock");
    relay.control("fault clear");
    // 2 s behind, without tolerance: a token that begins when it is signed would be refused.
    relay.control("fault add no-tolerance");
    relay.control("fault add clock-offset ms=-2000");
    let behind = relay.host.run("probe");
    assert_eq!(behind.code, 0, "{}", behind.out);
    relay.control("fault clear");

    fs::write(relay.host.path("other-ca.pem"), include_str!("../../fixtures/config/files/ca.pem")).unwrap();
    relay.trust("other-ca.pem");
    relay.fails_with("Trust", "relay.ca-file");
    relay.trust("simulator/ca.pem");

    fs::rename(relay.host.path("state"), relay.host.path("former-state")).unwrap();
    assert_eq!(relay.host.run("setup --export-dir stranger").code, 0);
    relay.enable("fabrikam.com");
    relay.fails_with("Authentication", "certificate");

    assert!(relay.simulator.stop(Duration::from_secs(10)).unwrap().is_some());
    relay.fails_with("Networking", "firewall");
    relay.host.run("token").refused(69, &["no challenge from https://127.0.0.1", "mailbadge probe"]);
}

#[test]
fn a_token_shows_what_it_says_and_itself_only_when_asked() {
    let relay = Relay::start();
    let own = "00000002-0000-0ff1-ce00-000000000000@fabrikam.com";
    let shown = relay.host.run("token");
    assert_eq!(shown.code, 0, "{}", shown.err);
    for part in [&format!("Issuer               : {own}\n"), "Lifetime             : 1day\n", "X5t"] {
        assert!(shown.out.contains(part), "{part:?} is not in {}", shown.out);
    }
    assert!(!shown.out.contains("eyJ"), "{}", shown.out);
    let decoded = relay.host.run("token --decode").out;
    assert!(decoded.starts_with("{\"typ\":\"JWT\",\"alg\":\"RS256\",\"x5t\":\""), "{decoded}");
    let told = relay.host.json("token");
    assert_eq!(
        (&told["Claims"]["iss"], &told["LifetimeSeconds"], &told["Token"]),
        (&own.into(), &86400.into(), &Value::Null)
    );
    let token = relay.host.json("token --show")["Token"].as_str().unwrap().to_owned();
    assert_eq!(token.split('.').count(), 3);
}
