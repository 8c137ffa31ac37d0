//! Whether a file is a static program for a system, by its ELF headers. They are another's data: nothing is believed
//! beyond the file's end, and what can not be read is no program.

use std::{fs::File, io};

use binplz_core::{artifact::Refusal, key::System};
use object::{
    Endianness, elf,
    read::{
        ReadCache,
        elf::{Dyn, FileHeader, ProgramHeader},
    },
};

/// Judges an open file that is no script.
pub(crate) fn judge(file: &File, system: System) -> io::Result<Result<(), Refusal>> {
    let cache = ReadCache::new(file);
    let data = cache.range(0, file.metadata()?.len());
    let kind = object::FileKind::parse(data);
    Ok(match kind {
        Ok(object::FileKind::Elf64) => judge_header::<elf::FileHeader64<Endianness>>(data, system),
        // Both systems have 64 bits.
        Ok(object::FileKind::Elf32) => Err(Refusal::OtherMachine),
        _ => Err(Refusal::NotAProgram),
    })
}

fn judge_header<'data, Elf: FileHeader<Endian = Endianness>>(
    data: impl object::ReadRef<'data>,
    system: System,
) -> Result<(), Refusal> {
    let unreadable = |_| Refusal::NotAProgram;
    let header = Elf::parse(data).map_err(unreadable)?;
    let endian = header.endian().map_err(unreadable)?;
    let machine = match system {
        System::X86_64Linux => elf::EM_X86_64,
        System::Aarch64Linux => elf::EM_AARCH64,
    };
    let kind = header.e_type(endian);
    if kind != elf::ET_EXEC && kind != elf::ET_DYN {
        return Err(Refusal::NotAProgram);
    }
    if header.e_machine(endian) != machine || endian != Endianness::Little {
        return Err(Refusal::OtherMachine);
    }
    let segments = header.program_headers(endian, data).map_err(unreadable)?;
    for segment in segments {
        if segment.p_type(endian) == elf::PT_INTERP {
            return Err(Refusal::Dynamic);
        }
        let entries = segment.dynamic(endian, data).map_err(unreadable)?.unwrap_or_default();
        if entries.iter().any(|entry| entry.tag(endian) == elf::DT_NEEDED) {
            return Err(Refusal::Dynamic);
        }
    }
    // A shared library has no interpreter either, and at times needs no other; but nowhere to start.
    let starts = header.e_entry(endian).into() != 0;
    let loads = segments.iter().any(|segment| segment.p_type(endian) == elf::PT_LOAD);
    if starts && loads { Ok(()) } else { Err(Refusal::NotAProgram) }
}
