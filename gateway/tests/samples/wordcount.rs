use serde_json::json;

use crate::{is_text, rust, serve};

#[test]
fn wordcount_counts_words() {
    let gateway = serve(&rust("wordcount", json!({ "content_type": "text/plain" })));
    for (body, want) in [("one two three", "3\n"), ("", "0\n")] {
        let reply = gateway.post("/function/wordcount", body);
        is_text(&reply, 200, want);
        assert_eq!(reply.header("content-type"), Some("text/plain"));
    }
    is_text(&gateway.post("/function/wordcount", "word ".repeat(1_000_000)), 200, "1000000\n");
}
