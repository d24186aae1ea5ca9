//! Checksums, encryption, and the names of what is not supported.

use aws_lc_rs::{
    cipher::{
        AES_256, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
        UnboundCipherKey,
    },
    digest,
    error::Unspecified,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Args, Entry, MANY, random};
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
    ("encryptAES", 2, 2, encrypt),
    ("decryptAES", 2, 2, decrypt),
    ("bcrypt", 0, MANY, |_, _| unsupported("bcrypt")),
    ("htpasswd", 0, MANY, |_, _| unsupported("bcrypt")),
    ("derivePassword", 0, MANY, |_, _| unsupported("scrypt")),
    ("fromToml", 0, MANY, |_, _| unsupported("reading TOML")),
];

fn sum(args: &Args<'_>, algorithm: &'static digest::Algorithm) -> Outcome {
    Ok(hex(digest::digest(algorithm, args.text(0)?.as_bytes()).as_ref()).into())
}

fn unsupported(what: &str) -> Outcome {
    Err(format!("{what} is not supported in templates").into())
}

/// AES-256 in CBC mode, the initialization vector before the text.
fn encrypt(args: &Args<'_>, call: &Call<'_, '_>) -> Outcome {
    let (password, text) = (args.text(0)?, args.text(1)?);
    if text.is_empty() {
        return Ok("".into());
    }
    random::allowed(call)?;
    let failed = |_: Unspecified| "the text cannot be encrypted";
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(key(&password).map_err(failed)?);
    let mut data = text.as_bytes().to_vec();
    let context = key.and_then(|key| key.encrypt(&mut data)).map_err(failed)?;
    let DecryptionContext::Iv128(vector) = context else {
        return Err("the text cannot be encrypted".into());
    };
    Ok(STANDARD
        .encode([vector.as_ref().as_slice(), &data].concat())
        .into())
}

fn decrypt(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    let (password, text) = (args.text(0)?, args.text(1)?);
    if text.is_empty() {
        return Ok("".into());
    }
    let failed = |_: Unspecified| "the text cannot be decrypted with this password";
    let packed = STANDARD.decode(&*text);
    let packed = packed.map_err(|_| "the encrypted text is not valid base64")?;
    let (vector, data) = packed
        .split_first_chunk::<16>()
        .ok_or("the encrypted text is too short")?;
    let mut data = data.to_vec();
    let context = DecryptionContext::Iv128((*vector).into());
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key(&password).map_err(failed)?);
    let key = key.map_err(failed)?;
    let plain = key.decrypt(&mut data, context).map_err(failed)?;
    Ok(String::from_utf8_lossy(plain).into_owned().into())
}

/// The password's first 32 bytes, filled up with zeros.
fn key(password: &str) -> Result<UnboundCipherKey, Unspecified> {
    let mut key = [0; 32];
    for (to, from) in key.iter_mut().zip(password.bytes()) {
        *to = from;
    }
    UnboundCipherKey::new(&AES_256, &key)
}
