//! Checksums. Keys, certificates and passwords are not made by templates: they would differ on every rendering.

use aws_lc_rs::digest;

use super::{Args, Entry, MANY};
use crate::{
    archive::hex,
    template::eval::{Call, Outcome},
};

pub(super) const TABLE: &[Entry] = &[
    ("sha1sum", 1, 1, |args, _| {
        sum(args, &digest::SHA1_FOR_LEGACY_USE_ONLY)
    }),
    ("sha256sum", 1, 1, |args, _| sum(args, &digest::SHA256)),
    ("sha512sum", 1, 1, |args, _| sum(args, &digest::SHA512)),
    ("adler32sum", 1, 1, |args, _| {
        let (a, b) = args.text(0)?.bytes().fold((1u32, 0u32), |(a, b), byte| {
            let a = (a + u32::from(byte)) % 65_521;
            (a, (b + a) % 65_521)
        });
        Ok((b << 16 | a).to_string().into())
    }),
    ("bcrypt", 0, MANY, refused),
    ("htpasswd", 0, MANY, refused),
    ("genPrivateKey", 0, MANY, refused),
    ("derivePassword", 0, MANY, refused),
    ("buildCustomCert", 0, MANY, refused),
    ("genCA", 0, MANY, refused),
    ("genCAWithKey", 0, MANY, refused),
    ("genSelfSignedCert", 0, MANY, refused),
    ("genSelfSignedCertWithKey", 0, MANY, refused),
    ("genSignedCert", 0, MANY, refused),
    ("genSignedCertWithKey", 0, MANY, refused),
    ("encryptAES", 0, MANY, refused),
    ("decryptAES", 0, MANY, refused),
    ("randBytes", 0, MANY, refused),
    ("toToml", 0, MANY, refused_toml),
    ("mustToToml", 0, MANY, refused_toml),
    ("fromToml", 0, MANY, refused_toml),
];

fn sum(args: &Args<'_>, algorithm: &'static digest::Algorithm) -> Outcome {
    Ok(hex(digest::digest(algorithm, args.text(0)?.as_bytes()).as_ref()).into())
}

fn refused(_: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    Err("templates make no keys, certificates or passwords here: they would differ on every rendering".into())
}

fn refused_toml(_: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    Err("TOML is not supported in templates".into())
}
