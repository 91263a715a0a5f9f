//! RSA keys for Apps under test: made anew, so that none is ever kept in a repository.

use anyhow::Context as _;
use rsa::RsaPrivateKey;
use rsa::pkcs1::{EncodeRsaPrivateKey as _, LineEnding};
use rsa::pkcs8::EncodePublicKey as _;

/// GitHub's own keys have 2048 bits.
const BITS: usize = 2048;

#[derive(Clone)]
pub struct AppKey {
    /// PKCS#1 PEM, as GitHub hands it out.
    pub private: String,
    /// SubjectPublicKeyInfo PEM, for [`super::AppOptions`].
    pub public: String,
}

impl AppKey {
    /// Takes a second or more in a debug build.
    pub fn generate() -> anyhow::Result<Self> {
        let key = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, BITS).context("no RSA key was made")?;
        let public = key.to_public_key().to_public_key_pem(LineEnding::LF).context("no PEM of the public key")?;
        let private = key.to_pkcs1_pem(LineEnding::LF).context("no PEM of the private key")?;
        Ok(Self { private: private.to_string(), public })
    }
}
