//! What is made at random: refused, unless whoever renders allows it, because every rendering would differ.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Args, Entry};
use crate::template::{
    eval::{Call, Outcome},
    value::Value,
};

pub(super) const TABLE: &[Entry] = &[
    ("randAlphaNum", 1, 1, |args, call| {
        text(
            args,
            call,
            b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
        )
    }),
    ("randAlpha", 1, 1, |args, call| {
        text(
            args,
            call,
            b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
        )
    }),
    ("randNumeric", 1, 1, |args, call| {
        text(args, call, b"0123456789")
    }),
    ("randAscii", 1, 1, |args, call| {
        text(args, call, &(b' '..=b'~').collect::<Vec<_>>())
    }),
    ("randInt", 2, 2, |args, call| {
        let (low, high) = (args.int(0)?, args.int(1)?);
        let span = u64::try_from(high.saturating_sub(low))
            .ok()
            .filter(|span| *span > 0)
            .ok_or("invalid argument to Intn")?;
        Ok(Value::Int(
            low + i64::try_from(u64::from_le_bytes(bytes(call)?) % span).unwrap_or_default(),
        ))
    }),
    ("uuidv4", 0, 0, |_, call| {
        let [a, b] = [
            u64::from_le_bytes(bytes(call)?),
            u64::from_le_bytes(bytes(call)?),
        ];
        let (a, b) = (a & !0xf000 | 0x4000, b & !(3 << 62) | 1 << 63);
        Ok(format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            a >> 32,
            a >> 16 & 0xffff,
            a & 0xffff,
            b >> 48,
            b & 0xffff_ffff_ffff
        )
        .into())
    }),
    ("randBytes", 1, 1, |args, call| {
        let mut buffer = vec![0; args.size(0, 2)?];
        args.budget.scan(buffer.len())?;
        fill(&mut buffer, call)?;
        Ok(STANDARD.encode(buffer).into())
    }),
];

/// Refuses where random values are not allowed.
pub(super) fn allowed(call: &Call<'_, '_>) -> Outcome<()> {
    if call.engine.outside.random {
        Ok(())
    } else {
        Err("this makes a random value, so that every rendering differs; set the value instead, or allow random values".into())
    }
}

fn fill(buffer: &mut [u8], call: &Call<'_, '_>) -> Outcome<()> {
    allowed(call)?;
    aws_lc_rs::rand::fill(buffer).map_err(|_| "the system gives no random bytes")?;
    Ok(())
}

pub(super) fn bytes<const N: usize>(call: &Call<'_, '_>) -> Outcome<[u8; N]> {
    let mut buffer = [0; N];
    fill(&mut buffer, call)?;
    Ok(buffer)
}

fn text(args: &Args<'_>, call: &Call<'_, '_>, alphabet: &[u8]) -> Outcome {
    let mut out = String::new();
    for _ in 0..args.size(0, 1)? {
        call.engine.budget.step(1)?;
        // Out of 64 bits the bias of a remainder is far below anything observable.
        let at = u64::from_le_bytes(bytes(call)?) % alphabet.len() as u64;
        out.push(char::from(
            alphabet[usize::try_from(at).unwrap_or_default()],
        ));
    }
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{notes, rendered_with};
    use crate::Options;

    const RANDOM: &[&str] = &[
        "randAlphaNum 8",
        "randAlpha 8",
        "randNumeric 8",
        "randAscii 8",
        "randInt 0 1000000000",
        "randBytes 8",
        "uuidv4",
        "shuffle \"abcdefghijklmnopqrstuvwxyz\"",
        "encryptAES \"p\" \"text\"",
        "genPrivateKey \"ed25519\"",
        "genCA \"x\" 1",
        "genSelfSignedCert \"x\" nil nil 1",
    ];

    #[test]
    fn what_is_random_is_refused_unless_allowed() {
        for call in RANDOM {
            let templates = [("NOTES.txt", &*format!("{{{{ {call} }}}}"))];
            let options = Options {
                now: Some(0),
                ..Options::default()
            };
            let error = rendered_with(&templates, &json!({}), &options).expect_err(call);
            assert!(
                error.to_string().contains("random value"),
                "{call}: {error}"
            );
        }
    }

    #[test]
    fn what_is_random_differs_every_time() {
        for call in RANDOM {
            let twice = format!("{{{{ {call} | toString }}}}\n%%\n{{{{ {call} | toString }}}}");
            let printed = notes(&twice, &json!({})).expect(call);
            let (one, other) = printed.split_once("\n%%\n").unwrap();
            assert_ne!(one, other, "{call}");
        }
    }

    #[test]
    fn what_is_random_has_the_form_asked_for() {
        let printed = notes(
            r#"{{ randAlphaNum 9 | regexMatch "^[a-zA-Z0-9]{9}$" }} {{ randAlpha 9 | regexMatch "^[a-zA-Z]{9}$" }}
{{ randNumeric 9 | regexMatch "^[0-9]{9}$" }} {{ randAscii 9 | regexMatch "^[ -~]{9}$" }}
{{ $n := randInt 5 7 }}{{ or (eq $n 5) (eq $n 6) }} {{ randBytes 9 | b64dec | len | lt 0 }}
{{ uuidv4 | regexMatch "^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$" }}
{{ shuffle "cab" | splitList "" | sortAlpha | join "" }} {{ encryptAES "p" "text" | decryptAES "p" }}"#,
            &json!({}),
        );
        assert_eq!(
            printed.unwrap(),
            "true true\ntrue true\ntrue true\ntrue\nabc text"
        );
    }
}
