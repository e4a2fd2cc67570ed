//! The proof of a secret that a TCP client knows: challenge and response.
//!
//! ```text
//!   client                          daemon
//!   HELLO (can prove)   ───────>
//!                       <───────    WELCOME (a challenge follows), CHALLENGE nonce
//!   PROOF mac           ───────>    mac = HMAC-SHA256(secret, tag · epoch · session · nonce)
//!                       <───────    PROVEN role, or a goodbye
//! ```
//!
//! The secret itself never goes over the wire, a proof is good for one
//! connection only, and a connection gets one try. What this doesn't do is hide
//! or protect what is said afterwards: that is what loopback is for.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::record::Epoch;

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 32;

/// Bytes of a proof.
pub const PROOF_BYTES: usize = 32;

/// The shortest secret that is taken.
const SECRET_BYTES_MIN: usize = 16;

/// The longest.
const SECRET_BYTES_MAX: usize = 4096;

/// What a proof is about, so that it can't be taken for another's.
const TAG: &[u8; 16] = b"rtm tcp proof 01";

/// The secret of a token file, without the white space at its end.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Of a file's content.
    ///
    /// # Errors
    /// It is too short or too long: what would be right.
    pub fn of_file(content: &[u8]) -> Result<Secret, String> {
        let secret = content.trim_ascii_end();
        if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.len()) {
            return Err(format!(
                "a secret of {} bytes; {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} would be right, like 'head -c 32 /dev/urandom | base64'",
                secret.len()
            ));
        }
        Ok(Secret(secret.into()))
    }

    fn mac(&self, challenge: &Challenge) -> Hmac<Sha256> {
        let mut mac = match Hmac::<Sha256>::new_from_slice(&self.0) {
            Ok(mac) => mac,
            Err(_) => unreachable!("HMAC takes keys of any length"),
        };
        mac.update(TAG);
        mac.update(&challenge.epoch.0.to_le_bytes());
        mac.update(&challenge.session.to_le_bytes());
        mac.update(&challenge.nonce);
        mac
    }

    /// The proof that answers a challenge.
    pub fn prove(&self, challenge: &Challenge) -> [u8; PROOF_BYTES] {
        self.mac(challenge).finalize().into_bytes().into()
    }

    /// Is a proof right? Takes the same time for every wrong one.
    pub fn verify(&self, challenge: &Challenge, proof: &[u8; PROOF_BYTES]) -> bool {
        self.mac(challenge).verify_slice(proof).is_ok()
    }
}

/// What a proof answers: one connection's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Challenge {
    /// The daemon's history.
    pub epoch: Epoch,
    /// The session's number.
    pub session: u64,
    /// Random bytes.
    pub nonce: [u8; NONCE_BYTES],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_secret_proves_and_only_once() {
        let secret = Secret::of_file(b"0123456789abcdef\n").unwrap();
        let challenge = Challenge { epoch: Epoch(7), session: 3, nonce: [9; NONCE_BYTES] };
        let proof = secret.prove(&challenge);
        assert!(secret.verify(&challenge, &proof));
        let other = Secret::of_file(b"0123456789abcdeg").unwrap();
        assert!(!other.verify(&challenge, &proof));
        for challenge in [
            Challenge { epoch: Epoch(8), ..challenge },
            Challenge { session: 4, ..challenge },
            Challenge { nonce: [8; NONCE_BYTES], ..challenge },
        ] {
            assert!(!secret.verify(&challenge, &proof));
        }
        assert_eq!(format!("{secret:?}"), "Secret");
    }

    #[test]
    fn short_and_long_secrets_are_refused() {
        assert!(
            Secret::of_file(b"short\n").unwrap_err().starts_with("a secret of 5 bytes; 16 to 4096")
        );
        assert!(Secret::of_file(b"                          ").is_err());
        assert!(Secret::of_file(&[b'x'; 4097]).is_err());
    }
}
