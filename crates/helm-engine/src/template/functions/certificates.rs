//! Keys and certificates made by templates, where random values are allowed. Keys are written as PKCS #8.

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256,
    RsaKeySize, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use super::{Args, Entry, random};
use crate::template::{
    eval::{Call, Failure, Outcome},
    value::{Map, Value},
};

pub(super) const TABLE: &[Entry] = &[
    ("genPrivateKey", 1, 1, |args, call| {
        let kind = args.text(0)?;
        let key = match &*kind {
            "" | "rsa" => rsa(args, call, RsaKeySize::_4096)?,
            "ecdsa" | "ed25519" => {
                let algorithm = match &*kind {
                    "ecdsa" => &PKCS_ECDSA_P256_SHA256,
                    _ => &PKCS_ED25519,
                };
                random::allowed(call)?;
                args.budget.step(KEY)?;
                KeyPair::generate_for(algorithm).map_err(failed("make a key"))?
            }
            "dsa" => return Err("DSA keys are not supported in templates".into()),
            other => return Ok(format!("Unknown type {other}").into()),
        };
        Ok(key.serialize_pem().into())
    }),
    ("genCA", 2, 2, |args, call| {
        authority(args, call, &rsa(args, call, RsaKeySize::_2048)?)
    }),
    ("genCAWithKey", 3, 3, |args, call| {
        authority(args, call, &key(&args.text(2)?)?)
    }),
    ("genSelfSignedCert", 4, 4, |args, call| {
        self_signed(args, call, &rsa(args, call, RsaKeySize::_2048)?)
    }),
    ("genSelfSignedCertWithKey", 5, 5, |args, call| {
        self_signed(args, call, &key(&args.text(4)?)?)
    }),
    ("genSignedCert", 5, 5, |args, call| {
        signed(args, call, &rsa(args, call, RsaKeySize::_2048)?)
    }),
    ("genSignedCertWithKey", 6, 6, |args, call| {
        signed(args, call, &key(&args.text(5)?)?)
    }),
    ("buildCustomCert", 2, 2, |args, _| {
        let decode = |at: usize, what: &str| -> Outcome<String> {
            let bytes = STANDARD.decode(&*args.text(at)?);
            let bytes = bytes.map_err(|_| format!("unable to decode base64 {what}"))?;
            String::from_utf8(bytes).map_err(|_| format!("the {what} is not text").into())
        };
        let (certificate, private) = (decode(0, "certificate")?, decode(1, "private key")?);
        Issuer::from_ca_cert_pem(&certificate, key(&private)?)
            .map_err(failed("read the certificate"))?;
        Ok(pair(certificate, private))
    }),
];

/// How many steps it counts to make a key; RSA keys take a hundred times as long as others.
const KEY: usize = 1_000;

/// For how many days a certificate may be valid; dates have years of four digits.
const DAYS: std::ops::RangeInclusive<i64> = -10_000..=2_900_000;

fn failed(what: &'static str) -> impl Fn(rcgen::Error) -> Failure {
    move |error| format!("cannot {what}: {error}").into()
}

fn rsa(args: &Args<'_>, call: &Call<'_, '_>, size: RsaKeySize) -> Outcome<KeyPair> {
    random::allowed(call)?;
    args.budget.step(100 * KEY)?;
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size).map_err(failed("make a key"))
}

fn key(pem: &str) -> Outcome<KeyPair> {
    KeyPair::from_pem(pem).map_err(failed("read the private key"))
}

/// What Sprig calls a certificate: both parts as PEM.
fn pair(certificate: String, key: String) -> Value {
    Value::Map(Map::from([
        ("Cert", certificate.into()),
        ("Key", key.into()),
    ]))
}

fn authority(args: &Args<'_>, call: &Call<'_, '_>, key: &KeyPair) -> Outcome {
    let mut params = params(args, call, args.int(1)?)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    let made = params.self_signed(key).map_err(failed("sign"))?;
    Ok(pair(made.pem(), key.serialize_pem()))
}

fn self_signed(args: &Args<'_>, call: &Call<'_, '_>, key: &KeyPair) -> Outcome {
    let made = named(args, call)?
        .self_signed(key)
        .map_err(failed("sign"))?;
    Ok(pair(made.pem(), key.serialize_pem()))
}

fn signed(args: &Args<'_>, call: &Call<'_, '_>, own: &KeyPair) -> Outcome {
    let authority = args.map(4)?;
    let part = |name: &str| match authority.find(name) {
        Some(Value::Text(text)) => Ok(text),
        _ => Err(Failure::from(format!("the authority has no {name}"))),
    };
    let issuer = Issuer::from_ca_cert_pem(&part("Cert")?, key(&part("Key")?)?)
        .map_err(failed("read the authority's certificate"))?;
    let mut params = named(args, call)?;
    params.use_authority_key_identifier_extension = true;
    let made = params.signed_by(own, &issuer).map_err(failed("sign"))?;
    Ok(pair(made.pem(), own.serialize_pem()))
}

/// A server's and client's certificate: common name, addresses, DNS names, days.
fn named(args: &Args<'_>, call: &Call<'_, '_>) -> Outcome<CertificateParams> {
    let mut params = params(args, call, args.int(3)?)?;
    for address in texts(args, 1)? {
        let parsed: IpAddr = address
            .parse()
            .map_err(|_| format!("error parsing ip: {address}"))?;
        params.subject_alt_names.push(SanType::IpAddress(parsed));
    }
    for name in texts(args, 2)? {
        let dns = name
            .as_str()
            .try_into()
            .map_err(failed("use the DNS name"))?;
        params.subject_alt_names.push(SanType::DnsName(dns));
    }
    Ok(params)
}

/// What all certificates have in common, for the common name that comes first.
fn params(args: &Args<'_>, call: &Call<'_, '_>, days: i64) -> Outcome<CertificateParams> {
    let now = call.engine.outside.now;
    let from = now
        .and_then(|now| OffsetDateTime::from_unix_timestamp(now).ok())
        .ok_or("a certificate needs the time, which is not given")?;
    let until = DAYS
        .contains(&days)
        .then(|| from.checked_add(Duration::days(days)))
        .flatten()
        .ok_or("the number of days is out of range")?;
    // Positive, and at most 16 bytes long.
    let mut serial: [u8; 16] = random::bytes(call)?;
    serial[0] &= 0x7f;
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (from, until);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    let name = args.text(0)?;
    params.distinguished_name.push(DnType::CommonName, &*name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    Ok(params)
}

/// A list of texts, or nothing.
fn texts(args: &Args<'_>, at: usize) -> Outcome<Vec<String>> {
    let items = match args.any(at) {
        Value::Nil => return Ok(Vec::new()),
        Value::List(list) => list,
        _ => return args.wrong(at, "[]interface {}"),
    };
    let text = |item: &Value| match item {
        Value::Text(text) => Ok(text.to_string()),
        other => Err(format!("a {} is not a string", other.type_name()).into()),
    };
    items.items().iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use x509_parser::{extensions::GeneralName, prelude::Pem};

    use super::super::tests::notes;

    fn certificates(template: &str) -> Vec<Pem> {
        let printed = notes(template, &json!({})).unwrap();
        Pem::iter_from_buffer(printed.as_bytes())
            .collect::<Result<_, _>>()
            .unwrap()
    }

    #[test]
    fn an_authority_signs_what_names_a_server() {
        let made = certificates(
            r#"{{ $ca := genCA "ca" 30 -}}
{{ $c := genSignedCert "s" (list "10.0.0.1" "::1") (list "s.example") 10 $ca -}}
{{ $ca.Cert }}{{ $c.Cert }}{{ (genSelfSignedCert "own" nil nil 1).Cert }}"#,
        );
        let parsed: Vec<_> = made.iter().map(|pem| pem.parse_x509().unwrap()).collect();
        let [ca, server, own] = &parsed[..] else {
            panic!("{}", parsed.len());
        };
        assert!(ca.is_ca() && !server.is_ca() && !own.is_ca());
        assert_eq!(server.subject().to_string(), "CN=s");
        assert_eq!(server.issuer().to_string(), "CN=ca");
        server.verify_signature(Some(ca.public_key())).unwrap();
        own.verify_signature(None).unwrap();
        let validity = server.validity();
        assert_eq!(validity.not_before.timestamp(), 1_136_239_445);
        assert_eq!(
            validity.not_after.timestamp(),
            1_136_239_445 + 10 * 24 * 3600
        );
        let names = server.subject_alternative_name().unwrap().unwrap();
        assert!(
            names
                .value
                .general_names
                .contains(&GeneralName::DNSName("s.example"))
        );
        assert_eq!(names.value.general_names.len(), 3);
    }

    #[test]
    fn a_key_that_is_there_is_used() {
        let printed = notes(
            r#"{{ range list "ecdsa" "ed25519" -}}
{{ $key := genPrivateKey . -}}
{{ $ca := genCAWithKey "ca" 30 $key -}}
{{ $c := genSignedCertWithKey "s" nil nil 10 $ca $key -}}
{{ $built := buildCustomCert (b64enc $c.Cert) (b64enc $c.Key) -}}
{{ and (eq $key $ca.Key $c.Key) (eq $built.Cert $c.Cert) }} {{ end }}{{ genPrivateKey "x" }}"#,
            &json!({}),
        );
        assert_eq!(printed.unwrap(), "true true Unknown type x");
    }

    #[test]
    fn what_cannot_be_made_says_why() {
        for (template, expected) in [
            ("{{ genPrivateKey \"dsa\" }}", "DSA keys are not supported"),
            (
                "{{ genCAWithKey \"x\" 1 \"no key\" }}",
                "cannot read the private key",
            ),
            (
                "{{ genSelfSignedCert \"x\" (list \"1.2.3\") nil 1 }}",
                "error parsing ip: 1.2.3",
            ),
            (
                "{{ genSelfSignedCert \"x\" nil (list 1) 1 }}",
                "a int is not a string",
            ),
            (
                "{{ genSignedCert \"x\" nil nil 1 (dict) }}",
                "the authority has no Cert",
            ),
            ("{{ genCA \"x\" 9000000 }}", "number of days"),
            (
                "{{ buildCustomCert \"?\" \"\" }}",
                "unable to decode base64 certificate",
            ),
            ("{{ bcrypt \"x\" }}", "bcrypt is not supported"),
            (
                "{{ derivePassword 1 \"long\" \"p\" \"u\" \"s\" }}",
                "scrypt is not supported",
            ),
        ] {
            let error = notes(template, &json!({})).expect_err(template).to_string();
            assert!(error.contains(expected), "{template}: {error}");
        }
    }
}
