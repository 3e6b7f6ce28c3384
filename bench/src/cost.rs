//! CPU time and memory of processes under load.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use testkit::{Process, proc};

/// The pause between two looks at the memory, each of which takes the kernel some 0.1 ms.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// A server and its workers.
#[must_use]
pub fn tree(server: &Process) -> Vec<u32> {
    let mut pids = server.descendants();
    pids.push(server.pid());
    pids
}

/// Reads the CPU time and the memory of processes. The time of a process that ends meanwhile is lost.
pub struct Meter {
    pids: Vec<u32>,
    before: Duration,
    stop: Sender<()>,
    looks: JoinHandle<u64>,
}

impl Meter {
    /// Begins to count.
    #[must_use]
    pub fn start(pids: &[u32]) -> Meter {
        let (stop, is_over) = mpsc::channel();
        let looks = thread::spawn({
            let pids = pids.to_owned();
            move || {
                let mut most = 0;
                loop {
                    most = proc::resident_bytes(&pids).max(most);
                    if is_over.recv_timeout(LOOK_PAUSE) != Err(RecvTimeoutError::Timeout) {
                        return proc::resident_bytes(&pids).max(most);
                    }
                }
            }
        });
        Meter { pids: pids.to_owned(), before: cpu(pids), stop, looks }
    }

    /// The CPU time since the start, and the most memory that was seen, in bytes.
    ///
    /// # Panics
    /// When the thread that looks has.
    #[must_use]
    pub fn stop(self) -> (Duration, u64) {
        let spent = cpu(&self.pids).saturating_sub(self.before);
        drop(self.stop);
        let most = self.looks.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (spent, most)
    }
}

fn cpu(pids: &[u32]) -> Duration {
    pids.iter().copied().filter_map(proc::cpu_time).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn work_costs_what_it_takes() {
        let meter = Meter::start(&[std::process::id()]);
        let begin = Instant::now();
        let mut room = vec![0_u8; 8 << 20];
        while begin.elapsed() < Duration::from_millis(50) {
            room.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
        }
        let (cpu, most) = meter.stop();
        assert!(cpu > Duration::from_millis(5) && most > 8 << 20, "{cpu:?} {most} {}", room[0]);
    }
}
