//! Finds the id of the container that a process runs in, from what the kernel shows it.

/// The length of a container's id in hex digits.
const ID_LENGTH: usize = 64;

/// Where the engine mounts three of its own files into every container.
const MOUNTED: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/// The id of this process's container, if it is in one.
#[must_use]
pub fn own_container_id() -> Option<String> {
    // Paths need not be UTF-8.
    let read = |path: &str| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    container_id(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
}

/// The id in the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`. The mounts of the engine's own
/// files (`…/containers/ID/hostname`, proc(5)) tell with every storage driver and with both cgroup versions;
/// cgroup paths (`/docker/ID`, cgroups(7)) are the second choice. Of several ids in a path the last counts:
/// an engine in a container has its own below the outer one's.
#[must_use]
pub fn container_id(mountinfo: &str, cgroup: &str) -> Option<String> {
    let of_mount = mountinfo.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (root, place) = (fields.next()?, fields.next()?);
        let is_ours = MOUNTED.contains(&place);
        is_ours.then(|| root.rsplit('/').find_map(id_at)).flatten()
    });
    of_mount.or_else(|| cgroup.lines().find_map(|line| line.rsplit(['/', '-', ':']).find_map(id_at)))
}

fn id_at(text: &str) -> Option<String> {
    let id = text.get(..ID_LENGTH)?;
    let ends = text[ID_LENGTH..].chars().next().is_none_or(|next| !next.is_ascii_hexdigit());
    (ends && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn the_id_is_found_where_engines_put_it() {
        let mount = format!(
            "629 610 254:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw,relatime - ext4 /dev/vda1 rw"
        );
        let moved =
            format!("629 610 254:1 /data/docker/containers/{ID}/resolv.conf /etc/resolv.conf rw - ext4 x rw");
        let nested =
            format!("1 2 3:4 /srv/containers/docker/containers/{ID}/hosts /etc/hosts rw - ext4 x rw");
        let other = "f".repeat(ID_LENGTH);
        let own_file_system = format!("1 2 8:1 /{ID}/hostname /etc/hostname rw - ext4 /dev/sdb rw");
        let layers = format!("1 2 0:47 / / rw - overlay overlay rw,upperdir=/overlay2/{other}/diff\n{mount}");
        let foreign = format!("1 2 3:4 /var/lib/docker/containers/{other}/hosts /mnt/hosts ro - ext4 x rw");
        let cases = [
            (own_file_system.as_str(), "0::/", Some(ID)),
            (layers.as_str(), "0::/", Some(ID)),
            (foreign.as_str(), "0::/", None),
            ("", &format!("4:memory:/docker/{other}/docker/{ID}\n"), Some(ID)),
            (mount.as_str(), "0::/", Some(ID)),
            (moved.as_str(), "", Some(ID)),
            (nested.as_str(), "", Some(ID)),
            ("", &format!("12:pids:/docker/{ID}\n11:cpu:/docker/{ID}\n"), Some(ID)),
            ("", &format!("0::/system.slice/docker-{ID}.scope"), Some(ID)),
            ("", "0::/user.slice/user-0.slice", None),
            ("22 1 254:1 / / rw - ext4 /dev/vda1 rw", "0::/../..", None),
            ("", &format!("0::/docker/{ID}f"), None),
            ("1 2 3:4 /var/lib/docker/containers/short/hostname /etc/hostname rw", "", None),
        ];
        for (mountinfo, cgroup, want) in cases {
            assert_eq!(container_id(mountinfo, cgroup).as_deref(), want, "{mountinfo} {cgroup}");
        }
    }
}
