use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, Encoder};
use serde_json::json;

use crate::{is_text, rust, serve};

/// A PNG: red on the left, green on the right.
fn picture(width: u32, height: u32) -> Vec<u8> {
    let mut png = Vec::new();
    let mut encoder = Encoder::new(&mut png, width, height);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    let colour = |x: u32| if x < width / 2 { [255, 0, 0] } else { [0, 255, 0] };
    let pixels: Vec<u8> = (0..height).flat_map(|_| (0..width).flat_map(colour)).collect();
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels)).unwrap();
    png
}

#[test]
fn a_picture_is_made_smaller() {
    let gateway = serve(&rust("resize", json!({ "content_type": "image/png" })));
    for (query, want) in [("", (128, 64)), ("?width=4", (4, 2)), ("?width=2048", (600, 300))] {
        let reply = gateway.post(&format!("/function/resize{query}"), picture(600, 300));
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("image/png")), "{query}");
        let mut reader = Decoder::new(Cursor::new(&*reply.body)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut pixels).unwrap();
        assert_eq!(
            (frame.width, frame.height, frame.color_type),
            (want.0, want.1, ColorType::Rgb),
            "{query}"
        );
        for row in pixels.chunks(frame.width as usize * 3) {
            let (red, green) = row.split_at(row.len() / 2);
            assert!(red.chunks(3).all(|pixel| pixel == [255, 0, 0]), "{query}");
            assert!(green.chunks(3).all(|pixel| pixel == [0, 255, 0]), "{query}");
        }
    }
}

#[test]
fn a_body_that_is_no_picture_is_refused() {
    let gateway = serve(&rust("resize", json!({ "content_type": "image/png" })));
    let reply = gateway.post("/function/resize", "hello");
    assert_eq!((reply.status, reply.header("x-exit-code")), (500, Some("1")));
    assert!(reply.text().starts_with("expected a PNG: "), "{}", reply.text());
    let want = "expected `width` from 1 to 2048, got `0`\n";
    is_text(&gateway.post("/function/resize?width=0", picture(2, 2)), 500, want);
}

#[test]
fn a_picture_too_large_to_scale_is_refused_at_once() {
    let gateway = serve(&rust("resize", json!({ "content_type": "image/png" })));
    let mut picture = Vec::new();
    drop(Encoder::new(&mut picture, 1, 16 << 20).write_header().unwrap());
    // The function does not wait for the rest; the sender gets the answer.
    picture.resize(8 << 20, 0);
    let want = "expected at most 16384 pixels on each side, got 1 x 16777216\n";
    is_text(&gateway.post("/function/resize", picture), 500, want);
}
