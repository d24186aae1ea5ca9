//! Private keys under a passphrase: PKCS#8 as RFC 8018 encrypts it (PBES2: PBKDF2 with HMAC-SHA-256, AES-256-CBC), which
//! `openssl pkey` opens and `openssl pkcs8 -topk8` writes.

use std::num::NonZeroU32;

use aws_lc_rs::{
    cipher::{
        AES_256, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
        UnboundCipherKey,
    },
    iv::FixedLength,
    pbkdf2, rand,
};
use zeroize::Zeroizing;

use super::Error;

/// The PEM label of a key under a passphrase.
pub(crate) const LABEL: &str = "ENCRYPTED PRIVATE KEY";
/// How often the passphrase is hashed: what OWASP asks for (2023).
const ROUNDS: u32 = 600_000;
/// A file that asks for more keeps a machine busy for nothing.
const MOST_ROUNDS: u32 = 20_000_000;

/// Object identifiers, as they are encoded.
const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c];
const HMAC_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x09];
const AES_256_CBC: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a];

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const INTEGER: u8 = 0x02;
const NULL: u8 = 0x05;

fn fail(reason: &str) -> Error {
    Error::ReadKey {
        reason: reason.to_owned(),
    }
}

/// A key (PKCS#8, DER) under a passphrase, as DER.
pub(crate) fn seal(key: &[u8], passphrase: &[u8]) -> Result<Vec<u8>, Error> {
    let failed = |_| fail("cannot be put under a passphrase");
    let mut salt = [0; 16];
    rand::fill(&mut salt).map_err(failed)?;
    let bytes = derived(passphrase, &salt, ROUNDS)?;
    let cipher = UnboundCipherKey::new(&AES_256, &*bytes).map_err(failed)?;
    let cipher = PaddedBlockEncryptingKey::cbc_pkcs7(cipher).map_err(failed)?;
    // Sized once: growing would leave copies of the key behind that nobody wipes.
    let mut sealed = Vec::with_capacity(key.len() + 16);
    sealed.extend_from_slice(key);
    let context = cipher.encrypt(&mut sealed).map_err(failed)?;
    let DecryptionContext::Iv128(iv) = context else {
        return Err(fail("cannot be put under a passphrase"));
    };
    let rounds = ROUNDS.to_be_bytes();
    let rounds = rounds.strip_prefix(&[0]).unwrap_or(&rounds);
    let hash = tlv(SEQUENCE, &[tlv(OID, HMAC_SHA256), tlv(NULL, &[])].concat());
    let derivation = [tlv(OCTETS, &salt), tlv(INTEGER, rounds), hash].concat();
    let derivation = [tlv(OID, PBKDF2), tlv(SEQUENCE, &derivation)].concat();
    let cipher = [tlv(OID, AES_256_CBC), tlv(OCTETS, iv.as_ref())].concat();
    let scheme = [tlv(SEQUENCE, &derivation), tlv(SEQUENCE, &cipher)].concat();
    let scheme = [tlv(OID, PBES2), tlv(SEQUENCE, &scheme)].concat();
    Ok(tlv(
        SEQUENCE,
        &[tlv(SEQUENCE, &scheme), tlv(OCTETS, &sealed)].concat(),
    ))
}

/// The key in it, as DER.
pub(crate) fn open(der: &[u8], passphrase: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let Sealed {
        salt,
        rounds,
        iv,
        bytes,
    } = Sealed::read(der).ok_or_else(|| {
        fail("is under a passphrase in a way that is not known here: write it by `openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256`")
    })?;
    let wrong = |_| fail("is not opened by this passphrase");
    let derived = derived(passphrase, salt, rounds)?;
    let cipher = UnboundCipherKey::new(&AES_256, &*derived).map_err(wrong)?;
    let cipher = PaddedBlockDecryptingKey::cbc_pkcs7(cipher).map_err(wrong)?;
    let mut opened = Zeroizing::new(bytes.to_vec());
    let context = DecryptionContext::Iv128(FixedLength::from(&iv));
    let length = cipher.decrypt(&mut opened, context).map_err(wrong)?.len();
    opened.truncate(length);
    Ok(opened)
}

fn derived(passphrase: &[u8], salt: &[u8], rounds: u32) -> Result<Zeroizing<[u8; 32]>, Error> {
    let rounds = NonZeroU32::new(rounds).filter(|rounds| rounds.get() <= MOST_ROUNDS);
    let rounds = rounds.ok_or_else(|| fail("asks for more work than any passphrase is worth"))?;
    let mut key = Zeroizing::new([0; 32]);
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        rounds,
        salt,
        passphrase,
        &mut *key,
    );
    Ok(key)
}

/// What stands in a key under a passphrase.
struct Sealed<'a> {
    salt: &'a [u8],
    rounds: u32,
    iv: [u8; 16],
    bytes: &'a [u8],
}

impl<'a> Sealed<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
        let (all, rest) = part(der, SEQUENCE)?;
        let (scheme, all) = part(all, SEQUENCE)?;
        let (bytes, end) = part(all, OCTETS)?;
        let (name, scheme) = part(scheme, OID)?;
        let (scheme, _) = part(scheme, SEQUENCE)?;
        let (derivation, cipher) = part(scheme, SEQUENCE)?;
        let (how, derivation) = part(derivation, OID)?;
        let (derivation, _) = part(derivation, SEQUENCE)?;
        let (salt, derivation) = part(derivation, OCTETS)?;
        let (rounds, mut derivation) = part(derivation, INTEGER)?;
        // The length of the key may be said, and is that of the cipher.
        if let Some((_, rest)) = part(derivation, INTEGER) {
            derivation = rest;
        }
        let (hash, _) = part(derivation, SEQUENCE)?;
        let (hash, _) = part(hash, OID)?;
        let (cipher, _) = part(cipher, SEQUENCE)?;
        let (with, iv) = part(cipher, OID)?;
        let (iv, _) = part(iv, OCTETS)?;
        let is_known = (name, how, hash, with) == (PBES2, PBKDF2, HMAC_SHA256, AES_256_CBC);
        if !is_known || !rest.is_empty() || !end.is_empty() || rounds.len() > 4 {
            return None;
        }
        let rounds = rounds
            .iter()
            .fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
        Some(Self {
            salt,
            rounds,
            iv: iv.try_into().ok()?,
            bytes,
        })
    }
}

/// The contents of the first element, if it is of this kind, and what follows it.
fn part(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = der.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match *length {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => {
            let high = usize::from(*rest.first()?);
            (high << 8 | usize::from(*rest.get(1)?), rest.get(2..)?)
        }
        _ => return None,
    };
    (*first == tag).then_some(())?;
    Some((rest.get(..length)?, rest.get(length..)?))
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let [.., high, low] = length.to_be_bytes();
    let mut all = match length {
        0..=0x7f => vec![tag, low],
        0x80..=0xff => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    all.extend_from_slice(content);
    all
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        pki::{Key, pem, tests::kit::run},
        spec::KeyType,
    };

    fn key(kind: KeyType) -> Zeroizing<Vec<u8>> {
        let text = Key::generate(kind).unwrap().to_pem().unwrap();
        pem::blocks(text.as_bytes()).unwrap().remove(0).der
    }

    #[test]
    fn what_is_sealed_opens_with_its_passphrase_alone() {
        for kind in [KeyType::P256, KeyType::Rsa4096] {
            let key = key(kind);
            let sealed = seal(&key, b"correct horse").unwrap();
            assert_eq!(*open(&sealed, b"correct horse").unwrap(), *key);
            assert!(
                !sealed
                    .windows(16)
                    .any(|part| key.windows(16).any(|k| k == part))
            );
            assert_ne!(seal(&key, b"correct horse").unwrap(), sealed);
            for wrong in [&b"correct horsf"[..], b""] {
                let opened = open(&sealed, wrong);
                assert!(opened.map_or(true, |opened| *opened != *key));
            }
            for cut in [0, 1, 40, sealed.len() - 1] {
                assert!(open(&sealed[..cut], b"correct horse").is_err());
            }
        }
    }

    #[test]
    fn openssl_opens_what_is_sealed_and_what_it_seals_opens() {
        let dir = tempfile::tempdir().unwrap();
        let key = key(KeyType::P256);
        let plain = pem::encode("PRIVATE KEY", &key);
        let sealed = pem::encode(LABEL, &seal(&key, b"a passphrase").unwrap());
        fs::write(dir.path().join("sealed"), sealed.as_bytes()).unwrap();
        fs::write(dir.path().join("plain"), plain.as_bytes()).unwrap();
        let args = ["pkey", "-in", "sealed", "-passin", "pass:a passphrase"];
        let Some(opened) = run(dir.path(), "openssl", &args) else {
            return;
        };
        assert_eq!(String::from_utf8(opened.stdout).unwrap(), *plain);
        let args = [
            "pkcs8",
            "-topk8",
            "-in",
            "plain",
            "-out",
            "theirs",
            "-v2",
            "aes-256-cbc",
            "-v2prf",
            "hmacWithSHA256",
            "-passout",
            "pass:another",
        ];
        assert!(run(dir.path(), "openssl", &args).unwrap().status.success());
        let theirs = fs::read(dir.path().join("theirs")).unwrap();
        let block = pem::blocks(&theirs).unwrap().remove(0);
        assert_eq!(block.label, LABEL);
        assert_eq!(*open(&block.der, b"another").unwrap(), *key);
    }
}
