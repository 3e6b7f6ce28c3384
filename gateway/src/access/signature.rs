//! Signatures over the body of a call, as GitHub (`X-Hub-Signature-256`) and Standard Webhooks (`webhook-signature`)
//! send them. A secret is for one of the two: the same signed bytes could mean another message for the other.

use std::time::{Duration, SystemTime};

use http1::Headers;
use http1::forward::Check;

use super::lines::{MAX_LINE_BYTES, lines};
use crate::base64;
use crate::digest::{DIGEST_BYTES, Digest, Hmac, same};

/// The prefix of a secret of Standard Webhooks.
const WEBHOOK_SECRET: &[u8] = b"whsec_";

/// How far a webhook's time may differ from the gateway's clock.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// The most signatures of one webhook. While a sender changes its secret, it signs with the old and the new one.
const MAX_SIGNATURES: usize = 16;

/// The longest id of a webhook.
const MAX_ID_BYTES: usize = 256;

/// The length of a digest in base64, with padding.
const DIGEST_TEXT_BYTES: usize = DIGEST_BYTES.div_ceil(3) * 4;

/// The key of a function's signatures, by kind of signature.
pub(crate) enum Signer {
    GitHub(Hmac),
    Webhooks(Hmac),
}

impl Signer {
    /// Reads one line: `whsec_` and base64 for Standard Webhooks, other text for GitHub.
    ///
    /// # Errors
    /// The mistake, without the content.
    pub(crate) fn parse(content: &[u8]) -> Result<Signer, String> {
        let mut lines = lines(content).map(|(_, line)| line);
        let secret = match (lines.next(), lines.next()) {
            (None, _) => return Err("expected a file that is not empty".to_owned()),
            (Some(line), None) if !line.iter().any(u8::is_ascii_control) => line,
            _ => return Err("expected one line of text".to_owned()),
        };
        if secret.len() > MAX_LINE_BYTES {
            return Err(format!("expected at most {MAX_LINE_BYTES} bytes"));
        }
        let Some(text) = secret.strip_prefix(WEBHOOK_SECRET) else {
            return Ok(Signer::GitHub(Hmac::new(secret)));
        };
        let key = base64::decode(text).filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| "expected base64 behind whsec_".to_owned())?;
        Ok(Signer::Webhooks(Hmac::new(&key)))
    }

    /// Reads the signature in a head. The body has yet to be checked.
    ///
    /// # Errors
    /// The mistake in the head.
    pub(super) fn begin(&self, headers: Headers<'_>, now: SystemTime) -> Result<Signature, &'static str> {
        match self {
            Signer::GitHub(code) => of_github(code.clone(), headers),
            Signer::Webhooks(code) => of_webhook(code.clone(), headers, now),
        }
    }
}

/// A signature that the body must match.
pub(crate) struct Signature {
    code: Hmac,
    /// The signatures of the head; one must match.
    given: Vec<Digest>,
}

impl Check for Signature {
    fn update(&mut self, data: &[u8]) {
        self.code.update(data);
    }

    fn is_right(self: Box<Self>) -> bool {
        let code = self.code.finish();
        self.given.iter().fold(false, |is_right, given| is_right | same(given, &code))
    }
}

fn of_github(code: Hmac, headers: Headers<'_>) -> Result<Signature, &'static str> {
    let field = headers.single("x-hub-signature-256").ok_or("expected the field X-Hub-Signature-256 once")?;
    let digest = field.strip_prefix(b"sha256=").and_then(hex);
    let digest = digest.ok_or("expected sha256= and 64 hexadecimal digits in X-Hub-Signature-256")?;
    Ok(Signature { code, given: vec![digest] })
}

fn of_webhook(mut code: Hmac, headers: Headers<'_>, now: SystemTime) -> Result<Signature, &'static str> {
    let fields = ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| headers.single(name));
    let [Some(id), Some(timestamp), Some(signatures)] = fields else {
        return Err("expected the fields webhook-id, webhook-timestamp and webhook-signature once each");
    };
    // A dot separates id, time and body: with a dot in the id they could be split in another way.
    if id.is_empty() || id.len() > MAX_ID_BYTES || id.contains(&b'.') {
        return Err("expected 1 to 256 characters without a dot in webhook-id");
    }
    let sent = seconds(timestamp).ok_or("expected seconds since 1970 in webhook-timestamp")?;
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if now.abs_diff(sent) > TOLERANCE {
        return Err("webhook-timestamp is more than five minutes from the gateway's clock");
    }
    let mut given = Vec::new();
    for (place, signature) in signatures.split(|byte| *byte == b' ').enumerate() {
        if place == MAX_SIGNATURES {
            return Err("expected at most 16 signatures in webhook-signature");
        }
        given.extend(signature.strip_prefix(b"v1,").and_then(digest)); // other versions are skipped
    }
    if given.is_empty() {
        return Err("expected v1, and the base64 of 32 bytes in webhook-signature");
    }
    for part in [id, b".", timestamp, b"."] {
        code.update(part);
    }
    Ok(Signature { code, given })
}

/// Only digits: `parse` would accept a sign.
fn seconds(text: &[u8]) -> Option<Duration> {
    let text =
        std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok().map(Duration::from_secs)
}

fn digest(text: &[u8]) -> Option<Digest> {
    let bytes = (text.len() <= DIGEST_TEXT_BYTES).then(|| base64::decode(text))??;
    bytes.try_into().ok()
}

fn hex(text: &[u8]) -> Option<Digest> {
    let mut digest = [0; DIGEST_BYTES];
    if text.len() != 2 * DIGEST_BYTES {
        return None;
    }
    for (byte, digits) in digest.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = [digits[0], digits[1]].map(|digit| char::from(digit).to_digit(16));
        *byte = (high? << 4 | low?) as u8; // below 256
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http1::RequestHead;

    /// GitHub's own example: secret, body and signature.
    const SECRET: &str = "It's a Secret to Everybody";
    const BODY: &str = "Hello, World!";
    const SIGNED: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    /// The example that the libraries of Standard Webhooks are tested with.
    const WEBHOOK: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIME: u64 = 1_614_265_330;
    const PAYLOAD: &str = r#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn judge(secret: &str, fields: &str, body: &str) -> Result<bool, &'static str> {
        at(secret, fields, body, TIME)
    }

    fn at(secret: &str, fields: &str, body: &str, now: u64) -> Result<bool, &'static str> {
        let head = format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let head = RequestHead::parse(head.into_bytes(), 16).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
        let mut signature = Signer::parse(secret.as_bytes()).unwrap().begin(head.headers(), now)?;
        signature.update(body.as_bytes());
        Ok(Box::new(signature).is_right())
    }

    fn webhook(id: &str, time: &str, signature: &str) -> String {
        format!("webhook-id: {id}\r\nWebhook-Timestamp: {time}\r\nwebhook-signature: {signature}\r\n")
    }

    #[test]
    fn the_example_of_githubs_documentation_is_right() {
        let signed = |digits: &str| format!("X-Hub-Signature-256: sha256={digits}\r\n");
        let good = signed(SIGNED);
        assert_eq!(judge(SECRET, &good, BODY), Ok(true));
        assert_eq!(judge(&format!("{SECRET}\r\n"), &good, BODY), Ok(true));
        assert_eq!(judge(SECRET, &signed(&SIGNED.to_uppercase()), BODY), Ok(true));
        assert_eq!(judge(SECRET, &good, "Hello, World"), Ok(false));
        assert_eq!(judge(SECRET, &good, ""), Ok(false));
        assert_eq!(judge("another", &good, BODY), Ok(false));
        assert_eq!(judge(SECRET, &signed(&SIGNED.replace('7', "8")), BODY), Ok(false));
    }

    #[test]
    fn a_signature_of_github_must_occur_once_and_be_complete() {
        const FIELD: &str = "expected the field X-Hub-Signature-256 once";
        const FORM: &str = "expected sha256= and 64 hexadecimal digits in X-Hub-Signature-256";
        let good = format!("X-Hub-Signature-256: sha256={SIGNED}\r\n");
        for (fields, want) in [
            (String::new(), FIELD),
            (format!("X-Hub-Signature: sha1={SIGNED:.40}\r\n"), FIELD),
            (format!("{good}{good}"), FIELD),
            (format!("{good}X-Hub-Signature-256:\r\n"), FIELD),
            (webhook(ID, &TIME.to_string(), SIGNATURE), FIELD),
            ("X-Hub-Signature-256:\r\n".to_owned(), FORM),
            ("X-Hub-Signature-256: sha256=\r\n".to_owned(), FORM),
            (format!("X-Hub-Signature-256: {SIGNED}\r\n"), FORM),
            (format!("X-Hub-Signature-256: sha1={SIGNED}\r\n"), FORM),
            (format!("X-Hub-Signature-256: sha256={SIGNED}0\r\n"), FORM),
            (format!("X-Hub-Signature-256: sha256={SIGNED}{}\r\n", "0".repeat(60_000)), FORM),
            (format!("X-Hub-Signature-256: sha256={SIGNED:.63}\r\n"), FORM),
            (format!("X-Hub-Signature-256: sha256={SIGNED:.63}g\r\n"), FORM),
            (format!("X-Hub-Signature-256: sha256={SIGNED:.62}+7\r\n"), FORM),
        ] {
            assert_eq!(judge(SECRET, &fields, BODY), Err(want), "{fields:.100}");
        }
    }

    #[test]
    fn the_example_of_standard_webhooks_is_right() {
        let time = TIME.to_string();
        let good = webhook(ID, &time, SIGNATURE);
        assert_eq!(judge(WEBHOOK, &good, PAYLOAD), Ok(true));
        assert_eq!(judge(WEBHOOK, &good, "{}"), Ok(false));
        assert_eq!(judge(WEBHOOK, &webhook("msg_other", &time, SIGNATURE), PAYLOAD), Ok(false));
        assert_eq!(judge(WEBHOOK, &webhook(ID, &(TIME + 1).to_string(), SIGNATURE), PAYLOAD), Ok(false));
        assert_eq!(judge("whsec_AAAA", &good, PAYLOAD), Ok(false));
        let zeros = format!("v1,{}=", "A".repeat(43));
        for (signatures, want) in [
            (format!("{zeros} {SIGNATURE}"), true),
            (format!("v1a,xxx {SIGNATURE} v2,"), true),
            (format!("{zeros} {zeros}"), false),
            (format!("{}{SIGNATURE}", format!("{zeros} ").repeat(MAX_SIGNATURES - 1)), true),
        ] {
            assert_eq!(judge(WEBHOOK, &webhook(ID, &time, &signatures), PAYLOAD), Ok(want), "{signatures}");
        }
    }

    #[test]
    fn a_webhook_may_differ_five_minutes_from_the_clock() {
        let good = webhook(ID, &TIME.to_string(), SIGNATURE);
        let far = Err("webhook-timestamp is more than five minutes from the gateway's clock");
        for (now, want) in
            [(TIME - 300, Ok(true)), (TIME + 300, Ok(true)), (TIME - 301, far), (TIME + 301, far)]
        {
            assert_eq!(at(WEBHOOK, &good, PAYLOAD, now), want, "{now}");
        }
        assert_eq!(at(WEBHOOK, &good, PAYLOAD, 0), far);
        assert_eq!(judge(WEBHOOK, &webhook(ID, &u64::MAX.to_string(), SIGNATURE), PAYLOAD), far);
        for time in ["", "-1", "+1614265330", "1614265330.0", "1614265330 ,", "18446744073709551616", "0x60"]
        {
            let want = Err("expected seconds since 1970 in webhook-timestamp");
            assert_eq!(judge(WEBHOOK, &webhook(ID, time, SIGNATURE), PAYLOAD), want, "{time}");
        }
    }

    #[test]
    fn each_field_of_a_webhook_must_occur_once_and_within_bounds() {
        const FIELDS: &str =
            "expected the fields webhook-id, webhook-timestamp and webhook-signature once each";
        const NO_ID: &str = "expected 1 to 256 characters without a dot in webhook-id";
        const NONE: &str = "expected v1, and the base64 of 32 bytes in webhook-signature";
        let time = TIME.to_string();
        let good = webhook(ID, &time, SIGNATURE);
        let many = format!("{SIGNATURE} ").repeat(MAX_SIGNATURES + 1);
        for (fields, want) in [
            (String::new(), FIELDS),
            (good.replace("webhook-id", "svix-id"), FIELDS),
            (good.replace("Webhook-Timestamp", "x"), FIELDS),
            (format!("{good}webhook-id: {ID}\r\n"), FIELDS),
            (format!("{good}webhook-signature: {SIGNATURE}\r\n"), FIELDS),
            (format!("X-Hub-Signature-256: sha256={SIGNED}\r\n"), FIELDS),
            (webhook("", &time, SIGNATURE), NO_ID),
            (webhook("msg.1", &time, SIGNATURE), NO_ID),
            (webhook(&"x".repeat(MAX_ID_BYTES + 1), &time, SIGNATURE), NO_ID),
            (webhook(ID, &time, many.trim_end()), "expected at most 16 signatures in webhook-signature"),
            (webhook(ID, &time, ""), NONE),
            (webhook(ID, &time, &SIGNATURE[3..]), NONE),
            (webhook(ID, &time, "v1,AAAA"), NONE),
            (webhook(ID, &time, &SIGNATURE.replace("v1", "v2")), NONE),
            (webhook(ID, &time, &format!("v1,{}", "A".repeat(60_000))), NONE),
        ] {
            assert_eq!(judge(WEBHOOK, &fields, PAYLOAD), Err(want), "{fields:.100}");
        }
        assert_eq!(judge(WEBHOOK, &webhook(&"x".repeat(MAX_ID_BYTES), &time, SIGNATURE), PAYLOAD), Ok(false));
    }

    #[test]
    fn a_secret_is_one_line() {
        let why = |content: &str| Signer::parse(content.as_bytes()).err();
        let longest = "x".repeat(MAX_LINE_BYTES);
        for content in ["x", " x ", "x\n\n", "\r\nx\r\n", "whsec_AA==", &longest] {
            assert_eq!(why(content), None, "{content}");
        }
        for (content, want) in [
            ("", "expected a file that is not empty"),
            ("\n", "expected a file that is not empty"),
            ("x\ny", "expected one line of text"),
            ("x\0", "expected one line of text"),
            ("whsec_", "expected base64 behind whsec_"),
            ("whsec_ä", "expected base64 behind whsec_"),
            (&format!("{longest}x"), "expected at most 1024 bytes"),
        ] {
            assert_eq!(why(content).as_deref(), Some(want), "{content:.20}");
        }
    }
}
