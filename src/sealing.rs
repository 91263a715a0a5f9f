//! What is kept in the database and must not be read there: sealed with a key that is not in it.
//!
//! AES-256-GCM, under keys made from the operator's secrets by HKDF. The first key seals; every key opens, so that one can
//! be replaced: put the new one first, and take the old one out when nothing is left that it sealed.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
    rand::{SecureRandom, SystemRandom},
};
use secrecy::{ExposeSecret, SecretString};

/// How what is sealed begins; nothing that previewd stores in the clear does.
const SEALED: &str = "sealed:1:";
/// What the keys are for, so that the same secret gives other keys elsewhere.
const PURPOSE: &[u8] = b"previewd renders";
/// The shortest secret that a key is made from, in characters: `openssl rand -hex 16` gives as many.
pub const SHORTEST_SECRET: usize = 32;

/// The keys. None of them: nothing can be sealed.
#[derive(Clone, Default)]
pub struct Keys(Arc<[LessSafeKey]>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

/// Nothing was sealed: there is no key, or the system gives no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotSealed;

impl Keys {
    /// One key for each secret. None where one of them is too short to be one.
    pub fn of(secrets: &[SecretString]) -> Option<Self> {
        secrets.iter().map(key_of).collect::<Option<Vec<_>>>().map(|keys| Self(keys.into()))
    }

    pub fn can_seal(&self) -> bool {
        !self.0.is_empty()
    }

    pub fn seal(&self, text: &str) -> Result<String, NotSealed> {
        let key = self.0.first().ok_or(NotSealed)?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| NotSealed)?;
        let mut sealed = text.as_bytes().to_vec();
        let done = key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(PURPOSE), &mut sealed);
        done.map_err(|_| NotSealed)?;
        Ok(format!("{SEALED}{}", BASE64.encode([nonce.as_slice(), &sealed].concat())))
    }

    /// What was sealed, or `text` itself where it was not. None where no key opens it.
    pub fn open(&self, text: &str) -> Option<String> {
        let Some(encoded) = text.strip_prefix(SEALED) else { return Some(text.to_owned()) };
        let bytes = BASE64.decode(encoded).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        self.0.iter().find_map(|key| {
            let mut sealed = sealed.to_vec();
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let opened = key.open_in_place(nonce, Aad::from(PURPOSE), &mut sealed).ok()?;
            String::from_utf8(opened.to_vec()).ok()
        })
    }
}

fn key_of(secret: &SecretString) -> Option<LessSafeKey> {
    let secret = secret.expose_secret().trim();
    if secret.len() < SHORTEST_SECRET {
        return None;
    }
    let key = Salt::new(HKDF_SHA256, &[]).extract(secret.as_bytes());
    let key: UnboundKey = key.expand(&[PURPOSE], &AES_256_GCM).ok()?.into();
    Some(LessSafeKey::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(secrets: &[char]) -> Keys {
        let secrets: Vec<SecretString> = secrets.iter().map(|c| c.to_string().repeat(32).into()).collect();
        Keys::of(&secrets).expect("keys")
    }

    #[test]
    fn what_is_sealed_is_opened_by_any_of_the_keys() {
        let sealed = keys(&['a']).seal("hunter2").expect("sealed");
        assert!(sealed.starts_with(SEALED) && !sealed.contains("hunter2"));
        assert_ne!(sealed, keys(&['a']).seal("hunter2").expect("sealed"), "each time another");
        assert_eq!(keys(&['a']).open(&sealed).as_deref(), Some("hunter2"));
        assert_eq!(keys(&['b', 'a']).open(&sealed).as_deref(), Some("hunter2"), "while a key is replaced");
        assert_eq!(keys(&['b']).open(&sealed), None);
        assert_eq!(Keys::default().open(&sealed), None);
        let (most, last) = sealed.split_at(sealed.len() - 6);
        assert_eq!(keys(&['a']).open(&format!("{most}AAAA{}", &last[4..])), None, "changed by somebody");
        assert_eq!(keys(&['a']).open("sealed:1:AAAA"), None);
    }

    #[test]
    fn what_is_in_the_clear_stays_readable() {
        assert_eq!(Keys::default().open("{}").as_deref(), Some("{}"));
        assert_eq!(Keys::default().seal("x"), Err(NotSealed));
        assert!(Keys::of(&["too short".into()]).is_none());
        assert_eq!(format!("{:?}", keys(&['a', 'b'])), "2 keys");
    }
}
