//! What this process uses, from `/proc/self` (proc(5)), and the standard `process_*` series that
//! Prometheus dashboards expect.

use std::fs;
use std::io;
use std::str::SplitAsciiWhitespace;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::exposition::{self, Value};
use crate::sys::limits;

/// Clock ticks per second in `/proc` (`USER_HZ`): 100 on every architecture that this is built for.
const TICKS_PER_SECOND: u64 = 100;

/// One reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// User and system CPU time.
    pub cpu: Duration,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// Address space, in bytes.
    pub virtual_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// How many descriptors may be open.
    pub max_fds: u64,
    /// Threads.
    pub threads: u64,
    /// The start of the process, since 1970.
    pub start: Duration,
}

/// Reads the figures of this process.
///
/// # Errors
/// Where there is no `/proc`, or it has another form than proc(5) says.
pub fn figures() -> io::Result<Figures> {
    let stat = fs::read("/proc/self/stat")?;
    let status = fs::read("/proc/self/status")?;
    let status = String::from_utf8_lossy(&status); // the name may hold any bytes
    // The folder itself is open while it is listed.
    let open_fds = (fs::read_dir("/proc/self/fd")?.count() as u64).saturating_sub(1);
    let form = || io::Error::new(io::ErrorKind::InvalidData, "/proc/self has an unknown form");
    let ticks = ticks(&stat).ok_or_else(form)?;
    let kib = |name| field(&status, name).map(|kib| kib * 1024).ok_or_else(form);
    Ok(Figures {
        cpu: span(ticks.cpu),
        resident_bytes: kib("VmRSS:")?,
        virtual_bytes: kib("VmSize:")?,
        open_fds,
        max_fds: limits::open_files()?,
        threads: field(&status, "Threads:").ok_or_else(form)?,
        start: start(span(ticks.start)),
    })
}

/// Whether `/proc` shows this process under its own id. It may not be mounted, or be that of another PID namespace: the
/// ids there are then other processes' here (pid_namespaces(7)).
#[must_use]
pub fn has_own_proc() -> bool {
    let own = format!("{} (", std::process::id());
    fs::read("/proc/self/stat").is_ok_and(|stat| stat.starts_with(own.as_bytes()))
}

/// Appends the count of lost log lines in the Prometheus text format, and the `process_*` series where the figures can
/// be read.
pub fn write_metrics(text: &mut String) {
    crate::log::write_metrics(text);
    let Ok(figures) = figures() else { return };
    let mut row = |name, kind, help, value| exposition::single(text, [name, kind, help], value);
    let (cpu, start) = (Value::Seconds(figures.cpu), Value::Seconds(figures.start));
    row("process_cpu_seconds_total", "counter", "User and system CPU time in seconds.", cpu);
    let gauges = [
        ("process_resident_memory_bytes", "Resident memory in bytes.", Value::Count(figures.resident_bytes)),
        ("process_virtual_memory_bytes", "Address space in bytes.", Value::Count(figures.virtual_bytes)),
        ("process_open_fds", "Open file descriptors.", Value::Count(figures.open_fds)),
        ("process_max_fds", "Limit of open file descriptors.", Value::Count(figures.max_fds)),
        ("process_threads", "Threads of the process.", Value::Count(figures.threads)),
        ("process_start_time_seconds", "Start of the process in seconds since 1970.", start),
    ];
    for (name, help, value) in gauges {
        row(name, "gauge", help, value);
    }
}

fn span(ticks: u64) -> Duration {
    Duration::from_millis(ticks.saturating_mul(1000 / TICKS_PER_SECOND))
}

struct Ticks {
    /// User and system time.
    cpu: u64,
    /// From the boot to the start of the process.
    start: u64,
}

/// The fields of `/proc/PID/stat` behind the name, the state first. The name may hold any bytes, so that the fields count
/// from the last `)`.
#[must_use]
pub fn stat_fields(stat: &[u8]) -> Option<SplitAsciiWhitespace<'_>> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    Some(str::from_utf8(&stat[name_end + 1..]).ok()?.split_ascii_whitespace())
}

fn ticks(stat: &[u8]) -> Option<Ticks> {
    let fields = stat_fields(stat)?;
    let number = |place| fields.clone().nth(place)?.parse::<u64>().ok();
    Some(Ticks { cpu: number(11)? + number(12)?, start: number(19)? })
}

/// The number in the line `Name:   123 …` of `/proc/self/status`.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Computed once, so that a clock that is set later does not move the start. `since_boot` is the start's
/// distance from the boot.
fn start(since_boot: Duration) -> Duration {
    static START_MS: AtomicU64 = AtomicU64::new(0); // 0 is not computed yet
    let known = START_MS.load(Ordering::Relaxed);
    if known > 0 {
        return Duration::from_millis(known);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let age = uptime_of(&uptime).unwrap_or(since_boot).saturating_sub(since_boot);
    let ms = now.saturating_sub(age).as_millis() as u64 / 10 * 10; // to the resolution of `/proc`
    let first = START_MS.compare_exchange(0, ms, Ordering::Relaxed, Ordering::Relaxed);
    Duration::from_millis(first.map_or_else(|other| other, |_| ms))
}

/// The first number of `/proc/uptime`, `1234.56 …`.
fn uptime_of(text: &str) -> Option<Duration> {
    let (whole, hundredths) = text.split(' ').next()?.trim().split_once('.')?;
    let hundredths: u64 = hundredths.parse().ok()?;
    Some(Duration::from_secs(whole.parse().ok()?) + Duration::from_millis(hundredths * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_this_process_are_plausible() {
        let figures = figures().unwrap();
        assert!(figures.resident_bytes > 100_000 && figures.virtual_bytes > figures.resident_bytes);
        assert!(figures.open_fds >= 3 && figures.max_fds >= figures.open_fds);
        assert!(figures.threads >= 1 && figures.cpu < Duration::from_secs(3600));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(1);
        let age = now - figures.start;
        assert!(age < Duration::from_secs(3600), "{age:?}");
    }

    #[test]
    fn this_process_has_its_own_proc() {
        assert!(has_own_proc());
    }

    #[test]
    fn a_name_cannot_shift_the_fields() {
        let stat = b"7 (a) \xff b) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 15 16 17 18 12345 20";
        let ticks = ticks(stat).unwrap();
        assert_eq!((ticks.cpu, ticks.start), (200, 12345));
        assert!(super::ticks(b"7 (a) S 1").is_none());
    }

    #[test]
    fn the_time_since_the_boot_is_read_without_floats() {
        assert_eq!(uptime_of("1234.56 99.00\n"), Some(Duration::from_millis(1_234_560)));
        assert_eq!(uptime_of("x"), None);
    }

    #[test]
    fn every_series_has_help_and_type() {
        let mut text = String::new();
        write_metrics(&mut text);
        for name in
            ["cpu_seconds_total", "resident_memory_bytes", "open_fds", "max_fds", "start_time_seconds"]
        {
            assert!(text.contains(&format!("# TYPE process_{name} ")), "{text}");
            assert!(text.contains(&format!("\nprocess_{name} ")), "{text}");
        }
        assert_eq!(text.lines().count(), 24);
    }
}
