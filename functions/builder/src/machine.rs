//! What the machine knows: of a failure that nobody put into words (memory that ran out, a full disk), and of its memory.

use std::{fs, path::Path};

/// Less than this much free disk is none.
const DISK_MIN: u64 = 4 << 20;

/// How often the kernel killed something in our control group for its memory; `None` where it does not say.
pub(crate) fn oom_kills() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().find_map(|line| {
        let (hierarchy, path) = line.split_once(':')?.1.split_once(':')?;
        let file = match hierarchy {
            "" => format!("/sys/fs/cgroup{path}/memory.events"),
            _ if hierarchy.split(',').any(|one| one == "memory") => {
                format!("/sys/fs/cgroup/memory{path}/memory.oom_control")
            }
            _ => return None,
        };
        count_in(&fs::read_to_string(file).ok()?)
    })
}

fn count_in(events: &str) -> Option<u64> {
    events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Memory that new processes may have without others being pushed out, in bytes; `None` where the kernel does not say.
pub(crate) fn memory() -> Option<u64> {
    available_in(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn available_in(meminfo: &str) -> Option<u64> {
    let kilobytes = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB"))?;
    Some(kilobytes.parse::<u64>().ok()? << 10)
}

/// Whether there is no room left where that path is.
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
    fn both_generations_of_control_groups_are_read() {
        assert_eq!(count_in("low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(count_in("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), Some(7));
        assert_eq!(count_in("oom_kill_disable 0\n"), None);
    }
}
