//! Starting a child: clone(2) with `CLONE_VM` and `CLONE_VFORK`, then execve(2), so that starting one costs the
//! same however large this process is.
//!
//! By hand, since musl's posix_spawn(3) holds a lock of the whole process until the exec: many threads that start
//! children would do it one after the other. Until its exec the child runs in this process's memory, on a stack
//! of its own, while the thread that started it waits: it makes system calls, writes to its [`Plan`], and takes
//! no memory and no lock. An emulator may make a fork of the clone (qemu-user): there a pipe says what happened.

use std::ffi::{CStr, CString};
use std::io::{self, PipeReader, PipeWriter, Read as _};
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use super::check;
use super::child::{Child, LISTENER_FD};
use super::environment::Environment;
use super::limits::{self, Limit};
use super::signal::{self, Blocked};
use super::user;
use crate::Guarded;

/// The stack of a child until its exec. Below it are a few frames of system calls; musl's posix_spawn(3) gives
/// 5 KiB. Small enough to be a part of the starting thread's own.
const STACK_BYTES: usize = 8 * 1024;

/// Where a program is looked for without `PATH`: what both C libraries end up with, without the current folder.
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/bin:/usr/bin";

/// What a child that did not get to its exec ends with, as the shell has it.
const EXIT_NOT_STARTED: libc::c_int = 127;

/// What a child is made of.
pub struct Spawn<'a> {
    /// The program, looked up in the `PATH` of `environment` where it has no slash, and its arguments.
    pub argv: &'a [CString],
    /// Its environment.
    pub environment: &'a Environment,
    /// Its stdin, stdout and stderr.
    pub stdio: [BorrowedFd<'a>; 3],
    /// Its working directory, else this process's.
    pub directory: Option<&'a CStr>,
    /// A socket that it is to find as [`LISTENER_FD`].
    pub listener: Option<BorrowedFd<'a>>,
    /// What it and all that it starts are known by, where the kernel allows it: see [`limits::mark_of`].
    pub mark: Option<u64>,
    /// The user and group that it becomes, without other groups and capabilities; else this process's.
    pub user: Option<u32>,
}

impl<'a> Spawn<'a> {
    /// A child with nothing but these.
    #[must_use]
    pub fn new(argv: &'a [CString], environment: &'a Environment, stdio: [BorrowedFd<'a>; 3]) -> Spawn<'a> {
        Spawn { argv, environment, stdio, directory: None, listener: None, mark: None, user: None }
    }

    /// Starts the child. It leads a session and a process group of its own; signals have their default
    /// dispositions and none is blocked; its limit of open
    /// files is the one that this process inherited. Every other descriptor of this process closes itself at the exec.
    ///
    /// # Errors
    /// What execve(2) says, such as `NotFound`; `EAGAIN` when there is no room for another process;
    /// `InvalidInput` without a program, or with a descriptor that the child would have overwritten.
    pub fn start(&self) -> io::Result<Child> {
        let Some(program) = self.argv.first() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a child needs a program"));
        };
        let descriptors = self.descriptors()?;
        // The arguments, then the environment, each up to a null pointer.
        let mut pointers = Vec::with_capacity(self.argv.len() + 1 + self.environment.count() + 1);
        pointers.extend(self.argv.iter().map(|argument| argument.as_ptr()));
        pointers.push(ptr::null());
        self.environment.write_pointers(&mut pointers);
        let programs = Programs::of(program, self.environment);
        let plan = Plan {
            descriptors: &descriptors[..3 + usize::from(self.listener.is_some())],
            directory: self.directory,
            programs: &programs,
            argv: pointers.as_ptr(),
            environment: pointers[self.argv.len() + 1..].as_ptr(),
            not_default: signal::not_default(),
            files: limits::inherited_files(),
            mark: self.mark.and_then(limits::marked),
            user: self.user,
            report: None,
            outcome: AtomicI32::new(NOT_SHARED),
        };
        plan.carry_out()
    }

    /// What becomes the child's descriptors from 0 on, in this order.
    fn descriptors(&self) -> io::Result<[i32; 4]> {
        let [stdin, stdout, stderr] = self.stdio.map(|fd| fd.as_raw_fd());
        let sources = [stdin, stdout, stderr, self.listener.map_or(LISTENER_FD, |fd| fd.as_raw_fd())];
        if (0..).zip(&sources).any(|(target, source)| *source < target) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a descriptor is overwritten before its turn",
            ));
        }
        Ok(sources)
    }
}

/// The files that execve(2) is tried with.
enum Programs<'a> {
    /// This one.
    Path(&'a CStr),
    /// These, each with its NUL, until one is there.
    Search(Vec<u8>),
}

impl<'a> Programs<'a> {
    /// As execvp(3) does: a name without a slash is looked for in the folders of `PATH`; an empty one there is
    /// the current folder.
    fn of(program: &'a CStr, environment: &Environment) -> Programs<'a> {
        let name = program.to_bytes();
        if name.is_empty() || name.contains(&b'/') {
            return Programs::Path(program);
        }
        let path = environment.get(b"PATH").unwrap_or(DEFAULT_PATH);
        let folders = path.split(|byte| *byte == b':');
        let mut files = Vec::with_capacity(path.len() + folders.clone().count() * (name.len() + 2));
        for folder in folders {
            files.extend_from_slice(folder);
            if !folder.is_empty() {
                files.push(b'/');
            }
            files.extend_from_slice(program.to_bytes_with_nul());
        }
        Programs::Search(files)
    }
}

/// All that the child needs, prepared where memory may still be taken.
struct Plan<'a> {
    descriptors: &'a [i32],
    directory: Option<&'a CStr>,
    programs: &'a Programs<'a>,
    /// Both end with a null pointer.
    argv: *const *const libc::c_char,
    environment: *const *const libc::c_char,
    not_default: &'a [i32],
    /// The limit of open files, where this process has another than the child is to have.
    files: Option<Limit>,
    mark: Option<Limit>,
    user: Option<u32>,
    /// Where the child writes why it did not get to its exec, while it is not known whether it shares memory.
    report: Option<PipeWriter>,
    /// Written by the child: [`BEGUN`], then why it did not get to its exec if so.
    outcome: AtomicI32,
}

/// The child does not share this memory, or has not begun.
const NOT_SHARED: i32 = -1;
const BEGUN: i32 = 0;

/// Whether a child was seen to share this process's memory: then all do.
static SHARES_MEMORY: AtomicBool = AtomicBool::new(false);

/// Held while it is not known: the pipe that it takes is one that nobody has counted.
static PROBING: Guarded<()> = Guarded::new(());

/// Its top is a multiple of 16, as every ABI wants it.
#[repr(align(16))]
struct Stack {
    _bytes: [u8; STACK_BYTES],
}

impl Plan<'_> {
    fn carry_out(mut self) -> io::Result<Child> {
        let mut reader = None;
        let probing = || PROBING.lock();
        let shares_memory = || SHARES_MEMORY.load(Ordering::Relaxed);
        let _one_at_a_time = (!shares_memory()).then(probing);
        if !shares_memory() {
            let (ours, theirs) = io::pipe()?;
            (reader, self.report) = (Some(ours), Some(theirs));
        }
        let pid = self.clone_process()?;
        drop(self.report.take());
        let error = match (self.outcome.load(Ordering::Relaxed), reader) {
            (NOT_SHARED, Some(mut reader)) => read_error(&mut reader),
            (NOT_SHARED, None) => BEGUN, // somebody killed it before it began, which its end will tell
            (error, _) => {
                SHARES_MEMORY.store(true, Ordering::Relaxed);
                error
            }
        };
        if error == BEGUN {
            return Ok(Child::new(pid));
        }
        Child::bury(pid);
        Err(io::Error::from_raw_os_error(error))
    }

    /// Returns once the child is through its exec, or through its end.
    fn clone_process(&self) -> io::Result<i32> {
        let mut stack = MaybeUninit::<Stack>::uninit();
        let top = stack.as_mut_ptr().wrapping_add(1).cast();
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let plan = ptr::from_ref(self).cast_mut().cast();
        // A signal that came to the child would be handled on that stack, in this process's memory.
        let _blocked = Blocked::all()?;
        // SAFETY: `top` is the end of a stack, aligned, for this one child; it and the plan live through the call,
        // which returns once the child has left them behind; the child keeps to what `run` says.
        check(unsafe { libc::clone(run, top, flags, plan) })
    }

    /// In the child. Returns only where something failed.
    fn become_program(&self) -> io::Error {
        match self.prepare() {
            Ok(()) => self.execute(),
            Err(error) => error,
        }
    }

    fn prepare(&self) -> io::Result<()> {
        // SAFETY: the call takes no pointers.
        check(unsafe { libc::setsid() })?;
        for (target, source) in (0..).zip(self.descriptors) {
            if *source == target {
                // SAFETY: the call takes no pointers; the descriptor stays open across the exec.
                check(unsafe { libc::fcntl(target, libc::F_SETFD, 0) })?;
            } else {
                // SAFETY: the call takes no pointers; the copy stays open across the exec.
                check(unsafe { libc::dup2(*source, target) })?;
            }
        }
        if let Some(files) = &self.files {
            limits::set_files(files)?;
        }
        if let Some(mark) = &self.mark {
            let _ = limits::set_mark(mark); // a sandbox may know other limits only
        }
        if let Some(user) = self.user {
            user::become_user(user)?;
        }
        if let Some(directory) = self.directory {
            // SAFETY: the path ends with NUL, and the call only reads it.
            check(unsafe { libc::chdir(directory.as_ptr()) })?;
        }
        // What is ignored would stay so (execve(2)), and a handler would run in this process's memory: until the exec a
        // signal ends the child, or waits.
        for signal in self.not_default {
            signal::set_default(*signal)?;
        }
        signal::unblock_all()
    }

    /// As execvp(3) does, the search goes on where a folder has no such file or cannot be searched. The error is that of
    /// the last folder, unless a file was there that may not be executed.
    fn execute(&self) -> io::Error {
        let files = match self.programs {
            Programs::Path(file) => return self.execute_file(file.to_bytes_with_nul()),
            Programs::Search(files) => files,
        };
        let (mut error, mut denied) = (io::Error::from_raw_os_error(libc::ENOENT), None);
        for file in files.split_inclusive(|byte| *byte == 0) {
            error = self.execute_file(file);
            match error.raw_os_error() {
                Some(libc::EACCES) => denied = Some(libc::EACCES),
                Some(libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG) => {}
                // A folder of another machine's that is away.
                Some(libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT) => {}
                _ => return error,
            }
        }
        denied.map_or(error, io::Error::from_raw_os_error)
    }

    /// `file` ends with NUL.
    fn execute_file(&self, file: &[u8]) -> io::Error {
        // SAFETY: the path ends with NUL, both arrays end with a null pointer and what they point to does with NUL;
        // all live until the exec, and the call only reads them.
        unsafe { libc::execve(file.as_ptr().cast(), self.argv, self.environment) };
        io::Error::last_os_error()
    }
}

/// What the child wrote; nothing when it got to its exec, which closes the pipe.
fn read_error(reader: &mut PipeReader) -> i32 {
    let mut number = [0; mem::size_of::<i32>()];
    reader.read_exact(&mut number).map_or(BEGUN, |()| i32::from_ne_bytes(number))
}

/// Where the child begins. It shares this process's memory and `errno`, and never returns from here: there is
/// nothing below it on its stack. Only the calls in here and in [`Plan`] are made, all of them async-signal-safe
/// (signal-safety(7)), and an `io::Error` of a number takes no memory.
extern "C" fn run(plan: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the pointer is the one that `carry_out` gave to clone, whose caller waits while the plan is used.
    let plan = unsafe { &*plan.cast::<Plan<'_>>() };
    plan.outcome.store(BEGUN, Ordering::Relaxed);
    let error = plan.become_program().raw_os_error().unwrap_or(libc::EINVAL);
    plan.outcome.store(error, Ordering::Relaxed);
    if let Some(report) = &plan.report {
        // SAFETY: the pointer and size are those of a number that lives through the call.
        unsafe { libc::write(report.as_raw_fd(), (&raw const error).cast(), mem::size_of_val(&error)) };
    }
    // SAFETY: the call takes no pointers and ends this child without running anything of the parent's.
    unsafe { libc::_exit(EXIT_NOT_STARTED) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Deadline;
    use crate::sys::child::{End, Handle};
    use crate::sys::pipe::{self, PipeEnd};
    use crate::sys::{PollFd, Ready, poll};
    use std::fs::{self, File, Permissions};
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::process::Command;
    use std::thread;
    use std::time::Duration;

    const SOON: Duration = Duration::from_secs(10);

    /// What runs in a process of its own, see `a_failing_clone_is_a_clear_error`.
    const ALONE: &str = "FAAS_TEST_ALONE";

    fn start(argv: &[&str], path: Option<&str>) -> io::Result<(Child, PipeEnd, PipeEnd)> {
        let argv: Vec<CString> = argv.iter().map(|text| CString::new(*text).unwrap()).collect();
        let mut environment = Environment::default();
        if let Some(path) = path {
            environment.set(b"PATH", &[path.as_bytes()]);
        }
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let (stdin, child_stdin) = pipe::to_child()?;
        let (stdout, child_stdout) = pipe::from_child()?;
        let stdio = [child_stdin.as_fd(), child_stdout.as_fd(), null.as_fd()];
        let spawn = Spawn::new(&argv, &environment, stdio);
        Ok((spawn.start()?, stdin, stdout))
    }

    fn read_whole(stdout: &PipeEnd) -> String {
        let mut text = Vec::new();
        loop {
            let mut fds = [PollFd::new(stdout.as_fd(), Ready::READ)];
            assert_eq!(poll(&mut fds, Deadline::after(SOON)).unwrap(), 1, "no end of file: {text:?}");
            text.reserve(4096);
            if stdout.read(&mut text).unwrap() == Some(0) {
                return String::from_utf8(text).unwrap();
            }
        }
    }

    /// A folder with the files that the tests below try to start.
    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("kit-spawn-{name}-{}", std::process::id()));
        fs::create_dir_all(folder.join("directory")).unwrap();
        for (name, mode, text) in [("denied", 0o644, "#!/bin/sh\n"), ("garbage", 0o755, "no program\n")] {
            let file = folder.join(name);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        }
        folder
    }

    fn error_of(program: &str, path: &str) -> i32 {
        start(&[program], Some(path)).map(drop).unwrap_err().raw_os_error().unwrap()
    }

    #[test]
    fn errors_are_those_of_execve() {
        let folder = folder("errors");
        let within = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let cases = [
            ("", libc::ENOENT),
            (&within("missing"), libc::ENOENT),
            (&within("denied"), libc::EACCES),
            (&within("directory"), libc::EACCES),
            (&within("garbage"), libc::ENOEXEC),
            (&within("garbage/x"), libc::ENOTDIR),
        ];
        for (program, want) in cases {
            assert_eq!(error_of(program, "/bin"), want, "{program}");
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_name_is_looked_up_in_the_childs_path() {
        let folder = folder("path");
        let own = folder.to_str().unwrap();
        let path = |rest: &str| format!("/nonexistent:{own}/denied:{own}{rest}");
        let cases = [
            ("missing", path(""), libc::ENOENT),
            ("denied", path(":/nonexistent"), libc::EACCES),
            ("garbage", path(":/bin"), libc::ENOEXEC),
            ("cat", own.to_owned(), libc::ENOENT),
            ("missing", format!("/{}:{own}", "x".repeat(300)), libc::ENOENT),
            ("missing", format!("{own}:/{}", "x".repeat(300)), libc::ENAMETOOLONG),
            ("garbage", format!("/{}:{own}", "x".repeat(300)), libc::ENOEXEC),
        ];
        for (program, path, want) in cases {
            assert_eq!(error_of(program, &path), want, "{program}");
        }
        for path in [Some(&*path(":/usr/bin:/bin")), None] {
            let (child, _, stdout) = start(&["cat", "/proc/self/comm"], path).unwrap();
            assert_eq!((read_whole(&stdout), child.reap().unwrap()), ("cat\n".to_owned(), End::Exited(0)));
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_directory_that_is_missing_is_an_error() {
        let null = File::open("/dev/null").unwrap();
        let (argv, environment) = ([c"/bin/cat".to_owned()], Environment::default());
        let stdio = [null.as_fd(); 3];
        let directory = Some(c"/nonexistent");
        let spawn = Spawn { directory, ..Spawn::new(&argv, &environment, stdio) };
        assert_eq!(spawn.start().map(drop).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_child_of_roots_can_be_somebody_else() {
        let null = File::open("/dev/null").unwrap();
        let (argv, environment) = (["/bin/cat", "/proc/self/status"], Environment::default());
        let argv = argv.map(|text| CString::new(text).unwrap());
        let (stdout, child_stdout) = pipe::from_child().unwrap();
        let stdio = [null.as_fd(), child_stdout.as_fd(), null.as_fd()];
        let spawn = Spawn { user: Some(70_000), ..Spawn::new(&argv, &environment, stdio) };
        let started = spawn.start();
        drop(child_stdout);
        if !crate::sys::user::is_root() {
            assert_eq!(started.map(drop).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            return;
        }
        let _child = started.unwrap();
        let status = read_whole(&stdout);
        let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap_or("").trim_end();
        assert_eq!(line("Uid:"), "Uid:\t70000\t70000\t70000\t70000");
        assert_eq!(line("Gid:"), "Gid:\t70000\t70000\t70000\t70000");
        assert_eq!(line("Groups:"), "Groups:");
        for set in ["CapEff", "CapPrm", "CapAmb"] {
            assert_eq!(line(&format!("{set}:")), format!("{set}:\t0000000000000000"));
        }
    }

    #[test]
    fn descriptors_that_would_overwrite_each_other_are_refused() {
        let (argv, environment) = ([c"/bin/cat".to_owned()], Environment::default());
        let (stdin, stderr) = (io::stdin(), io::stderr());
        let stdio = [stdin.as_fd(), stdin.as_fd(), stderr.as_fd()];
        let spawn = Spawn::new(&argv, &environment, stdio);
        assert_eq!(spawn.start().map(drop).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn the_parents_mask_comes_back_and_its_dispositions_stay() {
        let status = || {
            let text = fs::read_to_string("/proc/thread-self/status").unwrap();
            text.lines().filter(|line| line.starts_with("Sig")).collect::<Vec<_>>().join("\n")
        };
        let before = status();
        drop(start(&["cat"], None).unwrap());
        error_of("/nonexistent", "");
        assert_eq!(status(), before);
        let set = signal::not_default();
        assert!(
            set.contains(&libc::SIGPIPE) && set.contains(&libc::SIGSEGV),
            "as the standard library has it"
        );
    }

    /// A pipe's end that another child holds would keep it from its end of file.
    #[test]
    fn many_threads_start_children_that_hold_nothing_of_each_other() {
        const STARTS: usize = 50;
        let starts = |thread: usize| {
            let mut stay = Vec::new();
            for number in 0..STARTS {
                let text = format!("{thread}-{number}");
                let (child, stdin, stdout) = start(&["cat"], Some("/usr/bin:/bin")).unwrap();
                stdin.write(text.as_bytes()).unwrap();
                if number % 8 == thread {
                    stay.push((child, stdin, stdout)); // it lives on
                    continue;
                }
                drop(stdin);
                assert_eq!(read_whole(&stdout), text);
                assert_eq!(child.reap().unwrap(), End::Exited(0));
            }
            stay.len()
        };
        let lasting: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|number| scope.spawn(move || starts(number))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(lasting > 40, "{lasting}");
    }

    /// Runs a test of this file in a process of its own.
    fn run_alone(test: &str) {
        let test = format!("sys::spawn::tests::{test}");
        let mut command = Command::new("/proc/self/exe");
        let output = command.args(["--exact", "--ignored", &test]).env(ALONE, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    #[test]
    fn an_ignored_end_of_children_is_given_up() {
        run_alone("starts_where_ends_are_ignored");
    }

    #[test]
    #[ignore = "changes a disposition of its whole process, run by the test above"]
    fn starts_where_ends_are_ignored() {
        if !is_alone() {
            return;
        }
        // SAFETY: the disposition names no function.
        assert_ne!(unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) }, libc::SIG_ERR);
        let (child, _, stdout) = start(&["/bin/sh", "-c", "exit 7"], None).unwrap();
        assert_eq!(read_whole(&stdout), "");
        assert_eq!(child.reap().unwrap(), End::Exited(7));
    }

    /// The standard library handles SIGSEGV. The handler would find another thread's memory, and return.
    #[test]
    fn a_signal_before_the_exec_ends_the_child_and_runs_no_handler() {
        run_alone("signals_a_child_before_its_exec");
    }

    #[test]
    #[ignore = "signals every child of its process, run by the test above"]
    fn signals_a_child_before_its_exec() {
        if !is_alone() {
            return;
        }
        drop(start(&["/bin/cat"], None).unwrap()); // dispositions are looked up here
        // So many folders are looked through that a signal finds the child there.
        let path = "/nonexistent:".repeat(50_000) + "/usr/bin:/bin";
        thread::scope(|scope| {
            scope.spawn(|| {
                let until = Deadline::after(SOON);
                let pid = loop {
                    match own_children()[..] {
                        [pid] => break pid,
                        _ => assert!(!until.has_passed()),
                    }
                };
                // Once, since the handler returns and another signal would end the child.
                // SAFETY: the call takes no pointers.
                unsafe { libc::kill(pid, libc::SIGSEGV) };
            });
            let (child, stdin, _) = start(&["cat"], Some(&path)).unwrap();
            drop(stdin);
            assert_eq!(child.reap().unwrap(), End::Killed(libc::SIGSEGV));
        });
    }

    fn own_children() -> Vec<i32> {
        let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
        let lists = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
        lists.collect::<String>().split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    #[test]
    fn a_failing_clone_is_a_clear_error() {
        run_alone("starts_nothing_without_room");
    }

    #[test]
    #[ignore = "lowers the limit of its whole process, run by the test above"]
    fn starts_nothing_without_room() {
        if !is_alone() {
            return;
        }
        let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the pointer is to a valid limit that lives through the call.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit) }).unwrap();
        if crate::sys::user::is_root() {
            // Of this thread alone: root has no limit (getrlimit(2)).
            // SAFETY: takes numbers.
            assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) }, 0);
        }
        let error = start(&["/bin/cat"], None).map(drop).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
        assert!(error.to_string().starts_with("Resource temporarily unavailable"), "{error}");
    }

    /// Its id could be another's by the time of the signal.
    #[test]
    fn without_files_nobody_is_signalled() {
        run_alone("holds_nobody_without_files");
    }

    #[test]
    #[ignore = "lowers the limit of its whole process, run by the test above"]
    fn holds_nobody_without_files() {
        if !is_alone() {
            return;
        }
        let pid = std::process::id() as i32;
        assert!(Handle::open(pid).is_ok());
        limits::set_files(&Limit::default()).unwrap();
        let refused = Handle::open(pid).map(drop).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EMFILE));
    }

    fn is_alone() -> bool {
        let environment = fs::read("/proc/self/environ").unwrap();
        environment.split(|byte| *byte == 0).any(|entry| entry.starts_with(ALONE.as_bytes()))
    }
}
