//! Private keys: wiped when dropped, and shown to nobody.

use std::fmt;

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
        ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
        RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use rcgen::{
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_RSA_SHA256,
    PublicKeyData, SignatureAlgorithm, SigningKey,
};
use zeroize::Zeroizing;

use super::{Algorithm, Error, pem};
use crate::spec::KeyType;

/// The PEM label of PKCS#8, which istiod reads as the first block.
const PKCS8: &str = "PRIVATE KEY";

/// A private key. It can sign and be written to the vault; it has no `Serialize`, and its
/// `Debug` says only that it is one. aws-lc wipes the memory it lies in.
pub(crate) struct Key {
    pair: Pair,
    algorithm: Algorithm,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl Key {
    /// Makes a new key from the operating system's randomness.
    pub(crate) fn generate(kind: KeyType) -> Result<Self, Error> {
        let ec = |algorithm| EcdsaKeyPair::generate(algorithm).map(Pair::Ec);
        let (pair, algorithm) = match kind {
            KeyType::P256 => (ec(&ECDSA_P256_SHA256_ASN1_SIGNING), Algorithm::P256),
            KeyType::P384 => (ec(&ECDSA_P384_SHA384_ASN1_SIGNING), Algorithm::P384),
            KeyType::Rsa4096 => (
                RsaKeyPair::generate(KeySize::Rsa4096).map(Pair::Rsa),
                Algorithm::Rsa(4096),
            ),
        };
        match pair {
            Ok(pair) => Ok(Self { pair, algorithm }),
            Err(_) => Err(Error::Generate {
                algorithm: algorithm.to_string(),
            }),
        }
    }

    /// Reads the first block of a PEM text, as istiod does: PKCS#8, SEC 1 or PKCS#1.
    pub(crate) fn from_pem(text: &[u8]) -> Result<Self, Error> {
        let fail = |reason: String| Error::ReadKey { reason };
        let blocks = pem::blocks(text).map_err(|reason| fail(reason.into()))?;
        let Some(first) = blocks.first() else {
            return Err(fail("has no PEM block".into()));
        };
        let found = match first.label.as_str() {
            PKCS8 => ec(&first.der).or_else(|| RsaKeyPair::from_pkcs8(&first.der).ok().map(rsa)),
            "EC PRIVATE KEY" => ec(&first.der),
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(&first.der).ok().map(rsa),
            other => {
                return Err(fail(format!(
                    "begins with a {other} block, and istiod reads only the first: remove it"
                )));
            }
        };
        found
            .map(|(pair, algorithm)| Self { pair, algorithm })
            .ok_or_else(|| {
                fail(
                    "is neither an RSA key of at least 2048 bits nor a key on P-256, P-384 or P-521".into(),
                )
            })
    }

    /// The key as PKCS#8, for the vault and for `ca-key.pem`.
    pub(crate) fn to_pem(&self) -> Result<Zeroizing<String>, Error> {
        use aws_lc_rs::encoding::AsDer as _;
        let fail = |_| Error::ReadKey {
            reason: "cannot be written as PKCS#8".into(),
        };
        Ok(match &self.pair {
            Pair::Ec(pair) => pem::encode(PKCS8, pair.to_pkcs8v1().map_err(fail)?.as_ref()),
            Pair::Rsa(pair) => pem::encode(PKCS8, pair.as_der().map_err(fail)?.as_ref()),
        })
    }

    /// What kind of key it is.
    pub(crate) fn algorithm(&self) -> &Algorithm {
        &self.algorithm
    }
}

fn ec(der: &[u8]) -> Option<(Pair, Algorithm)> {
    let curves: [(&'static EcdsaSigningAlgorithm, Algorithm); 3] = [
        (&ECDSA_P256_SHA256_ASN1_SIGNING, Algorithm::P256),
        (&ECDSA_P384_SHA384_ASN1_SIGNING, Algorithm::P384),
        (&ECDSA_P521_SHA512_ASN1_SIGNING, Algorithm::P521),
    ];
    curves.into_iter().find_map(|(curve, algorithm)| {
        let pair = EcdsaKeyPair::from_private_key_der(curve, der).ok()?;
        Some((Pair::Ec(pair), algorithm))
    })
}

fn rsa(pair: RsaKeyPair) -> (Pair, Algorithm) {
    let bits = u32::try_from(pair.public_modulus_len() * 8).unwrap_or(u32::MAX);
    (Pair::Rsa(pair), Algorithm::Rsa(bits))
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        match &self.pair {
            Pair::Ec(pair) => pair.public_key().as_ref(),
            Pair::Rsa(pair) => pair.public_key().as_ref(),
        }
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.algorithm {
            Algorithm::P384 => &PKCS_ECDSA_P384_SHA384,
            Algorithm::P521 => &PKCS_ECDSA_P521_SHA512,
            Algorithm::Rsa(_) => &PKCS_RSA_SHA256,
            _ => &PKCS_ECDSA_P256_SHA256,
        }
    }
}

impl SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ec(pair) => pair.sign(&random, message).map(|s| s.as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map(|()| signature)
            }
        }
        .map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_the_way_to_pem_and_back() {
        for kind in [KeyType::P256, KeyType::P384, KeyType::Rsa4096] {
            let key = Key::generate(kind).unwrap();
            let text = key.to_pem().unwrap();
            assert!(
                text.starts_with(&format!("-----BEGIN {PKCS8}-----\n")),
                "{kind:?}"
            );
            let again = Key::from_pem(text.as_bytes()).unwrap();
            assert_eq!(again.der_bytes(), key.der_bytes());
            assert_eq!(Key::algorithm(&again), Key::algorithm(&key));
            assert_eq!(*again.to_pem().unwrap(), *text);
        }
    }

    #[test]
    fn a_key_shows_nothing_of_itself() {
        let key = Key::generate(KeyType::P256).unwrap();
        assert_eq!(format!("{key:?} {key:#?}"), "Key(..) Key(..)");
    }

    #[test]
    fn what_istiod_would_not_read_is_refused() {
        let key = Key::generate(KeyType::P256).unwrap().to_pem().unwrap();
        let parameters = format!("{}{}", *pem::encode("EC PARAMETERS", &[6, 0]), *key);
        let edwards = aws_lc_rs::signature::Ed25519KeyPair::generate().unwrap();
        let edwards = pem::encode(PKCS8, edwards.to_pkcs8v1().unwrap().as_ref());
        for (text, want) in [
            (parameters.as_str(), "EC PARAMETERS"),
            (&edwards, "neither an RSA key"),
            ("", "no PEM block"),
            (&pem::encode(PKCS8, b"nonsense"), "neither an RSA key"),
        ] {
            let error = Key::from_pem(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }
}
