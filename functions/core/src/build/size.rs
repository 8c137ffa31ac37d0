//! The size of a task's machine.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{build::failure::Kind, id::key::serde_as_text};

/// A size that Fargate offers (Linux, from 1 vCPU). Written `CPU/MEMORY/DISK`: `4096/8192/50` is 4 vCPU, 8 GiB and 50
/// GiB of disk.
///
/// On one machine it has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size {
    cpu: u32,
    memory: u32,
    disk: u8,
}

/// Why a size is invalid.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadSize {
    /// The text is not three numbers.
    #[error("expected CPU/MEMORY/DISK, in CPU units, MiB and GiB: 4096/8192/50")]
    Form,
    /// Fargate does not offer this number of CPU units.
    #[error("Fargate has no task of {0} CPU units")]
    Cpu(u32),
    /// Fargate does not offer this amount of memory with that CPU.
    #[error("Fargate has no task of {cpu} CPU units with {memory} MiB")]
    Memory {
        /// CPU units.
        cpu: u32,
        /// MiB.
        memory: u32,
    },
    /// Fargate does not offer this amount of disk.
    #[error("Fargate has no task with a disk of {0} GiB: expected 21 to 200")]
    Disk(u8),
}

/// Fargate's sizes: CPU units (1024 are one vCPU), with the least and the most memory, and its steps, in MiB. (Amazon
/// ECS developer guide, "Task CPU and memory".)
const MEMORY: [(u32, u32, u32, u32); 5] = [
    (1024, 2048, 8192, 1024),
    (2048, 4096, 16_384, 1024),
    (4096, 8192, 30_720, 1024),
    (8192, 16_384, 61_440, 4096),
    (16_384, 32_768, 122_880, 8192),
];
/// The ephemeral storage that can be requested, in GiB.
const DISK: (u8, u8) = (21, 200);
/// The part of it that is free.
const DISK_FREE: u8 = 20;
/// The part of a machine's memory that a build may use.
const ROOMY: (u64, u64) = (15, 16);

impl Size {
    /// A size of `cpu` CPU units (1024 are one vCPU), `memory` MiB and `disk` GiB.
    ///
    /// # Errors
    /// [`BadSize`], if Fargate does not offer it.
    pub fn new(cpu: u32, memory: u32, disk: u8) -> Result<Size, BadSize> {
        let (_, from, to, step) = *MEMORY.iter().find(|row| row.0 == cpu).ok_or(BadSize::Cpu(cpu))?;
        if !(from..=to).contains(&memory) || !memory.is_multiple_of(step) {
            return Err(BadSize::Memory { cpu, memory });
        }
        if !(DISK.0..=DISK.1).contains(&disk) {
            return Err(BadSize::Disk(disk));
        }
        Ok(Size { cpu, memory, disk })
    }

    /// CPU units; 1024 are one vCPU.
    pub fn cpu(self) -> u32 {
        self.cpu
    }

    /// Memory in MiB.
    pub fn memory(self) -> u32 {
        self.memory
    }

    /// Disk in GiB.
    pub fn disk(self) -> u8 {
        self.disk
    }

    /// GiB of disk that are charged.
    pub(crate) fn disk_paid(self) -> u8 {
        self.disk - DISK_FREE
    }

    /// The size for the next attempt after a failure of that kind: twice the memory or the disk if that was short, as
    /// far as Fargate offers more.
    #[must_use]
    pub fn after(self, kind: Kind) -> Size {
        match kind {
            Kind::OutOfMemory => self.with_memory(self.memory * 2),
            Kind::DiskFull => Size { disk: self.disk.saturating_mul(2).min(DISK.1), ..self },
            _ => self,
        }
    }

    /// Enlarged to at least this memory, in MiB, and disk, in GiB.
    #[must_use]
    pub(crate) fn with_at_least(self, memory: u32, disk: u8) -> Size {
        Size { disk: self.disk.max(disk), ..self.with_memory(self.memory.max(memory)) }
    }

    /// Whether this memory, in bytes, is enough: a little is left for what is not measured.
    pub(crate) fn fits(self, bytes: u64) -> bool {
        bytes <= u64::from(self.memory) * (1 << 20) * ROOMY.0 / ROOMY.1
    }

    /// Enlarged to a memory that is enough for so many bytes.
    #[must_use]
    pub(crate) fn with_memory_for(self, bytes: u64) -> Size {
        let wanted = (bytes >> 20).saturating_mul(ROOMY.1).div_ceil(ROOMY.0) + 1;
        self.with_at_least(u32::try_from(wanted).unwrap_or(u32::MAX / 2), self.disk)
    }

    /// Enlarged to at least this memory, with as few more CPUs as that requires; at most Fargate's largest.
    fn with_memory(self, wanted: u32) -> Size {
        let enough = MEMORY.iter().find(|row| row.0 >= self.cpu && row.2 >= wanted).or(MEMORY.last());
        enough.map_or(self, |&(cpu, _, to, step)| Size { cpu, memory: wanted.next_multiple_of(step).min(to), ..self })
    }

    /// Whether it is the default size.
    pub(crate) fn is_usual(&self) -> bool {
        *self == Size::default()
    }
}

impl Default for Size {
    /// 4 vCPU, 8 GiB, 50 GiB of disk: a compiler has room, and a new account may run it. Rows without a size mean this
    /// one.
    fn default() -> Size {
        Size { cpu: 4096, memory: 8192, disk: 50 }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.cpu, self.memory, self.disk)
    }
}

impl FromStr for Size {
    type Err = BadSize;
    fn from_str(s: &str) -> Result<Size, BadSize> {
        let (machine, disk) = s.rsplit_once('/').ok_or(BadSize::Form)?;
        let (cpu, memory) = machine.split_once('/').ok_or(BadSize::Form)?;
        let number = |text: &str| text.parse().map_err(|_| BadSize::Form);
        let size = Size::new(number(cpu)?, number(memory)?, disk.parse().map_err(|_| BadSize::Form)?)?;
        // Each size has one form.
        if size.to_string() == s { Ok(size) } else { Err(BadSize::Form) }
    }
}

serde_as_text!(Size, BadSize);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_fargate_has_is_a_size() {
        for (text, why) in [
            ("1024/2048/21", Ok(())),
            ("2048/16384/50", Ok(())),
            ("4096/9216/200", Ok(())),
            ("8192/20480/50", Ok(())),
            ("16384/122880/50", Ok(())),
            ("1024/1024/50", Err(BadSize::Memory { cpu: 1024, memory: 1024 })),
            ("4096/8704/50", Err(BadSize::Memory { cpu: 4096, memory: 8704 })),
            ("4096/31744/50", Err(BadSize::Memory { cpu: 4096, memory: 31_744 })),
            ("8192/17408/50", Err(BadSize::Memory { cpu: 8192, memory: 17_408 })),
            ("3072/8192/50", Err(BadSize::Cpu(3072))),
            ("4096/8192/20", Err(BadSize::Disk(20))),
            ("4096/8192/201", Err(BadSize::Disk(201))),
            ("4096/8192", Err(BadSize::Form)),
            ("4096/8192/50/1", Err(BadSize::Form)),
            ("4096/08192/50", Err(BadSize::Form)),
            ("4096/-1/50", Err(BadSize::Form)),
            ("", Err(BadSize::Form)),
        ] {
            assert_eq!(text.parse::<Size>().map(|size| assert_eq!(size.to_string(), text)), why, "{text}");
        }
    }

    #[test]
    fn the_next_attempt_has_twice_of_what_was_lacking() {
        for (size, kind, next) in [
            ("4096/8192/50", Kind::OutOfMemory, "4096/16384/50"),
            // 4 vCPU have 30 GiB at most.
            ("4096/16384/50", Kind::OutOfMemory, "8192/32768/50"),
            ("4096/9216/50", Kind::OutOfMemory, "4096/18432/50"),
            ("8192/36864/50", Kind::OutOfMemory, "16384/73728/50"),
            ("16384/122880/50", Kind::OutOfMemory, "16384/122880/50"),
            ("4096/8192/50", Kind::DiskFull, "4096/8192/100"),
            ("4096/8192/150", Kind::DiskFull, "4096/8192/200"),
            ("4096/8192/200", Kind::DiskFull, "4096/8192/200"),
            ("4096/8192/50", Kind::Killed, "4096/8192/50"),
        ] {
            let size: Size = size.parse().expect("a size");
            assert_eq!(size.after(kind).to_string(), next, "{size} after {kind:?}");
        }
    }

    #[test]
    fn a_machine_for_a_plan_has_enough_memory_if_there_is_one() {
        for (size, gigabytes, next) in [
            ("4096/8192/50", 7, "4096/8192/50"),
            ("4096/8192/50", 8, "4096/9216/50"),
            ("4096/8192/50", 40, "8192/45056/50"),
            ("4096/8192/50", 4000, "16384/122880/50"),
        ] {
            let (size, bytes) = (size.parse::<Size>().expect("a size"), gigabytes << 30);
            let enlarged = if size.fits(bytes) { size } else { size.with_memory_for(bytes) };
            assert_eq!(enlarged.to_string(), next, "{gigabytes}");
            assert_eq!(enlarged.fits(bytes), gigabytes < 4000, "{gigabytes}");
        }
    }

    proptest! {
        #[test]
        fn a_larger_machine_is_one_that_there_is(row in 0usize..5, step in 0u32..32, disk in 21u8..=200, memory in any::<bool>()) {
            let (cpu, from, to, by) = MEMORY[row];
            let size = Size::new(cpu, (from + step * by).min(to), disk).expect("a size");
            let next = size.after(if memory { Kind::OutOfMemory } else { Kind::DiskFull });
            prop_assert_eq!(Size::new(next.cpu(), next.memory(), next.disk()), Ok(next));
            prop_assert!(next.cpu() >= size.cpu() && next.memory() >= size.memory() && next.disk() >= size.disk());
            let limit = if memory { next.memory() == 122_880 } else { next.disk() == 200 };
            prop_assert!(limit || next != size);
        }
    }
}
