//! The command `frikort` against services with TLS: who it is comes by environment here, as by
//! options and profiles.

use std::{path::Path, process::Output};

use frikort_tests::{files::frikort_alone, pki::Pair};

use super::Secured;

/// Runs `frikort` in the name of somebody, or of nobody.
pub(super) fn frikort(secured: &Secured, name: Option<&str>, arguments: &[&str]) -> Output {
    let dir = secured.dir.path();
    let mut command = frikort_alone().unwrap();
    command.env("FRIKORT_LEDGER", secured.ledger.address().to_string());
    command.env("FRIKORT_PROJECTOR", secured.projector.address().to_string());
    command.env("FRIKORT_CA", dir.join("ca.crt"));
    if let Some(name) = name {
        let Pair { certificate, key } = secured.authority.sign(&format!("{name}.test")).unwrap();
        let write = |file: &str, text: String| {
            let path = dir.join(file);
            std::fs::write(&path, text).unwrap();
            path
        };
        command.env("FRIKORT_CERTIFICATE", write("client.crt", certificate));
        command.env("FRIKORT_CERTIFICATE_KEY", write("client.key", key));
    }
    command.args(arguments).output().unwrap()
}

pub(super) fn told(output: &Output) -> (Option<i32>, String) {
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_shows_a_certificate_for_grpc_and_for_plain_get() {
    let secured = Secured::start().await;
    let limits = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/annual-limits.csv");
    let load = ["limits", "--load", limits];
    let (code, said) = told(&frikort(&secured, Some("operator"), &load));
    assert_eq!(code, Some(0), "{said}");
    for (name, reason) in [(Some("employer"), "NOT_ALLOWED"), (None, "UNAUTHENTICATED")] {
        let (code, said) = told(&frikort(&secured, name, &load));
        assert!(code == Some(1) && said.contains(reason), "{said}");
    }
    let mirror = secured.dir.path().join("mirror").display().to_string();
    let (code, said) = told(&frikort(&secured, Some("auditor"), &["audit", "mirror", &mirror]));
    assert!(code == Some(0) && said.contains("all verified"), "{said}");
    assert!(Path::new(&mirror).join("partition-0/checkpoint").exists());
    let (code, said) = told(&frikort(&secured, Some("tax"), &["audit", "mirror", &mirror]));
    assert!(code == Some(2) && said.contains("NOT_ALLOWED"), "{said}");
}
