//! Starts the fwatchdog of one replica: which binary, which environment, which descriptors.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use kit::handover::{
    ENV_DRAIN_TIMEOUT, ENV_FPROCESS, ENV_FUNCTION, ENV_LISTEN_FDS, ENV_PARENT, ENV_SUPPRESS_LOCK,
    ONE_LISTENER,
};
use kit::sys::Listener;
use kit::sys::child::{Child, Environment, Spawn};

use super::Setup;
use super::replica::Plan;

/// The file name of the binary that serves a process.
const FWATCHDOG: &str = "fwatchdog";

/// What functions get of the gateway's own environment, and the variables of the language that begin with [`LOCALE`].
/// All else may be meant for the gateway alone, such as a password.
const INHERITED: [&str; 4] = ["LANG", "PATH", "TMPDIR", "TZ"];
const LOCALE: &str = "LC_";

/// The same, where a function is run by the gateway's own user.
const ENV_HOME: &str = "HOME";

/// What all replicas have in common.
pub(super) struct Launcher {
    fwatchdog: Option<CString>,
    /// What every function gets.
    environment: Environment,
    null: File,
}

impl Launcher {
    /// # Errors
    /// When `/dev/null` cannot be opened.
    pub(super) fn new(setup: &Setup) -> io::Result<Launcher> {
        let mut environment = Environment::default();
        let has_home = setup.function_user.is_none();
        for (name, value) in &setup.environment {
            let is_inherited = name.to_str().is_some_and(|name| {
                INHERITED.contains(&name) || name.starts_with(LOCALE) || has_home && name == ENV_HOME
            });
            if is_inherited {
                environment.set(name.as_bytes(), &[value.as_bytes()]);
            }
        }
        Ok(Launcher {
            fwatchdog: setup
                .fwatchdog
                .as_deref()
                .and_then(|path| CString::new(path.as_os_str().as_bytes()).ok()),
            environment,
            null: File::options().read(true).write(true).open("/dev/null")?,
        })
    }

    /// Starts a fwatchdog for `process` that serves `listener`. The thread that calls this must live as
    /// long as the children: they are ended when it ends (`PR_SET_PDEATHSIG`, prctl(2)).
    ///
    /// # Errors
    /// What starting a process says; `NotFound` where there is no fwatchdog.
    pub(super) fn start(&self, plan: &Plan<'_>, listener: &Listener) -> io::Result<Child> {
        let fwatchdog = self.fwatchdog.clone().ok_or(io::ErrorKind::NotFound)?;
        let directory = plan.process.directory.as_ref();
        let directory = directory.map(|path| CString::new(path.as_os_str().as_bytes())).transpose()?;
        let environment = self.environment_of(plan);
        let stderr = io::stderr();
        let (argv, null) = ([fwatchdog], self.null.as_fd());
        let spawn = Spawn {
            directory: directory.as_deref(),
            listener: Some(listener.as_fd()),
            user: plan.user,
            ..Spawn::new(&argv, &environment, [null, null, stderr.as_fd()])
        };
        spawn.start()
    }

    fn environment_of(&self, plan: &Plan<'_>) -> Environment {
        let process = plan.process;
        let mut environment = self.environment.clone();
        environment.set(ENV_SUPPRESS_LOCK.as_bytes(), &[b"true"]);
        let drain = kit::duration::format(plan.call_time);
        environment.set(ENV_DRAIN_TIMEOUT.as_bytes(), &[drain.as_bytes()]);
        for (name, value) in &process.environment {
            environment.set(name.as_bytes(), &[value.as_bytes()]);
        }
        environment.set(ENV_FPROCESS.as_bytes(), &[process.fprocess.as_bytes()]);
        environment.set(ENV_FUNCTION.as_bytes(), &[plan.name.as_str().as_bytes()]);
        environment.set(ENV_LISTEN_FDS.as_bytes(), &[ONE_LISTENER.as_bytes()]);
        environment.set(ENV_PARENT.as_bytes(), &[std::process::id().to_string().as_bytes()]);
        environment
    }
}

/// The fwatchdog beside the gateway's own executable, else the first in `PATH`.
pub(super) fn find_fwatchdog(executable: Option<&Path>, path: Option<&OsStr>) -> Option<PathBuf> {
    let beside = executable.and_then(Path::parent).map(Path::to_owned);
    let folders = beside.into_iter().chain(std::env::split_paths(path.unwrap_or_default()));
    let found = folders.map(|folder| folder.join(FWATCHDOG)).find(|path| is_executable(path))?;
    std::path::absolute(found).ok() // the child may start in another directory
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::function::FunctionName;
    use crate::provider::local::functions_file::Process;
    use std::ffi::OsString;
    use std::time::Duration;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn little_of_the_gateways_own_environment_is_passed_on() {
        let mut inherited = pairs(&[
            ("PATH", "/bin"),
            ("LISTEN_FDS", "2"),
            ("LISTEN_PID", "7"),
            ("A", "outer"),
            ("FAAS_PARENT_PID", "1"),
            ("HOME", "/root"),
            ("LC_ALL", "C"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
        ]);
        inherited.extend(config::TABLE.iter().map(|row| (row.name.into(), "x".into())));
        let call_time = Duration::from_secs(60);
        let mut setup = Setup {
            functions_file: None,
            fwatchdog: None,
            environment: inherited,
            function_user: None,
            call_time,
        };
        let home = |setup: &Setup| Launcher::new(setup).unwrap().environment.get(b"HOME").map(<[u8]>::to_vec);
        assert_eq!(home(&setup), Some(b"/root".to_vec()));
        setup.function_user = Some(70_000);
        assert_eq!(home(&setup), None, "it is another user's");
        let launcher = Launcher::new(&setup).unwrap();
        let process = Process {
            fprocess: "cat -u".to_owned(),
            directory: None,
            environment: vec![
                ("A".to_owned(), "inner".to_owned()),
                ("LISTEN_FDS".to_owned(), "9".to_owned()),
                ("fprocess".to_owned(), "rm".to_owned()),
                ("max_body".to_owned(), "5".to_owned()),
            ],
            replicas: 1,
        };
        let name = FunctionName::parse(b"one").unwrap();
        let plan = Plan { launcher: &launcher, name: &name, process: &process, user: None, call_time };
        let environment = launcher.environment_of(&plan);
        let value =
            |name: &str| environment.get(name.as_bytes()).map(|value| std::str::from_utf8(value).unwrap());
        for (name, want) in [
            ("PATH", Some("/bin")),
            ("A", Some("inner")),
            ("LC_ALL", Some("C")),
            ("AWS_SECRET_ACCESS_KEY", None),
            ("fprocess", Some("cat -u")),
            ("suppress_lock", Some("true")),
            ("drain_timeout", Some("1m")),
            ("LISTEN_FDS", Some("1")),
            ("LISTEN_PID", None),
            ("FAAS_PARENT_PID", Some(&std::process::id().to_string())),
            ("FAAS_FUNCTION", Some("one")),
            ("max_body", Some("5")), // fwatchdog has such a setting too, and the file may set it
            ("port", None),
            ("functions_file", None),
            ("DOCKER_HOST", None),
        ] {
            assert_eq!(value(name), want, "{name}");
        }
    }

    #[test]
    fn fwatchdog_is_found_beside_the_gateway_then_in_path() {
        let root = tempfile::tempdir().unwrap();
        let folder = |name: &str, mode: Option<u32>| {
            let folder = root.path().join(name);
            std::fs::create_dir_all(&folder).unwrap();
            if let Some(mode) = mode {
                std::fs::write(folder.join(FWATCHDOG), "").unwrap();
                let permissions = std::fs::Permissions::from_mode(mode);
                std::fs::set_permissions(folder.join(FWATCHDOG), permissions).unwrap();
            }
            folder
        };
        let (own, empty, plain, good) = (
            folder("own", Some(0o755)),
            folder("empty", None),
            folder("plain", Some(0o644)),
            folder("good", Some(0o755)),
        );
        let path = std::env::join_paths([&empty, &plain, &good]).unwrap();
        let find = |executable: Option<&Path>| find_fwatchdog(executable, Some(&path));
        assert_eq!(find(Some(&own.join("gateway"))), Some(own.join(FWATCHDOG)));
        assert_eq!(find(Some(&empty.join("gateway"))), Some(good.join(FWATCHDOG)));
        assert_eq!(find(None), Some(good.join(FWATCHDOG)));
        assert_eq!(find_fwatchdog(Some(&empty.join("gateway")), None), None);
    }
}
