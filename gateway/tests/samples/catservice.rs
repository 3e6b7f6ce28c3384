use serde_json::json;

use crate::{is_text, rust, serve};

#[test]
fn catservice_answers_with_the_request_body() {
    let gateway = serve(&rust("catservice", json!({})));
    is_text(&gateway.post("/function/catservice", "hello"), 200, "hello");
    let by_header = gateway.request().method("POST").path("/").header("X-Function", "catservice");
    is_text(&by_header.body("by header").send().unwrap(), 200, "by header");
    is_text(&gateway.get("/function/catservice"), 200, "");
    let large: Vec<u8> = (0..5_000_000_u32).map(|index| (index % 251) as u8).collect();
    let reply = gateway.post("/function/catservice", &large);
    assert!(reply.status == 200 && reply.body == large, "{} bytes", reply.body.len());
}
