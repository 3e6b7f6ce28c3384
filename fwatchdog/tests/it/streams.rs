//! Bodies of any size, in both directions at once, with processes that read and write as they like.

use std::io::{Read as _, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use testkit::rng::{Matches, Noise, Rng};
use testkit::{Bin, Reply, Running, eventually, program};

use crate::{SOON, counts, dog, shell};

const MIB: usize = 1024 * 1024;

#[test]
fn a_hundred_megabytes_are_echoed_in_constant_memory() {
    const BYTES: u64 = 100 * 1000 * 1000;
    let dog = Bin::fwatchdog().env("fprocess", "cat").start();
    for chunked in [false, true] {
        let noise = Noise::new(7, BYTES);
        let request = dog.request().method("POST").timeout(Duration::from_secs(120));
        let request = if chunked { request.chunked_reader(noise) } else { request.reader(BYTES, noise) };
        let mut matches = Matches::new(7, BYTES);
        let reply = request.send_into(&mut matches).unwrap();
        assert!(reply.status == 200 && matches.is_whole(), "chunked: {chunked}, {} bytes", reply.body_bytes);
    }
    let peak = dog.peak_rss_bytes();
    assert!(peak < 8 * MIB as u64, "{peak} bytes resident");
}

#[test]
fn a_process_that_never_reads_is_no_error() {
    let dog = dog("ignores_stdin").start();
    for bytes in [0, 1, 100 * 1024, 8 * MIB] {
        let reply = dog.post("/", vec![b'x'; bytes]);
        assert_eq!((reply.status, reply.text().as_str()), (200, "ignored\n"), "{bytes}");
    }
}

#[test]
fn a_process_that_closes_stdin_is_no_error() {
    let dog = dog("closes_stdin").start();
    for bytes in [0, 1, 100 * 1024, 8 * MIB] {
        let reply = dog.post("/", vec![b'x'; bytes]);
        assert_eq!((reply.status, reply.text().as_str()), (200, "closed\n"), "{bytes}");
    }
    // Also while the process runs on and the client sends on.
    let dog = shell("exec 0<&-; sleep 0.2; echo late").start();
    assert_eq!(dog.post("/", vec![b'x'; 4 * MIB]).text(), "late\n");
}

#[test]
fn a_client_that_waits_with_an_endless_body_gets_its_answer() {
    // An absurd length, and one byte of it.
    let dog = dog("ignores_stdin").start();
    let mut connection = dog.connect();
    connection.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000000\r\n\r\nx").unwrap();
    let reply = connection.within(SOON).reply("POST").unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "ignored\n"));
    assert!(!reply.head.keeps_alive(), "the rest of the body cannot be told from a request");
}

#[test]
fn full_pipes_do_not_deadlock() {
    // The process writes more than pipes and buffers hold before it reads, while the body fills its STDIN.
    let dog = dog("writes_then_reads 3000000").start();
    let reply = dog.post("/", vec![b'x'; 2 * MIB]);
    assert_eq!(reply.status, 200);
    assert!(reply.body.ends_with(format!("\nread {}\n", 2 * MIB).as_bytes()));
    assert_eq!(reply.body_bytes, 3_000_000 + format!("\nread {}\n", 2 * MIB).len() as u64);
}

#[test]
fn a_flood_on_stderr_does_not_block() {
    let dog = dog("floods_stderr 2000000").start();
    assert_eq!(dog.get("/").text(), "done\n");
    let logged = dog.log().lines().filter(|line| line.ends_with(&"e".repeat(99))).count();
    assert_eq!(logged, 20_000);
}

#[test]
fn a_background_child_does_not_hold_the_answer() {
    let dog = dog("holds_stdout").start();
    let started = Instant::now();
    assert_eq!(dog.get("/").text(), "done\n");
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(100) && took < SOON, "{took:?}");
    assert_eq!(dog.descendants().len(), 1, "it was not asked to be ended");
}

#[test]
fn output_of_a_background_child_in_time_belongs_to_the_answer() {
    let script = "(i=0; while [ $i -lt 30000 ]; do echo $i; i=$((i+1)); done; sleep 60) & exit 0";
    let want: String = (0..30_000).map(|number| format!("{number}\n")).collect();
    let dog = shell(script).start();
    // On a busy machine the writer may pause for longer than the quiet that ends an answer.
    eventually(3 * SOON, || {
        let text = dog.get("/").text();
        assert!(want.starts_with(&text));
        if text == want { Ok(()) } else { Err(format!("{} of {} bytes", text.len(), want.len())) }
    });
}

/// The process ends in time, and its child goes on writing, with shorter pauses than the quiet that ends an answer.
const WRITES_ON: &str = "(while :; do echo x; sleep 0.02; done) & exit 0";

#[test]
fn a_background_child_that_goes_on_writing_is_ended_at_the_time_limit() {
    for (setting, field) in [("300ms", "1m"), ("0", "300ms")] {
        let dog = shell(WRITES_ON).env("exec_timeout", setting).start();
        // On a busy machine the writer may pause for longer than that quiet.
        eventually(3 * SOON, || {
            let reply = dog.request().path("/").header("X-Timeout", field).send().unwrap();
            if reply.status == 504 { Ok(()) } else { Err(format!("{}: {}", reply.status, reply.text())) }
        });
    }
}

#[test]
fn a_background_child_that_goes_on_writing_is_not_followed_for_ever() {
    let dog = shell(WRITES_ON).start();
    eventually(3 * SOON, || {
        let reply = dog.get("/");
        // On a busy machine the child may write nothing before the answer ends.
        let text = reply.text();
        assert!(reply.status == 200 && (text.is_empty() || text.starts_with('x')), "{text}");
        if dog.log().contains("goes on writing") { Ok(()) } else { Err("the answer was quiet".to_owned()) }
    });
}

/// Output in the pipe at the end of a process is its own, however long the client takes to read what came before.
#[test]
fn the_last_output_of_a_process_is_not_cut_for_a_slow_client() {
    // Fills all buffers up to the client, and prints how much they hold.
    let fill = "dd if=/dev/zero bs=4096 oflag=nonblock 2>&1 1>&3 | tee /dev/stderr | grep -q ^0.bytes";
    let script = format!("export LC_ALL=C; exec 3>&1; until {fill}; do sleep 0.05; done; echo has ended >&2");
    let dog = shell(&script).start();
    let mut connection = dog.connect();
    connection.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    dog.wait_log("has ended", SOON);
    // Longer than output of a background child is read, which must not end this answer.
    thread::sleep(Duration::from_secs(6));
    let reply = connection.reply("GET").unwrap();
    let log = dog.log();
    let copied =
        log.lines().filter_map(|line| line.split_once(" bytes")?.0.rsplit(' ').next()?.parse::<usize>().ok());
    assert_eq!(reply.body.len(), copied.sum::<usize>(), "{log}");
}

#[test]
fn a_held_stderr_does_not_hold_the_answer() {
    let dog = shell("sleep 60 >/dev/null & echo done; echo bye >&2").start();
    let started = Instant::now();
    assert_eq!(dog.get("/").text(), "done\n");
    assert!(started.elapsed() < SOON);
    dog.wait_log("bye", SOON);
}

#[test]
fn a_process_may_close_stdout_and_go_on() {
    let dog = shell("echo early; exec 1>&-; sleep 0.3; exit 4").start();
    let reply = dog.get("/");
    assert_eq!(
        (reply.status, reply.header("x-exit-code"), reply.text().as_str()),
        (500, Some("4"), "early\n")
    );
}

#[test]
fn a_slow_reader_slows_the_process_and_not_the_memory() {
    let dog = dog("writes 50000000").start();
    let mut connection = dog.connect();
    connection.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    connection.head().unwrap();
    // Buffers may still be filling at first.
    eventually(SOON, || {
        let before = dog.cpu_time();
        // Long enough for a busy loop to show, or for all output to be read.
        thread::sleep(Duration::from_millis(300));
        match dog.cpu_time() - before {
            busy if busy < Duration::from_millis(150) => Ok(()),
            busy => Err(format!("{busy:?} of CPU time while the client does not read")),
        }
    });
    assert!(dog.peak_rss_bytes() < 8 * MIB as u64);
    let raw = connection.rest();
    assert!(raw.bytes.len() >= 50_000_000 && raw.bytes.ends_with(b"0\r\n\r\n"));
}

#[test]
fn bodies_in_odd_pieces_arrive_whole() {
    let dog = Bin::fwatchdog().env("fprocess", "cat").start();
    let mut rng = Rng::from_env();
    for _ in 0..20 {
        let pieces: Vec<Vec<u8>> = (0..rng.below(30))
            .map(|_| {
                let size = rng.below(5000);
                rng.bytes(size)
            })
            .collect();
        let want = pieces.concat();
        let reply = dog.request().method("POST").chunks(pieces).send().unwrap();
        assert!(reply.body == want, "{} bytes came back of {}", reply.body.len(), want.len());
    }
}

#[test]
fn many_clients_at_once_get_their_own_answers() {
    let dog = Bin::fwatchdog().env("fprocess", "cat").start();
    thread::scope(|scope| {
        for number in 0..16 {
            let dog = &dog;
            scope.spawn(move || {
                for round in 0..10 {
                    let body = format!("{number}-{round}-").repeat(1 + 1000 * (number % 3));
                    assert_eq!(dog.post("/", &body).text(), body);
                }
            });
        }
    });
    counts(&dog, "200", 160.0);
}

#[test]
fn max_body_bounds_both_framings() {
    let dog = Bin::fwatchdog().env("fprocess", program("ignores_stdin")).env("max_body", "64KiB").start();
    assert_eq!(dog.post("/", vec![b'x'; 65_536]).status, 200);
    assert_eq!(dog.post("/", vec![b'x'; 65_537]).status, 413);
    testkit::hostile::check(dog.addr(), &testkit::hostile::body_limits("/", 65_536));
}

/// Sends a whole request before it reads the answer, as many clients do.
fn send_then_read(dog: &Running, bytes: u64) -> Result<(Reply, bool), String> {
    let mut connection = dog.connect();
    connection.within(3 * SOON);
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {bytes}\r\n\r\n");
    connection.send(head).map_err(|error| error.to_string())?;
    let (mut noise, mut piece) = (Noise::new(9, bytes), vec![0; MIB]);
    loop {
        match noise.read(&mut piece).unwrap() {
            0 => break,
            count => connection.send(&piece[..count]).map_err(|error| error.to_string())?,
        }
    }
    let reply = connection.reply("POST").map_err(|error| error.to_string())?;
    let mut matches = Matches::new(9, bytes);
    matches.write_all(&reply.body).unwrap();
    Ok((reply, matches.is_whole()))
}

#[test]
fn a_client_may_send_everything_before_it_reads() {
    for mode in ["fork", "streaming"] {
        let dog = Bin::fwatchdog().env("fprocess", "cat").env("mode", mode).start();
        let (reply, is_whole) = send_then_read(&dog, 64 * MIB as u64).unwrap();
        assert!(reply.status == 200 && is_whole, "{mode}: {} bytes", reply.body_bytes);
        let peak = dog.peak_rss_bytes();
        assert!(peak < 8 * MIB as u64, "{peak} bytes resident");
        let files = std::fs::read_dir(dog.dir()).unwrap().map(|file| file.unwrap().file_name());
        let left: Vec<_> = files.filter(|name| name.to_string_lossy().contains("fwatchdog-")).collect();
        assert!(left.is_empty(), "{left:?}");
        counts(&dog, "200", 1.0);
    }
}

/// Two sides that wait for each other are told from a slow client long before `write_timeout`.
#[test]
fn a_client_that_sends_before_it_reads_is_cut_off_where_no_more_can_be_held() {
    let cat = || Bin::fwatchdog().env("fprocess", "cat").env("write_timeout", "1h");
    for (dog, why) in [
        (cat().env("TMPDIR", "/no/such/folder"), "/no/such/folder (TMPDIR): No such file"),
        (cat().limit('f', 4096), "File too large"), // 2 MiB, or 4, as the shell has it
    ] {
        let dog = dog.start();
        assert!(send_then_read(&dog, 64 * MIB as u64).is_err());
        dog.wait_log("the client sends and does not read", SOON);
        assert!(dog.log().contains(why), "{why} in {}", dog.log());
        counts(&dog, "499", 1.0);
        eventually(SOON, || match dog.descendants()[..] {
            [] => Ok(()),
            ref left => Err(format!("{left:?}")),
        });
        assert_eq!(dog.post("/", "hello").text(), "hello");
    }
}
