use std::fs;

use serde_json::{Value, json};

use crate::{rust, serve};

const NAME: &str = "hostname-intent";

/// A request of Alexa, of `kind` and with this intent.
fn request(kind: &str, intent: &str) -> String {
    json!({
        "version": "1.0",
        "session": {
            "new": true,
            "sessionId": "amzn1.echo-api.session.1",
            "application": { "applicationId": "amzn1.ask.skill.1" },
            "user": { "userId": "amzn1.ask.account.1" },
        },
        "request": {
            "type": kind,
            "requestId": "amzn1.echo-api.request.1",
            "timestamp": "2017-01-20T12:00:00Z",
            "locale": "en-GB",
            "intent": { "name": intent, "slots": {} },
        },
    })
    .to_string()
}

#[test]
fn alexa_is_told_the_name_of_the_host() {
    let gateway = serve(&rust(NAME, json!({ "content_type": "application/json" })));
    let reply = gateway.post("/", request("IntentRequest", NAME));
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    let answer: Value = serde_json::from_slice(&reply.body).unwrap();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let speech = json!({ "type": "PlainText", "text": format!("This is {}.", host.trim_end()) });
    let want = json!({ "version": "1.0", "response": { "outputSpeech": speech, "shouldEndSession": true } });
    assert_eq!(answer, want);
}

#[test]
fn other_requests_are_answered_too() {
    let gateway = serve(&rust(NAME, json!({ "content_type": "application/json" })));
    let ended = gateway.post("/function/hostname-intent", request("SessionEndedRequest", ""));
    let answer: Value = serde_json::from_slice(&ended.body).unwrap();
    assert_eq!((ended.status, answer), (200, json!({ "version": "1.0", "response": {} })));
    let broken = gateway.post("/function/hostname-intent", "hello");
    let answer: Value = serde_json::from_slice(&broken.body).unwrap();
    assert_eq!((broken.status, broken.header("x-exit-code")), (500, Some("1")));
    assert!(answer["error"].as_str().unwrap().starts_with("expected the JSON of an Alexa request: "));
    // Another intent belongs to another function.
    assert_eq!(gateway.post("/", request("IntentRequest", "other")).status, 404);
}
