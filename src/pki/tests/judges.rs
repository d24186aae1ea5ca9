//! Verifiers that had no part in making the certificates: OpenSSL, Go's crypto/x509 (istiod) and rustls-webpki.

use std::{fs, path::Path, sync::LazyLock, time::Duration};

use rcgen::SanType;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::kit::{NOW, dns, leaf, new_intermediate, new_root, run, uri};
use crate::{
    pki::{Cert, Intermediate, Root},
    spec::KeyType,
};

const SPIFFE: &str = "spiffe://cluster.local/ns/default/sa/web";

/// Names a leaf may ask for, and whether its cluster's intermediate may give them.
fn names() -> [(&'static str, SanType, bool); 4] {
    [
        ("workload", uri(SPIFFE), true),
        ("istiod", dns("istiod.istio-system.svc"), true),
        ("elsewhere", dns("istiod.other.svc"), false),
        ("world", dns("www.example.com"), false),
    ]
}

/// A root and an intermediate of every kind of key, made once: RSA takes its time.
static EACH_KEY: LazyLock<[(Root, Intermediate); 3]> = LazyLock::new(|| {
    [KeyType::P256, KeyType::P384, KeyType::Rsa4096].map(|key| {
        let root = Root::create(&new_root(key)).unwrap();
        let made = root.issue(&new_intermediate("east", key)).unwrap();
        (root, made)
    })
});

fn each_key(judge: impl Fn(&Root, &Intermediate)) {
    EACH_KEY.iter().for_each(|(root, made)| judge(root, made));
}

fn write(dir: &Path, name: &str, cert: &Cert) {
    fs::write(dir.join(name), cert.to_pem()).unwrap();
}

#[test]
fn openssl_agrees() {
    each_key(|root, made| {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "root", root.cert());
        write(dir.path(), "made", made.cert());
        let at = NOW.as_second().to_string();
        let strict = ["verify", "-x509_strict", "-attime", &at, "-CAfile", "root"];
        for (name, san, good) in names() {
            write(dir.path(), "leaf", &leaf(made, &[san]));
            let args = [
                &strict[..],
                &["-purpose", "sslserver", "-untrusted", "made", "leaf"],
            ]
            .concat();
            let Some(output) = run(dir.path(), "openssl", &args) else {
                return;
            };
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.success(), good, "{name}: {said}");
            assert!(
                good || said.contains("permitted subtree violation"),
                "{name}: {said}"
            );
        }
        let Some(output) = run(dir.path(), "openssl", &[&strict[..], &["made"]].concat()) else {
            return;
        };
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    });
}

#[test]
fn openssl_finds_the_key_to_its_certificate() {
    each_key(|_, made| {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "cert", made.cert());
        fs::write(
            dir.path().join("key"),
            made.key().to_pem().unwrap().as_bytes(),
        )
        .unwrap();
        let public = |args: &[&str]| run(dir.path(), "openssl", args).map(|output| output.stdout);
        let (Some(cert), Some(key)) = (
            public(&["x509", "-in", "cert", "-noout", "-pubkey"]),
            public(&["pkey", "-in", "key", "-pubout"]),
        ) else {
            return;
        };
        assert!(!cert.is_empty());
        assert_eq!(cert, key);
    });
}

#[test]
fn webpki_agrees() {
    each_key(|root, made| {
        let root = root.cert().der().into();
        let anchor = anchor_from_trusted_cert(&root).unwrap();
        let between = [made.cert().der().into()];
        let now = rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(
            NOW.as_second().cast_unsigned(),
        ));
        for (name, san, good) in names() {
            let leaf = leaf(made, &[san]);
            let der = leaf.der().into();
            let entity = EndEntityCert::try_from(&der).unwrap();
            let found = entity.verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                std::slice::from_ref(&anchor),
                &between,
                now,
                KeyUsage::server_auth(),
                None,
                None,
            );
            let why = found.as_ref().err();
            assert_eq!(found.is_ok(), good, "{name}: {why:?}");
            let violated = why == Some(&webpki::Error::NameConstraintViolation);
            assert!(good || violated, "{name}: {why:?}");
        }
    });
}

/// As istiod does: its signing certificate with the defaults, and what it has signed for any use.
const GO: &str = r#"package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"time"
)

func file(name string) []byte {
	data, err := os.ReadFile(name)
	if err != nil {
		panic(err)
	}
	return data
}

func cert(name string) *x509.Certificate {
	block, _ := pem.Decode(file(name))
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		panic(err)
	}
	return parsed
}

func main() {
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: time.Unix(NOW, 0)}
	options.Roots.AddCert(cert("root"))
	_, err := cert("made").Verify(options)
	fmt.Println("made", err)
	_, err = tls.X509KeyPair(file("made"), file("key"))
	fmt.Println("key", err)
	options.Intermediates.AddCert(cert("made"))
	for _, name := range os.Args[1:] {
		_, err = cert(name).Verify(options)
		fmt.Println(name, err)
	}
}
"#;

#[test]
fn go_agrees_and_so_does_istiod() {
    each_key(|root, made| {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "root", root.cert());
        write(dir.path(), "made", made.cert());
        fs::write(
            dir.path().join("key"),
            made.key().to_pem().unwrap().as_bytes(),
        )
        .unwrap();
        let program = GO.replace("NOW", &NOW.as_second().to_string());
        fs::write(dir.path().join("judge.go"), program).unwrap();
        let mut args = vec!["run", "judge.go"];
        for (name, san, _) in names() {
            write(dir.path(), name, &leaf(made, &[san]));
            args.push(name);
        }
        let Some(output) = run(dir.path(), "go", &args) else {
            return;
        };
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let verdict = |name: &str| {
            said.lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap()
                .trim()
        };
        for (name, good) in [("made", true), ("key", true)]
            .into_iter()
            .chain(names().map(|(name, _, good)| (name, good)))
        {
            let text = verdict(name);
            assert_eq!(text == "<nil>", good, "{name}: {text}");
            assert!(
                good || text.contains("is not permitted by any constraint"),
                "{name}: {text}"
            );
        }
    });
}
