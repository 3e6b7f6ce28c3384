//! The system calls of a server for each request. `strace -c` tells which there are. It makes a server some ten times
//! as slow, so that more requests are ready at a time and more threads meet at a lock; where `perf` is installed and
//! allowed, it counts those calls again, and context switches, at next to no cost.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use bench::cost::tree;
use bench::interrupt;
use bench::load::Crowd;
use bench::proxy::{Proxy, is_installed};
use testkit::{Bin, eventually, proc};

use crate::options::Options;
use crate::situations::{Others, Situation, Work};

/// How long strace may take to attach to hundreds of threads, and to leave them.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The prefix of perf's events for system calls.
const EVENT: &str = "syscalls:sys_enter_";

/// How long perf may take until it counts. Until then nothing is asked of the server.
const PERF_START: Duration = Duration::from_secs(1);

/// perf's event for context switches.
const SWITCHES: &str = "context-switches";

/// Rarer calls are not printed: they do not belong to a request.
const MIN_SHARE: f64 = 0.005;

/// A table of all situations and subjects, printed; whether all went well.
pub(crate) fn print(options: &Options, upstream: SocketAddr) -> bool {
    println!("System calls for each request\n");
    println!("| situation | subject | by | requests | all | each |\n|---|---|---|---|---|---|");
    let mut is_good = true;
    for situation in &options.situations {
        let Work::Answers(bytes) = situation.work else { continue };
        for (name, proxy) in situation.start(options, upstream) {
            let line = count(situation, &proxy, bytes, options.common.span);
            if interrupt::seen() {
                return false;
            }
            match line {
                Ok(line) => println!("| {} | {name} | {line} |", situation.name),
                Err(error) => {
                    is_good = false;
                    eprintln!("{}, {name}: {error}", situation.name);
                }
            }
        }
    }
    is_good
}

fn count(situation: &Situation, proxy: &Proxy, bytes: u64, span: Duration) -> Result<String, String> {
    let _others = Others::come(situation.beside, proxy)?;
    let mut crowd = Crowd::open(&situation.target(proxy, bytes), situation.clients)?;
    crowd.run(span / 10)?; // so that all threads are there
    let pids = tree(proxy.process());
    let (requests, calls) = by_strace(&mut crowd, &pids, span)?;
    let share = |count: u64| count as f64 / requests.max(1) as f64;
    let names = calls.iter().filter(|(_, count)| share(*count) >= MIN_SHARE).map(|(name, _)| name.as_str());
    let counted = by_perf(&mut crowd, &pids, &names.collect::<Vec<_>>(), span)?;
    Ok(match counted {
        Some((requests, calls)) => format!("perf | {}", line(requests, &calls)),
        None => format!("strace | {}", line(requests, &calls)),
    })
}

type Counted = (u64, Vec<(String, u64)>);

fn by_strace(crowd: &mut Crowd, pids: &[u32], span: Duration) -> Result<Counted, String> {
    let bin = Bin::at("strace").arg("-f").arg("-c");
    let file = bin.file("calls", "");
    let bin = pids.iter().fold(bin.arg("-o").arg(&file), |bin, pid| bin.arg("-p").arg(pid.to_string()));
    let strace = bin.spawn();
    eventually(TIMEOUT, || match pids.iter().find(|pid| !is_traced(**pid, strace.pid())) {
        Some(pid) => Err(format!("strace does not trace {pid}\n{}", strace.report())),
        None => Ok(()),
    });
    let pace = crowd.run(span);
    strace.signal(proc::SIGINT);
    strace.wait(TIMEOUT);
    Ok((pace?.done, read(&file)?))
}

/// The same calls again; `None` where perf is not installed, or cannot count one of them.
fn by_perf(
    crowd: &mut Crowd,
    pids: &[u32],
    names: &[&str],
    span: Duration,
) -> Result<Option<Counted>, String> {
    if !is_installed("perf") {
        return Ok(None);
    }
    let events: Vec<String> = names.iter().map(|name| format!("{EVENT}{name}")).collect();
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    let bin =
        Bin::at("perf").arg("stat").arg("-x,").arg("-e").arg(format!("{SWITCHES},{}", events.join(",")));
    let perf = bin.arg("-p").arg(pids.join(",")).spawn();
    thread::sleep(PERF_START); // it does not say when it has begun
    let pace = crowd.run(span);
    perf.signal(proc::SIGINT);
    perf.wait(TIMEOUT);
    let calls = parse_perf(&perf.log());
    Ok((calls.len() == names.len() + 1).then_some((pace?.done, calls)))
}

/// Whether all threads of a process are traced by `tracer`.
fn is_traced(pid: u32, tracer: u32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let wanted = format!("TracerPid:\t{tracer}\n");
    tasks.flatten().all(|task| {
        // A thread that has ended meanwhile is none.
        fs::read_to_string(task.path().join("status")).is_ok_and(|status| status.contains(&wanted))
    })
}

fn read(file: &Path) -> Result<Vec<(String, u64)>, String> {
    let report = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let calls = parse(&report);
    if calls.is_empty() { Err(format!("strace counted nothing: {report}")) } else { Ok(calls) }
}

/// The names and counts of strace's summary.
fn parse(report: &str) -> Vec<(String, u64)> {
    let row = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let _share: f64 = words.first()?.parse().ok()?;
        let name = words.last().filter(|name| **name != "total")?;
        Some(((*name).to_owned(), words.get(3)?.parse().ok()?))
    };
    report.lines().filter_map(row).collect()
}

/// The names and counts of `perf stat -x,`: the count comes first, the event third.
fn parse_perf(report: &str) -> Vec<(String, u64)> {
    let row = |line: &str| {
        let words: Vec<&str> = line.split(',').collect();
        let name = words.get(2)?;
        Some((name.strip_prefix(EVENT).unwrap_or(name).to_owned(), words.first()?.parse().ok()?))
    };
    report.lines().filter_map(row).collect()
}

fn line(requests: u64, calls: &[(String, u64)]) -> String {
    let share = |count: u64| count as f64 / requests.max(1) as f64;
    let all: u64 = calls.iter().filter(|(name, _)| name != SWITCHES).map(|(_, count)| count).sum();
    let mut calls = calls.to_vec();
    calls.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let each: Vec<String> = calls
        .iter()
        .filter(|(_, count)| share(*count) >= MIN_SHARE)
        .map(|(name, count)| format!("{name} {:.2}", share(*count)))
        .collect();
    format!("{requests} | {:.2} | {}", share(all), each.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_read() {
        let report = "% time     seconds  usecs/call     calls    errors syscall\n\
            ------ ----------- ----------- --------- --------- ----------------\n \
            60.00    0.012000           4      3000           recvfrom\n \
            40.00    0.008000           4      1000        20 futex\n  \
            0.00    0.000000           0         4           write\n\
            ------ ----------- ----------- --------- --------- ----------------\n\
            100.00    0.020000           4      4004        20 total\n";
        let calls = parse(report);
        assert_eq!(calls.len(), 3);
        assert_eq!(line(1000, &calls), "1000 | 4.00 | recvfrom 3.00, futex 1.00");
    }
    #[test]
    fn counts_of_perf_are_read() {
        let report = "2500,,context-switches,100,100.00,,\n3000,,syscalls:sys_enter_recvfrom,100,100.00,,\n\
            <not counted>,,syscalls:sys_enter_futex,0,0.00,,\n";
        let calls = parse_perf(report);
        assert_eq!(line(1000, &calls), "1000 | 3.00 | recvfrom 3.00, context-switches 2.50");
    }
}
