//! Checks passwords against bcrypt hashes, and tokens, without telling by time what was nearly right.
//!
//! In: users and what a caller gave. Out: right, wrong, or too busy to say. Invariants: hashes are computed on blocking
//! threads, [`AT_ONCE`] at a time with a bounded queue; the results that are kept are bounded, and the passwords in them
//! are keyed digests; who is unknown costs as much as a wrong password.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;

/// Hashes computed at the same time: exporter-toolkit computes one at a time too (`web/handler.go`).
const AT_ONCE: usize = 1;
/// Callers that may wait for that; more are told to come again.
const WAITING_MAX: usize = 64;
/// Results that are kept; when there are more, the wrong ones go first.
const RESULTS_MAX: usize = 1024;
/// Costs of bcrypt.
const COSTS: std::ops::RangeInclusive<u32> = 4..=31;

/// What a check gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checked {
    Right,
    Wrong,
    Busy,
}

/// The results so far, and the turns.
pub(super) struct Passwords {
    /// New in each process, so that digests in memory cannot be looked up in tables.
    key: hmac::Key,
    results: Mutex<HashMap<[u8; 32], bool>>,
    turns: Arc<Semaphore>,
    waiting: Semaphore,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passwords")
    }
}

impl Passwords {
    pub(super) fn new() -> Result<Self, ()> {
        Ok(Self {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map_err(|_| ())?,
            results: Mutex::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Semaphore::new(WAITING_MAX),
        })
    }

    /// Whether two texts are equal, in a time that tells nothing of where they differ.
    pub(super) fn is_same(&self, expected: &str, given: &str) -> bool {
        let expected = hmac::sign(&self.key, expected.as_bytes());
        hmac::verify(&self.key, given.as_bytes(), expected.as_ref()).is_ok()
    }

    /// Whether `password` is that of `user`. Known results are answered at once; else a hash is computed.
    pub(super) async fn check(&self, users: &BTreeMap<String, String>, user: &str, password: String) -> Checked {
        // For who is unknown the hash of another is computed, and its result not used.
        let hash = users.get(user).or_else(|| users.values().max_by_key(|hash| cost(hash)));
        let Some(hash) = hash.cloned() else { return Checked::Wrong };
        let is_known = users.contains_key(user);
        let digest = self.digest(user, &hash, &password);
        if let Some(right) = self.results.lock().get(&digest) {
            return if *right { Checked::Right } else { Checked::Wrong };
        }
        let Ok(_place) = self.waiting.try_acquire() else { return Checked::Busy };
        let Ok(turn) = Arc::clone(&self.turns).acquire_owned().await else { return Checked::Busy };
        // The turn ends with the work, also when who asked is gone by then.
        let work = move || {
            let _turn = turn;
            bcrypt::verify(password, &hash).unwrap_or(false)
        };
        let right = tokio::task::spawn_blocking(work).await.unwrap_or(false) && is_known;
        self.keep(digest, right);
        if right { Checked::Right } else { Checked::Wrong }
    }

    fn digest(&self, user: &str, hash: &str, password: &str) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [user, hash, password] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }

    fn keep(&self, digest: [u8; 32], right: bool) {
        let mut results = self.results.lock();
        if results.len() >= RESULTS_MAX {
            results.retain(|_, right| *right);
        }
        if results.len() >= RESULTS_MAX {
            results.clear();
        }
        results.insert(digest, right);
    }
}

/// What is wrong with a user; the hash itself is not repeated.
pub(super) fn problem(user: &str, hash: &str) -> Option<String> {
    if user.is_empty() || user.contains(':') {
        return Some("a user name is not empty and holds no colon (RFC 7617)".to_owned());
    }
    match hash.parse::<bcrypt::HashParts>() {
        Ok(parts) if COSTS.contains(&parts.get_cost()) => None,
        _ => {
            Some("expected a bcrypt hash, as `htpasswd -nBC 10 \"\"` prints it: `$2y$10$` and 53 characters".to_owned())
        }
    }
}

fn cost(hash: &str) -> u32 {
    hash.parse::<bcrypt::HashParts>().map_or(0, |parts| parts.get_cost())
}

/// User and password of the credentials of basic authentication (RFC 7617).
pub(super) fn decode_basic(credentials: &str) -> Option<(String, String)> {
    let text = String::from_utf8(decode_base64(credentials)?).ok()?;
    text.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    // Longer credentials than any client sends.
    if digits.len() > 8192 || text.len() - digits.len() > 2 {
        return None;
    }
    let (mut bytes, mut held, mut bits) = (Vec::with_capacity(digits.len() * 3 / 4), 0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6 | u32::from(value)) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_as_rfc_7617_writes_them() {
        let check = |text: &str, expect: Option<(&str, &str)>| {
            let expect = expect.map(|(user, password)| (user.to_owned(), password.to_owned()));
            assert_eq!(decode_basic(text), expect, "{text}");
        };
        check("QWxhZGRpbjpvcGVuIHNlc2FtZQ==", Some(("Aladdin", "open sesame")));
        check("dGVzdDoxMjPCow==", Some(("test", "123£")));
        check("YTo=", Some(("a", "")));
        check("OmE6Yg", Some(("", "a:b")));
        check("YQ==", None);
        check("!!!!", None);
        check("", None);
        check("//79", None);
    }

    #[tokio::test]
    async fn right_wrong_and_unknown_are_told_apart_and_kept() {
        let passwords = Passwords::new().expect("random numbers");
        let hash = bcrypt::hash("open sesame", 4).expect("a hash");
        let users = BTreeMap::from([("ali".to_owned(), hash.clone()), ("bo".to_owned(), hash)]);
        for _ in 0..2 {
            assert_eq!(passwords.check(&users, "ali", "open sesame".to_owned()).await, Checked::Right);
            assert_eq!(passwords.check(&users, "ali", "open".to_owned()).await, Checked::Wrong);
            // The hash that is computed in place of the unknown one fits; it is no entry all the same.
            assert_eq!(passwords.check(&users, "cy", "open sesame".to_owned()).await, Checked::Wrong);
        }
        assert_eq!(passwords.results.lock().len(), 3);
        assert_eq!(passwords.check(&BTreeMap::new(), "ali", "open sesame".to_owned()).await, Checked::Wrong);
    }

    #[test]
    fn wrong_passwords_never_push_out_right_ones_and_results_are_bounded() {
        let passwords = Passwords::new().expect("random numbers");
        passwords.keep([255; 32], true);
        for at in 0..3 * RESULTS_MAX {
            passwords.keep(passwords.digest("u", "h", &at.to_string()), false);
        }
        let results = passwords.results.lock();
        assert!(results.len() <= RESULTS_MAX && results[&[255; 32]]);
    }

    #[test]
    fn hashes_are_checked_without_repeating_them() {
        assert_eq!(problem("a", "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"), None);
        for (user, hash) in
            [("a", "plain-secret"), ("a", ""), ("a", "$2y$99$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG")]
        {
            let problem = problem(user, hash).expect("refused");
            assert!(hash.is_empty() || !problem.contains(hash), "{problem}");
        }
        assert!(problem("a:b", "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG").is_some());
    }
}
