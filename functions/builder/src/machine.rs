//! The machine's state: evidence of failures without a message (memory that ran out, a full disk), and its memory.

use std::{fs, path::Path};

/// Less free disk than this counts as none.
const DISK_MIN: u64 = 4 << 20;

/// The OOM killer's count in our control group; `None` if the kernel does not report it.
pub(crate) fn oom_kills() -> Option<u64> {
    let read = |file: &str| fs::read_to_string(file).ok();
    count_in(&read(&counter(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?)?)?)
}

/// The file with the count, found from this process's groups and the mounts of their hierarchies. In a container the
/// mount shows a part of a hierarchy, its own group's, while the group's name is the host's.
fn counter(groups: &str, mounts: &str) -> Option<String> {
    let mut groups = groups.lines().filter_map(|line| {
        let (hierarchy, group) = line.split_once(':')?.1.split_once(':')?;
        match hierarchy {
            "" => Some(("cgroup2", group, "memory.events")),
            _ if hierarchy.split(',').any(|one| one == "memory") => Some(("cgroup", group, "memory.oom_control")),
            _ => None,
        }
    });
    groups.find_map(|(kind, group, file)| {
        mounts.lines().find_map(|line| {
            let (mount, filesystem) = line.split_once(" - ")?;
            let (mount, filesystem): (Vec<&str>, Vec<&str>) =
                (mount.split(' ').collect(), filesystem.split(' ').collect());
            let ([_, _, _, root, point, ..], [of, _, options]) = (mount.as_slice(), filesystem.as_slice()) else {
                return None;
            };
            if *of != kind || kind == "cgroup" && !options.split(',').any(|option| option == "memory") {
                return None;
            }
            let below = group.strip_prefix(root.trim_end_matches('/'))?;
            Some(format!("{point}{}/{file}", below.trim_end_matches('/')))
        })
    })
}

fn count_in(events: &str) -> Option<u64> {
    events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Memory that is available to new processes, in bytes; `None` if the kernel does not report it.
pub(crate) fn memory() -> Option<u64> {
    available_in(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn available_in(meminfo: &str) -> Option<u64> {
    let kilobytes = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB"))?;
    Some(kilobytes.parse::<u64>().ok()? << 10)
}

/// Whether the disk of that path is full.
pub(crate) fn disk_full(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|disk| {
        disk.f_bavail.saturating_mul(disk.f_frsize) < DISK_MIN || (disk.f_files > 0 && disk.f_favail == 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_of_memory_is_read() {
        let meminfo =
            "MemTotal:       25669496 kB\nMemFree:          430412 kB\nMemAvailable:   17102340 kB\nBuffers: 1 kB\n";
        assert_eq!((available_in(meminfo), available_in("MemTotal: 1 kB\n")), (Some(17_102_340 << 10), None));
    }

    #[test]
    fn the_count_is_found_on_a_machine_and_in_a_container_of_either_generation() {
        let first = "9:name=systemd:/\n4:memory:/pod/x\n1:cpu,cpuacct:/\n0::/\n";
        let systemd = "30 29 0:26 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";
        let machine = "31 29 0:27 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n";
        let container = "31 29 0:27 /pod/x /sys/fs/cgroup/memory ro,relatime - cgroup cgroup rw,memory\n";
        let unified = "32 29 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        for (groups, mounts, file) in [
            (first, [systemd, machine], Some("/sys/fs/cgroup/memory/pod/x/memory.oom_control")),
            (first, [systemd, container], Some("/sys/fs/cgroup/memory/memory.oom_control")),
            ("4:memory:/pod/x/own\n", [systemd, container], Some("/sys/fs/cgroup/memory/own/memory.oom_control")),
            ("0::/user.slice/x.scope\n", [systemd, unified], Some("/sys/fs/cgroup/user.slice/x.scope/memory.events")),
            ("0::/\n", ["", unified], Some("/sys/fs/cgroup/memory.events")),
            // Another container's part of a hierarchy, and none.
            ("4:memory:/pod/y\n", [systemd, container], None),
            (first, [systemd, ""], None),
        ] {
            assert_eq!(counter(groups, &mounts.concat()).as_deref(), file, "{groups}{mounts:?}");
        }
    }

    #[test]
    fn both_generations_of_control_groups_are_read() {
        assert_eq!(count_in("low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(count_in("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), Some(7));
        assert_eq!(count_in("oom_kill_disable 0\n"), None);
    }
}
