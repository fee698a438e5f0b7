//! `setup` and `certificate` as people and programs meet them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use support::command_line::Host;

#[test]
fn setup_says_what_it_does_and_a_second_time_what_it_found() {
    let host = Host::new();
    let first = host.run("setup --export-dir out");
    assert_eq!(first.code, 0, "{}", first.err);
    let lines: Vec<_> = first.out.lines().collect();
    let thumbprint = lines[1].strip_prefix("Configured Certificate Thumbprint is: ").unwrap();
    assert!(
        thumbprint.len() == 40 && thumbprint.bytes().all(|it| it.is_ascii_digit() || it.is_ascii_uppercase())
    );
    assert_eq!(lines[0], "Creating certificate for oAuth...");
    let exported = lines[3].strip_prefix("Exported out/OAuthCert.cer, SHA-256 ").unwrap();
    assert_eq!(exported.len(), 64, "{exported}");
    assert_eq!(
        [lines[2], lines[4], lines[5]],
        ["Exporting certificate...", "Creating AuthServer Config...", "Complete."]
    );
    let second = host.run("setup --export-dir out");
    let configured = format!("Configured Certificate Thumbprint is: {thumbprint}");
    let expected =
        [&configured, "Exporting certificate...", lines[3], "AuthServer Config already exists.", "Complete."];
    assert_eq!((second.out.lines().collect::<Vec<_>>(), second.err), (expected.to_vec(), String::new()));
    let told = host.json("setup --export-dir out");
    assert_eq!((&told["Thumbprint"], &told["Certificate"]), (&thumbprint.into(), &"Reused".into()));
    let key = host.path("state/certificates").join(format!("{thumbprint}.key"));
    assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
    host.run("setup --organization fabrikam").refused(64, &["--organization", "DNS domain"]);
}

#[test]
fn setup_corrects_the_metadata_url_with_a_warning() {
    let host = Host::new();
    let default = "https://accounts.accesscontrol.windows.net/metadata/json/1/?realm=fabrikam.com";
    assert_eq!(host.json("setup")["AuthMetadataUrl"], default);
    let other = "https://sts.example/metadata/json/1?realm=fabrikam.com";
    let corrected = host.run(&format!("setup --auth-metadata-url {other}"));
    assert_eq!(corrected.code, 0, "{}", corrected.err);
    assert!(corrected.out.contains("AuthServer Config already exists.\nComplete."), "{}", corrected.out);
    assert_eq!(
        corrected.err,
        format!("warning: the metadata URL of MicrosoftSts was {default}; it is {other} now\n")
    );
    let again = host.run(&format!("setup --auth-metadata-url {other}"));
    assert_eq!((again.code, again.err.as_str()), (0, ""));
    assert_eq!(host.json("auth server list")[0]["AuthMetadataUrl"], other);
    for (url, word) in [("http://sts.example/x", "https"), ("sts.example", "https")] {
        host.run(&format!("setup --auth-metadata-url {url}")).refused(64, &["--auth-metadata-url", word]);
    }
    assert_eq!(host.json("auth server list")[0]["AuthMetadataUrl"], other);
}

#[test]
fn setup_takes_only_a_certificate_that_fits() {
    // What is imported before, and whether setup reuses it.
    for (options, is_reused) in
        [("", true), ("--friendly-name my-oauth", true), ("--friendly-name TLS", false)]
    {
        let host = Host::new().begun();
        place(&host, "agent.cert.pem", 0o644);
        place(&host, "agent.key.pem", 0o600);
        let imported = host.json(&format!("certificate import agent.cert.pem --key agent.key.pem {options}"));
        let told = host.json("setup");
        assert_eq!(told["Thumbprint"] == imported["Thumbprint"], is_reused, "{options:?}");
        assert_eq!(told["Certificate"], if is_reused { "Reused" } else { "Created" }, "{options:?}");
    }
}

#[test]
fn certificates_are_listed_shown_and_exported_without_their_keys() {
    let host = Host::new().begun();
    host.run("certificate show").refused(78, &["mailbadge setup"]);
    assert_eq!(host.run("setup --export-dir out").code, 0);
    let list = host.json("certificate list");
    let thumbprint = list[0]["Thumbprint"].as_str().unwrap();
    assert_eq!((&list[0]["Role"], &list[0]["KeyBits"]), (&"current".into(), &2048.into()));
    assert_eq!(list[0]["SubjectKeyIdentifier"].as_str().unwrap().len(), 32);
    let table = host.run("certificate list").out;
    assert!(table.contains(&format!("\n{thumbprint}  current  18")), "{table}");
    let shown = host.run(&format!("certificate show {}", thumbprint.to_lowercase())).out;
    assert!(shown.contains(&format!("Thumbprint           : {thumbprint}\n")), "{shown}");
    let der = fs::read(host.path("out/OAuthCert.cer")).unwrap();
    let exported = host.command("certificate export").output().unwrap();
    assert_eq!((exported.status.code(), exported.stdout), (Some(0), der.clone()));
    let pem = host.run("certificate export --format pem").out;
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n") && !pem.contains("PRIVATE"), "{pem}");
    assert_eq!(host.run("certificate export --out copy.cer").code, 0);
    assert_eq!(fs::read(host.path("copy.cer")).unwrap(), der);
    host.run(&format!("certificate show {}", "A".repeat(40))).refused(64, &["no certificate"]);
    host.run("certificate show nonsense").refused(64, &["40 hex digits"]);
    host.run("certificate export --out no/such/dir/x.cer").refused(74, &["/no: No such file"]);
}

#[test]
fn a_new_certificate_is_kept_and_signs_nothing_yet() {
    let host = Host::new();
    let current = host.json("setup")["Thumbprint"].clone();
    let made = host.json("certificate new");
    assert_eq!((&made["Role"], &made["Subject"]), (&().into(), &"CN=fabrikam.com".into()));
    let named = host.run("certificate new --domain mail.contoso.com --friendly-name Spare");
    assert_eq!(named.code, 0, "{}", named.err);
    for line in [
        "Subject              : CN=mail.contoso.com",
        "FriendlyName         : Spare",
        "Role                 : none",
    ] {
        assert!(named.out.lines().any(|found| found == line), "{line} is not in {}", named.out);
    }
    assert_eq!(host.json("auth config show")["CurrentCertificateThumbprint"], current);
    host.run("certificate new --domain fabrikam").refused(64, &["--domain", "DNS domain"]);
    assert_eq!(host.json("certificate list").as_array().unwrap().len(), 3);
}

/// Copies one of the fixtures' files beside the configuration.
fn place(host: &Host, name: &str, mode: u32) {
    fs::copy(Path::new("fixtures/certificates").join(name), host.path(name)).unwrap();
    fs::set_permissions(host.path(name), Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_certificate_is_imported_from_one_file_or_two() {
    let host = Host::new().begun();
    let expected: serde_json::Value =
        serde_json::from_str(include_str!("../../fixtures/certificates/certificates.json")).unwrap();
    place(&host, "agent.cert.pem", 0o644);
    place(&host, "agent.key.pem", 0o600);
    let told = host.json("certificate import agent.cert.pem --key agent.key.pem");
    assert_eq!(
        (&told["Thumbprint"], &told["X5t"]),
        (&expected["agent"]["thumbprint"], &expected["agent"]["x5t"])
    );
    let both = ["sts.key.pem", "sts.cert.pem"].map(|name| {
        place(&host, name, 0o600);
        fs::read_to_string(host.path(name)).unwrap()
    });
    fs::write(host.path("both.pem"), both.concat()).unwrap();
    fs::set_permissions(host.path("both.pem"), Permissions::from_mode(0o600)).unwrap();
    let ended = host.run("certificate import both.pem --friendly-name Other");
    assert!(
        ended.code == 0 && ended.out.contains("FriendlyName         : Other\n"),
        "{}{}",
        ended.out,
        ended.err
    );
    assert_eq!(host.json("certificate list").as_array().unwrap().len(), 2);
    let key = host.path(&format!("state/certificates/{}.key", told["Thumbprint"].as_str().unwrap()));
    assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
}

/// Chains and bundles stand in any order, with text and odd line ends between their blocks.
#[test]
fn the_certificate_of_a_bundle_is_the_one_whose_key_is_there() {
    let read = |name: &str| fs::read_to_string(Path::new("fixtures/certificates").join(name)).unwrap();
    let (agent, sts, stranger) = (read("agent.cert.pem"), read("sts.cert.pem"), read("stranger.cert.pem"));
    let (agent_key, sts_key) = (read("agent.key.pem"), read("sts.key.pem"));
    let broken = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n";
    let bundles = [
        format!("{sts}{agent}{stranger}{agent_key}"),
        format!("{}{agent}{agent_key}", sts.trim_end()),
        format!("{broken}{agent}\u{fc}\n-----BEGIN {stranger}{agent_key}"),
        format!("\u{feff}{stranger}Bag: x\r\n{agent_key}{sts_key}{agent}").replace('\n', " \r\n"),
    ];
    let expected: serde_json::Value = serde_json::from_str(&read("certificates.json")).unwrap();
    for bundle in bundles {
        let host = Host::new().begun();
        fs::write(host.path("bundle.pem"), &bundle).unwrap();
        fs::set_permissions(host.path("bundle.pem"), Permissions::from_mode(0o600)).unwrap();
        let told = host.json("certificate import bundle.pem");
        assert_eq!(told["Thumbprint"], expected["agent"]["thumbprint"], "{bundle}");
    }
}

#[test]
fn what_cannot_be_imported_is_refused_with_the_reason() {
    let host = Host::new().begun();
    for name in ["agent", "stranger", "expired", "small1024"] {
        place(&host, &format!("{name}.cert.pem"), 0o644);
        place(&host, &format!("{name}.key.pem"), 0o600);
    }
    place(&host, "agent.cer", 0o600);
    place(&host, "sts.key.pem", 0o644);
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIFHDBO\n-----END ENCRYPTED PRIVATE KEY-----\n";
    fs::write(host.path("encrypted.pem"), encrypted).unwrap();
    fs::set_permissions(host.path("encrypted.pem"), Permissions::from_mode(0o600)).unwrap();
    let rows: [(&str, i32, &[&str]); 9] = [
        ("agent.cert.pem --key nowhere.pem", 74, &["nowhere.pem", "No such file"]),
        ("agent.cert.pem --key sts.key.pem", 77, &["sts.key.pem: mode 0644", "chmod 600"]),
        ("agent.cert.pem", 77, &["agent.cert.pem: mode 0644", "chmod 600"]),
        ("agent.cert.pem --key stranger.key.pem", 64, &["stranger.key.pem: not the key of certificate"]),
        ("agent.cert.pem --key encrypted.pem", 64, &["encrypted.pem", "is encrypted", "openssl pkey"]),
        ("expired.cert.pem --key expired.key.pem", 64, &["has expired on"]),
        ("small1024.cert.pem --key small1024.key.pem", 64, &["2048 bits at least"]),
        ("agent.cer", 64, &["agent.cer: ", "PKCS#12"]),
        ("agent.key.pem", 64, &["agent.key.pem: not a certificate"]),
    ];
    for (files, code, parts) in rows {
        host.run(&format!("certificate import {files}")).refused(code, parts);
    }
    assert_eq!(host.json("certificate list"), serde_json::json!([]));
}

#[test]
fn a_certificate_out_of_use_is_removed_for_good() {
    let host = Host::new();
    let current = host.json("setup")["Thumbprint"].as_str().unwrap().to_owned();
    let spare = host.json("certificate new")["Thumbprint"].as_str().unwrap().to_owned();
    host.run(&format!("certificate remove {current} --yes")).refused(64, &["is the current one"]);
    host.run(&format!("certificate remove {spare}")).refused(64, &["--yes"]);
    assert!(
        host.run_with_input(&format!("certificate remove {spare}"), "n\n")
            .err
            .contains("Nothing was changed.")
    );
    let told = host.json(&format!("certificate remove {spare} --what-if"));
    assert!(told["WhatIf"][0].as_str().unwrap().contains(&spare));
    assert_eq!(host.json("certificate list").as_array().unwrap().len(), 2);
    assert_eq!(host.json(&format!("certificate remove {spare} --yes"))["Removed"], spare.as_str());
    assert!(!host.path(&format!("state/certificates/{spare}.key")).exists());
    host.run(&format!("certificate remove {spare} --yes")).refused(64, &["no certificate"]);
}
