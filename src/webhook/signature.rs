//! `X-Hub-Signature-256`.

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// The delivery was not signed by GitHub with one of our secrets. Nobody is told which part was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("X-Hub-Signature-256 is missing or does not match; check the webhook's secret")]
pub struct BadSignature;

/// Checks a body as it came against the value of `X-Hub-Signature-256`: `sha256=` and the hex HMAC of the body, made
/// with any of `secrets`. The older header with SHA-1 is not looked at.
/// <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>
pub fn verify_signature(secrets: &[SecretString], header: Option<&[u8]>, body: &[u8]) -> Result<(), BadSignature> {
    let hex = header.and_then(|header| header.strip_prefix(b"sha256=")).ok_or(BadSignature)?;
    let mut signature = [0; 32];
    hex::decode_to_slice(hex, &mut signature).map_err(|_| BadSignature)?;

    let matches = |secret: &SecretString| {
        let secret = secret.expose_secret();
        // Anybody can sign with an empty secret.
        !secret.is_empty()
            && Hmac::<Sha256>::new_from_slice(secret.as_bytes())
                .is_ok_and(|hmac| hmac.chain_update(body).verify_slice(&signature).is_ok())
    };
    if secrets.iter().any(matches) { Ok(()) } else { Err(BadSignature) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"action":"opened"}"#;

    fn secrets(texts: &[&str]) -> Vec<SecretString> {
        texts.iter().map(|text| SecretString::from(*text)).collect()
    }

    fn signature(secret: &str, body: &[u8]) -> String {
        let hmac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(body);
        format!("sha256={}", hex::encode(hmac.finalize().into_bytes()))
    }

    fn verify(secrets: &[SecretString], header: &str, body: &[u8]) -> Result<(), BadSignature> {
        verify_signature(secrets, Some(header.as_bytes()), body)
    }

    /// The values that GitHub's documentation gives to test with.
    #[test]
    fn githubs_own_example_verifies() {
        let header = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(verify(&secrets(&["It's a Secret to Everybody"]), header, b"Hello, World!"), Ok(()));
    }

    #[test]
    fn the_older_of_two_secrets_still_works() {
        let secrets = secrets(&["newer", "older"]);
        assert_eq!(verify(&secrets, &signature("newer", BODY), BODY), Ok(()));
        assert_eq!(verify(&secrets, &signature("older", BODY), BODY), Ok(()));
    }

    #[test]
    fn everything_else_is_refused() {
        let right = signature("secret", BODY);
        let hex = right.strip_prefix("sha256=").unwrap();
        let mut last_digit = right.clone();
        last_digit.replace_range(right.len() - 1.., if right.ends_with('0') { "1" } else { "0" });
        let headers = [
            ("another secret", signature("another", BODY)),
            ("SHA-1", "sha1=7d38cdd689735b008b3c702edd92eea23791c5f6".to_owned()),
            ("SHA-1 under the other name", format!("sha1={hex}")),
            ("no algorithm", hex.to_owned()),
            ("no digits", "sha256=".to_owned()),
            ("no hex", format!("sha256={}", "x".repeat(64))),
            ("a digit too few", right[..right.len() - 1].to_owned()),
            ("a byte too few", right[..right.len() - 2].to_owned()),
            ("a byte too many", format!("{right}00")),
            ("another digit", last_digit),
            ("a blank", format!("{right} ")),
            ("nothing", String::new()),
        ];
        let known = secrets(&["secret"]);
        assert_eq!(verify(&known, &right, BODY), Ok(()));
        for (what, header) in headers {
            assert_eq!(verify(&known, &header, BODY), Err(BadSignature), "{what}");
        }
        assert_eq!(verify_signature(&known, None, BODY), Err(BadSignature), "no header");
        assert_eq!(verify_signature(&known, Some(&[0xff; 71]), BODY), Err(BadSignature), "not text");

        for at in 0..BODY.len() {
            let mut changed = BODY.to_vec();
            changed[at] ^= 1;
            assert_eq!(verify(&known, &right, &changed), Err(BadSignature), "byte {at} of the body");
        }
    }

    #[test]
    fn nobody_signs_with_no_secret() {
        assert_eq!(verify(&[], &signature("", BODY), BODY), Err(BadSignature));
        assert_eq!(verify(&secrets(&[""]), &signature("", BODY), BODY), Err(BadSignature));
    }
}
