//! The least cost of a process for each request: spawn the process, feed it, read to the end and wait, without HTTP.
//! `spawn_floor THREADS MILLISECONDS PIPES PROGRAM [ARGUMENT...]`; with two pipes STDERR is inherited. Prints a
//! [`Pace`] and stays, so that its CPU time can be read.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use bench::caller::BODY;
use bench::pace::{Pace, Plan};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize| args.get(place).and_then(|text| text.parse::<usize>().ok());
    let (Some(clients), Some(millis), Some(pipes), Some(program)) =
        (number(0), number(1), number(2), args.get(3))
    else {
        panic!("usage: spawn_floor THREADS MILLISECONDS PIPES PROGRAM [ARGUMENT...]");
    };
    let plan = Plan { clients, span: Duration::from_millis(millis as u64), pause: Duration::ZERO };
    let pace = Pace::of(plan, || {
        // Made once: without changes to the environment or the directory, it is one posix_spawn(3) each time.
        let mut command = Command::new(program);
        command.args(&args[4..]).stdin(Stdio::piped()).stdout(Stdio::piped());
        if pipes > 2 {
            command.stderr(Stdio::piped());
        }
        move || once(&mut command).is_ok_and(|is_good| is_good)
    });
    println!("{pace}");
    loop {
        thread::park(); // until it is killed
    }
}

/// One process, from start to end.
fn once(command: &mut Command) -> io::Result<bool> {
    let mut child = command.spawn()?;
    let fed = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(BODY));
    let mut room = [0; 4096];
    let mut length = 0;
    if let Some(mut stdout) = child.stdout.take() {
        length = read_whole(&mut stdout, &mut room)?;
    }
    let is_good = &room[..length] == BODY;
    if let Some(mut stderr) = child.stderr.take() {
        read_whole(&mut stderr, &mut room)?;
    }
    fed?;
    Ok(child.wait()?.success() && is_good)
}

fn read_whole(from: &mut dyn Read, room: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    loop {
        match from.read(&mut room[length..])? {
            0 => return Ok(length),
            count => length += count,
        }
    }
}
