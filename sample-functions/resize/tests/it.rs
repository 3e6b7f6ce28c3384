//! The real binary over real pipes, and an image library to look at what it makes.

use std::fs::File;
use std::io::{Cursor, Write};
use std::process::{Command, Output, Stdio};

use png::{BitDepth, ColorType, Decoder, Encoder};

const MAX_INPUT_BYTES: usize = 16 * 1024 * 1024;

fn resize(query: Option<&str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_resize"));
    command.env_clear();
    if let Some(query) = query {
        command.env("Http_Query", query);
    }
    command
}

fn run(query: Option<&str>, input: &[u8]) -> Output {
    let mut command = resize(query);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("resize starts");
    // It does not read what it has no use for.
    let _ = child.stdin.take().expect("stdin is piped").write_all(input);
    child.wait_with_output().expect("it ends")
}

/// A PNG, left half black and right half white.
fn png(width: u32, height: u32) -> Vec<u8> {
    let mut png = Vec::new();
    let mut encoder = Encoder::new(&mut png, width, height);
    encoder.set_color(ColorType::Grayscale);
    encoder.set_depth(BitDepth::Eight);
    let pixels: Vec<u8> =
        (0..height).flat_map(|_| (0..width).map(move |x| if x < width / 2 { 0 } else { 255 })).collect();
    encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(&pixels))
        .expect("it can be written");
    png
}

/// Width, height and pixels.
fn decode(png: &[u8]) -> (u32, u32, Vec<u8>) {
    let mut reader = Decoder::new(Cursor::new(png)).read_info().expect("it is a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("it is small")];
    let frame = reader.next_frame(&mut pixels).expect("it is whole");
    (frame.width, frame.height, pixels)
}

#[track_caller]
fn is_failure(output: &Output, want: &str) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.starts_with(want) && text.ends_with('\n') && text.lines().count() == 1, "{text}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), format!("resize: {text}"));
}

#[test]
fn images_become_as_wide_as_asked() {
    let cases = [
        (None, (1000, 500), (128, 64)),
        (Some("width=10"), (1000, 500), (10, 5)),
        (Some("width=10"), (8, 4), (8, 4)),
        (Some("x=y&width=2048"), (4096, 2), (2048, 1)),
        (Some("width=1"), (1, 300), (1, 300)),
    ];
    for (query, (width, height), want) in cases {
        let output = run(query, &png(width, height));
        assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]), "{query:?}");
        let (width, height, pixels) = decode(&output.stdout);
        assert_eq!((width, height), want, "{query:?}");
        let is_half =
            |(index, pixel): (usize, &u8)| *pixel == if (index as u32 % width) < width / 2 { 0 } else { 255 };
        assert!(pixels.iter().enumerate().all(is_half), "{query:?}");
    }
}

#[test]
fn other_input_is_refused() {
    let whole = png(300, 10);
    let cases: [(Option<&str>, &[u8], &str); 6] = [
        (None, b"", "expected a PNG: "),
        (None, b"GIF89a", "expected a PNG: "),
        (None, &whole[..whole.len() / 2], "expected a PNG: "),
        (Some("width=0"), &whole, "expected `width` from 1 to 2048, got `0`"),
        (Some("width=2049"), &whole, "expected `width` from 1 to 2048, got `2049`"),
        (Some("width=x%0a"), &whole, "expected `width` from 1 to 2048, got `x%0a`"),
    ];
    for (query, input, want) in cases {
        is_failure(&run(query, input), want);
    }
}

#[test]
fn the_input_has_a_largest_size() {
    // What follows the image is not looked at.
    let mut input = png(300, 10);
    input.resize(MAX_INPUT_BYTES, 0);
    assert_eq!(run(None, &input).status.code(), Some(0));
    input.push(0);
    is_failure(&run(None, &input), "expected a PNG of at most 16777216 bytes, got more");
}

#[test]
fn a_large_image_stays_in_bounded_memory() {
    // 16 megapixels in four channels: 64 MiB, and 16 MiB at most for the rest.
    let mut input = Vec::new();
    let mut encoder = Encoder::new(&mut input, 4096, 4096);
    encoder.set_color(ColorType::Rgba);
    encoder.set_depth(BitDepth::Eight);
    let pixels = vec![9; 4096 * 4096 * 4];
    encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(&pixels))
        .expect("it can be written");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 131072; exec \"$0\""]).arg(env!("CARGO_BIN_EXE_resize"));
    command.env("Http_Query", "width=2").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("resize starts");
    let _ = child.stdin.take().expect("stdin is piped").write_all(&input);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(decode(&output.stdout), (2, 2, vec![9; 16]));
}

#[test]
fn an_answer_that_nobody_takes_is_a_failure() {
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    let mut command = resize(None);
    let child = command.stdin(Stdio::null()).stdout(full).stderr(Stdio::piped()).spawn();
    let output = child.and_then(|child| child.wait_with_output()).expect("resize starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("failed to write STDOUT: "));
}
