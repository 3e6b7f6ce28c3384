//! The system calls of a server for each request, as `strace -c` counts them. Traced, a server is some ten times as
//! slow, and finds more requests ready at a time than it would otherwise: counts of epoll_wait(2) and futex(2) are
//! lower than they are in truth.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bench::cost::tree;
use bench::interrupt;
use bench::load::Crowd;
use bench::proxy::Proxy;
use testkit::{Bin, eventually, proc};

use crate::options::Options;
use crate::situations::{Others, Situation, Work};

/// How long strace may take to attach to hundreds of threads, and to leave them.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What is rarer than this is not printed: it is not for a request.
const MIN_SHARE: f64 = 0.005;

/// A table of all situations and subjects, printed; whether all went well.
pub(crate) fn print(options: &Options, upstream: SocketAddr) -> bool {
    println!("System calls for each request\n");
    println!("| situation | subject | requests | all | each |\n|---|---|---|---|---|");
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
    let requests = pace?.done;
    Ok(line(requests, &read(&file)?))
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

fn line(requests: u64, calls: &[(String, u64)]) -> String {
    let share = |count: u64| count as f64 / requests.max(1) as f64;
    let all: u64 = calls.iter().map(|(_, count)| count).sum();
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
}
