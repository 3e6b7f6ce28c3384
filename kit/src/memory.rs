//! The memory that this process may have, as its control group says (cgroups(7)).

use std::fs;

/// The most that one of the kernel's files is said to have: they are short.
const MAX_BYTES: u64 = 16 * 1024;

/// The lowest limit of this process's control group and of those around it, in bytes; `None` where none is known.
#[must_use]
pub fn limit() -> Option<u64> {
    limit_below("")
}

/// The same for a system whose files are in the folder `root`.
fn limit_below(root: &str) -> Option<u64> {
    let groups = read(&[root, "/proc/self/cgroup"])?;
    groups.lines().filter_map(|line| of_group(root, line)).min()
}

/// The limit of a line `ID:CONTROLLERS:PATH`, which names no controllers in the second version. In a container the
/// path may be that outside of it: the limit is where the folders begin then.
fn of_group(root: &str, line: &str) -> Option<u64> {
    let (controllers, mut path) = line.split_once(':')?.1.split_once(':')?;
    let (mount, file) = match controllers {
        "" => ("/sys/fs/cgroup", "/memory.max"),
        _ if controllers.split(',').any(|name| name == "memory") => {
            ("/sys/fs/cgroup/memory", "/memory.limit_in_bytes")
        }
        _ => return None,
    };
    let mut lowest: Option<u64> = None;
    loop {
        let text = read(&[root, mount, path, file]);
        if let Some(limit) = text.and_then(|text| text.trim_ascii().parse().ok()) {
            lowest = Some(lowest.map_or(limit, |lowest| lowest.min(limit)));
        }
        let Some(end) = path.rfind('/') else { return lowest };
        path = &path[..end];
    }
}

/// Reads a file of the kernel's. Where something else is in its place nothing waits for it.
fn read(path: &[&str]) -> Option<String> {
    let path = path.concat();
    let found = fs::metadata(&path).ok()?;
    let is_one = found.is_file() && found.len() <= MAX_BYTES;
    is_one.then(|| fs::read_to_string(path).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// A file's path and text.
    type File = (&'static str, &'static str);

    #[test]
    fn the_lowest_limit_around_this_process_counts() {
        let own = "/sys/fs/cgroup/a/b/memory.max";
        let cases: [(&str, &[File], Option<u64>); 11] = [
            ("", &[], None),
            ("0::/a/b\n", &[(own, "1000\n")], Some(1000)),
            ("0::/a/b\n", &[(own, "max\n")], None),
            ("0::/a/b\n", &[(own, "max\n"), ("/sys/fs/cgroup/a/memory.max", "500\n")], Some(500)),
            ("0::/a/b\n", &[(own, "400\n"), ("/sys/fs/cgroup/a/memory.max", "500\n")], Some(400)),
            ("0::/\n", &[("/sys/fs/cgroup/memory.max", "7\n")], Some(7)),
            ("0::/elsewhere/../..\n", &[("/sys/fs/cgroup/memory.max", "7\n")], Some(7)),
            (
                "9:cpu,memory:/docker/x\n0::/\n",
                &[("/sys/fs/cgroup/memory/memory.limit_in_bytes", "8\n")],
                Some(8),
            ),
            ("3:cpu:/a/b\n", &[("/sys/fs/cgroup/memory/memory.limit_in_bytes", "8\n")], None),
            ("0::/a/b\n", &[(own, "-1\n")], None),
            ("no such line\n:\n::\n\0\n", &[("/sys/fs/cgroup/memory.max", "x")], None),
        ];
        let root = std::env::temp_dir().join(format!("kit-memory-{}", std::process::id()));
        for (groups, files, want) in cases {
            for (path, text) in files.iter().chain(&[("/proc/self/cgroup", groups)]) {
                let path = format!("{}{path}", root.display());
                fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            assert_eq!(limit_below(root.to_str().unwrap()), want, "{groups}");
            fs::remove_dir_all(&root).unwrap();
        }
    }

    #[test]
    fn a_system_without_these_files_has_no_limit() {
        assert_eq!(limit_below("/nonexistent"), None);
        assert_eq!(read(&["/dev", "/zero"]), None);
        let _ = limit(); // whatever this system has
    }
}
