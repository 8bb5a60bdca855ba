//! Signed tokens, made without the library that the program verifies them with.

use anyhow::{Result, anyhow, bail};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// A key of an identity provider, RS256 or ES256.
pub enum Key {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

impl Key {
    pub fn rsa() -> Result<Self> {
        RsaKeyPair::generate(KeySize::Rsa2048).map(Self::Rsa).map_err(|_| anyhow!("generating an RSA key"))
    }

    pub fn ec() -> Result<Self> {
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map(Self::Ec)
            .map_err(|_| anyhow!("generating an EC key"))
    }

    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Ec(_) => "ES256",
        }
    }

    /// The public half as a JSON Web Key.
    pub fn jwk(&self, id: &str) -> Value {
        match self {
            Self::Rsa(pair) => {
                let modulus = pair.public_key().modulus().big_endian_without_leading_zero();
                let exponent = pair.public_key().exponent().big_endian_without_leading_zero();
                json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": id, "n": encode(modulus), "e": encode(exponent)})
            }
            Self::Ec(pair) => {
                // An uncompressed point: 4, x, y.
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "use": "sig", "alg": "ES256", "kid": id, "crv": "P-256", "x": encode(x), "y": encode(y)})
            }
        }
    }

    pub fn public_pem(&self) -> Result<String> {
        let Self::Rsa(pair) = self else { bail!("only the RSA key's PEM is asked for") };
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| anyhow!("encoding the public key"))?;
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> = (0..text.len()).step_by(64).map(|i| &text[i..text.len().min(i + 64)]).collect();
        Ok(format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n")))
    }

    /// A token of these claims.
    pub fn sign(&self, id: &str, claims: &Value) -> Result<String> {
        let input = signing_input(&json!({"alg": self.algorithm(), "typ": "JWT", "kid": id}), claims);
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, input.as_bytes(), &mut signature)
                    .map_err(|_| anyhow!("signing"))?;
                signature
            }
            Self::Ec(pair) => pair.sign(&random, input.as_bytes()).map_err(|_| anyhow!("signing"))?.as_ref().to_vec(),
        };
        Ok(format!("{input}.{}", encode(&signature)))
    }
}

/// A token signed with a shared secret; `algorithm` may be `none`.
pub fn sign_with_secret(algorithm: &str, header: &Value, secret: &[u8], claims: &Value) -> Result<String> {
    let input = signing_input(header, claims);
    let algorithm = match algorithm {
        "none" => return Ok(format!("{input}.")),
        "HS256" => hmac::HMAC_SHA256,
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        other => bail!("cannot sign with {other}"),
    };
    let tag = hmac::sign(&hmac::Key::new(algorithm, secret), input.as_bytes());
    Ok(format!("{input}.{}", encode(tag.as_ref())))
}

fn signing_input(header: &Value, claims: &Value) -> String {
    format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()))
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
