//! The real binary over real pipes, and an image library that checks its output.

use std::fs::File;
use std::io::{Cursor, Write};
use std::iter;
use std::process::{Command, Output, Stdio};
use std::thread;

use png::{BitDepth, ColorType, Compression, Decoder, Encoder, Filter};

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
    // The program may not read all of its input.
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
fn images_get_the_requested_width() {
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
fn input_that_is_no_png_is_refused() {
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
fn too_much_input_is_refused() {
    // Bytes after the image.
    let mut input = png(300, 10);
    input.resize(MAX_INPUT_BYTES, 0);
    assert_eq!(run(None, &input).status.code(), Some(0));
    input.push(0);
    is_failure(&run(None, &input), "expected a PNG of at most 16777216 bytes, got more");
}

/// The limit is on mapped memory, so the program and its libraries count.
fn run_within(kilobytes: u32, query: &str, input: &[u8]) -> Output {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -v \"$1\"; exec \"$0\"",
        env!("CARGO_BIN_EXE_resize"),
        &kilobytes.to_string(),
    ]);
    command.env("Http_Query", query).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("resize starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().expect("it ends")
    })
}

/// The head of an image with four channels.
struct Head {
    width: u32,
    height: u32,
    depth: u8,
    is_interlaced: bool,
}

/// A PNG of compressed rows, each after a filter byte; the first filter is none.
fn raw(head: &Head, compression: Compression, data: &[u8]) -> Vec<u8> {
    let (filter, row) = data.split_first().expect("there are pixels");
    assert_eq!(*filter, 0);
    // The library writes one row of a gray image; then the head is changed.
    let mut png = Vec::new();
    let mut encoder = Encoder::new(&mut png, u32::try_from(row.len()).expect("it fits"), 1);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(compression);
    encoder.set_filter(Filter::NoFilter);
    encoder.write_header().and_then(|mut writer| writer.write_image_data(row)).expect("it can be written");
    png[16..20].copy_from_slice(&head.width.to_be_bytes());
    png[20..24].copy_from_slice(&head.height.to_be_bytes());
    png[24..29].copy_from_slice(&[head.depth, ColorType::Rgba as u8, 0, 0, u8::from(head.is_interlaced)]);
    let checksum = crc(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    png
}

fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// Rows of so many bytes each, with filters, that do not compress.
fn noise(rows: impl Iterator<Item = usize>) -> Vec<u8> {
    let mut data = Vec::new();
    let mut state = 1_u64;
    for size in rows {
        data.push(0);
        let end = data.len() + size;
        while data.len() < end {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            data.extend_from_slice(&state.to_le_bytes());
        }
        data.truncate(end);
    }
    data
}

/// The width of each row of an interlaced image.
fn passes(width: usize, height: usize) -> impl Iterator<Item = usize> {
    let passes: [[usize; 4]; 7] =
        [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];
    passes.into_iter().flat_map(move |[left, top, right, down]| {
        let count = |size: usize, start: usize, step: usize| (size - start).div_ceil(step);
        iter::repeat_n(count(width, left, right), count(height, top, down))
    })
}

#[test]
fn memory_does_not_grow_with_the_image() {
    // 128 MiB if they were held: the longest rows, and the largest square.
    for (width, height, want) in [(16384, 1024, (32, 2)), (4096, 4096, (32, 32))] {
        let head = Head { width, height, depth: 16, is_interlaced: false };
        let data = vec![0; (width as usize * 8 + 1) * height as usize];
        let output = run_within(12 * 1024, "width=32", &raw(&head, Compression::Fast, &data));
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let (width, height, pixels) = decode(&output.stdout);
        assert_eq!((width, height), want);
        assert!(pixels.iter().all(|byte| *byte == 0));
    }
}

// Most of 2048 rows of 8 KiB: as much as both limits allow of an image that is written whole and does not
// compress.
const NOISY: Head = Head { width: 2048, height: 2040, depth: 8, is_interlaced: false };

#[test]
fn a_large_result_is_held_once() {
    let data = noise(iter::repeat_n(2048 * 4, 2040));
    let output = run_within(28 * 1024, "width=2048", &raw(&NOISY, Compression::Fast, &data));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let (_, _, pixels) = decode(&output.stdout);
    assert!(pixels.chunks(2048 * 4).eq(data.chunks(2048 * 4 + 1).map(|row| &row[1..])));
}

#[test]
fn an_interlaced_image_fits_into_48_megabytes() {
    let data = noise(passes(2048, 2040).map(|width| width * 4));
    let head = Head { is_interlaced: true, ..NOISY };
    let output = run_within(48 * 1024, "width=2048", &raw(&head, Compression::Fast, &data));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let (_, _, pixels) = decode(&output.stdout);
    // The last pass is every other row unchanged.
    let last = data.rchunks(2048 * 4 + 1).take(1020).map(|row| &row[1..]);
    assert!(pixels.chunks(2048 * 4).rev().step_by(2).eq(last));
}

#[test]
fn interlaced_images_have_a_smaller_limit() {
    let head = |height: u32| Head { width: 2048, height, depth: 16, is_interlaced: true };
    let data: Vec<u8> = passes(2048, 2048).flat_map(|width| iter::repeat_n(0, width * 8 + 1)).collect();
    let output = run_within(48 * 1024, "width=1", &raw(&head(2048), Compression::Fast, &data));
    assert_eq!(decode(&output.stdout), (1, 1, vec![0; 4]));
    let want = "expected at most 4194304 pixels in an interlaced image, got 2048 x 2049";
    is_failure(&run(None, &raw(&head(2049), Compression::Fast, &data)), want);
}

#[test]
fn a_too_large_result_is_refused() {
    // Two alternating rows compress well; the new rows mix them differently and do not.
    let head = Head { width: 2200, height: 2500, depth: 8, is_interlaced: false };
    let data = noise(iter::repeat_n(2200 * 4, 2)).repeat(2500 / 2);
    let input = raw(&head, Compression::Balanced, &data);
    assert!(input.len() < 1 << 20, "{} bytes", input.len());
    let want = "failed to write a PNG: expected at most 16777216 bytes, got more: ask for a smaller `width`";
    is_failure(&run_within(28 * 1024, "width=2048", &input), want);
    assert_eq!(run_within(28 * 1024, "width=64", &input).status.code(), Some(0));
}

#[test]
fn too_large_metadata_is_refused() {
    let whole = png(300, 10);
    for (size, is_taken) in [(1 << 20, true), (5 << 20, false)] {
        // Before the pixels, where eXIf must be.
        let mut chunk = b"eXIf".to_vec();
        chunk.resize(4 + size, 7);
        let mut input = whole[..33].to_vec();
        input.extend_from_slice(&u32::try_from(size).expect("it is small").to_be_bytes());
        input.extend_from_slice(&chunk);
        input.extend_from_slice(&crc(&chunk).to_be_bytes());
        input.extend_from_slice(&whole[33..]);
        let output = run_within(18 * 1024, "", &input);
        if is_taken {
            assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        } else {
            is_failure(&output, "expected at most 4194304 bytes besides the pixels, got more");
        }
    }
}

#[test]
fn a_tall_image_is_refused_at_once() {
    // An image like this, of 32 KB, took seven seconds.
    let head = Head { width: 1, height: 16 << 20, depth: 8, is_interlaced: false };
    let want = "expected at most 16384 pixels on each side, got 1 x 16777216";
    is_failure(&run(None, &raw(&head, Compression::Fast, &[0; 5000])), want);
    // The most rows allowed.
    assert_eq!(run(None, &png(2, 16384)).status.code(), Some(0));
}

#[test]
fn an_unread_answer_is_a_failure() {
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    let mut command = resize(None);
    let child = command.stdin(Stdio::null()).stdout(full).stderr(Stdio::piped()).spawn();
    let output = child.and_then(|child| child.wait_with_output()).expect("resize starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("failed to write STDOUT: "));
}
