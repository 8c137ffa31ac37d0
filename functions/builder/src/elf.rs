//! Decides by the ELF headers whether a file is a static program for a system. The headers are foreign data: no offset
//! beyond the file's end is trusted, and an unreadable file is not a program.

use std::{fs::File, io};

use binplz_core::{id::key::System, objects::artifact::Refusal};
use object::{
    Endianness, elf,
    read::{
        ReadCache,
        elf::{Dyn, FileHeader, ProgramHeader},
    },
};

/// Judges an open file that is not a script.
pub(crate) fn judge(file: &File, system: System) -> io::Result<Result<(), Refusal>> {
    let cache = ReadCache::new(file);
    Ok(judge_data(cache.range(0, file.metadata()?.len()), system))
}

/// Judges what is in such a file.
///
/// # Errors
/// The reason for which it is not served.
pub fn judge_data<'data>(data: impl object::ReadRef<'data>, system: System) -> Result<(), Refusal> {
    match object::FileKind::parse(data) {
        Ok(object::FileKind::Elf64) => judge_header::<elf::FileHeader64<Endianness>>(data, system),
        // Both systems have 64 bits.
        Ok(object::FileKind::Elf32) => Err(Refusal::OtherMachine),
        _ => Err(Refusal::NotAProgram),
    }
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
    // A shared library has no interpreter either, and at times needs no other library; but it has no entry point.
    let starts = header.e_entry(endian).into() != 0;
    let loads = segments.iter().any(|segment| segment.p_type(endian) == elf::PT_LOAD);
    if starts && loads { Ok(()) } else { Err(Refusal::NotAProgram) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    const EXEC: u16 = 2;
    const DYN: u16 = 3;
    const X86_64: u16 = 62;
    const AARCH64: u16 = 183;
    const LOAD: u32 = 1;
    const DYNAMIC: u32 = 2;
    const INTERP: u32 = 3;
    const NEEDED: u64 = 1;
    const FLAGS_1: u64 = 0x6fff_fffb;

    /// A 64-bit little-endian ELF file with these segments.
    fn program(kind: u16, machine: u16, entry: u64, segments: &[(u32, Vec<u8>)]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        let mut put = |bytes: &[u8]| file.extend_from_slice(bytes);
        [kind, machine].iter().for_each(|n| put(&n.to_le_bytes()));
        put(&1u32.to_le_bytes());
        [entry, 64, 0].iter().for_each(|n| put(&n.to_le_bytes()));
        put(&0u32.to_le_bytes());
        [64, 56, segments.len() as u16, 64, 0, 0].iter().for_each(|n| put(&n.to_le_bytes()));
        let mut offset = 64 + 56 * segments.len() as u64;
        for (kind, content) in segments {
            let size = content.len() as u64;
            [*kind, 4].iter().for_each(|n| put(&n.to_le_bytes()));
            [offset, offset, offset, size, size, 8].iter().for_each(|n| put(&n.to_le_bytes()));
            offset += size;
        }
        segments.iter().for_each(|(_, content)| put(content));
        file
    }

    fn entries(tags: &[u64]) -> Vec<u8> {
        tags.iter().chain(&[0]).flat_map(|tag| [tag.to_le_bytes(), 1u64.to_le_bytes()].concat()).collect()
    }

    fn judged(content: &[u8], system: System) -> Result<(), Refusal> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(content).expect("written");
        judge(&file, system).expect("a readable file")
    }

    #[test]
    fn a_program_without_interpreter_and_libraries_is_static() {
        let load = (LOAD, vec![0; 16]);
        let exec = program(EXEC, X86_64, 1, std::slice::from_ref(&load));
        assert_eq!(judged(&exec, System::X86_64Linux), Ok(()));
        assert_eq!(judged(&exec, System::Aarch64Linux), Err(Refusal::OtherMachine));
        assert_eq!(judged(&program(EXEC, AARCH64, 1, std::slice::from_ref(&load)), System::Aarch64Linux), Ok(()));
        // A static PIE has a dynamic section for its relocations.
        let pie = program(DYN, X86_64, 1, &[load.clone(), (DYNAMIC, entries(&[FLAGS_1]))]);
        assert_eq!(judged(&pie, System::X86_64Linux), Ok(()));
    }

    #[test]
    fn an_interpreter_or_a_needed_library_makes_it_dynamic() {
        let load = (LOAD, vec![0; 16]);
        let interp = (INTERP, b"/lib64/ld-linux-x86-64.so.2\0".to_vec());
        for segments in [vec![load.clone(), interp], vec![load, (DYNAMIC, entries(&[FLAGS_1, NEEDED]))]] {
            assert_eq!(judged(&program(DYN, X86_64, 1, &segments), System::X86_64Linux), Err(Refusal::Dynamic));
        }
    }

    #[test]
    fn what_can_not_be_started_is_no_program() {
        let load = (LOAD, vec![0; 16]);
        let library = program(DYN, X86_64, 0, &[load.clone(), (DYNAMIC, entries(&[]))]);
        let object = program(1, X86_64, 1, std::slice::from_ref(&load));
        let core = program(4, X86_64, 1, &[load]);
        let empty = program(EXEC, X86_64, 1, &[]);
        let cut = &program(EXEC, X86_64, 1, &[(LOAD, vec![0; 16])])[..100];
        for content in [&library, &object, &core, &empty, cut, b"", b"\x7fELF", b"hello"] {
            assert_eq!(judged(content, System::X86_64Linux), Err(Refusal::NotAProgram));
        }
    }

    proptest! {
        #[test]
        fn damaged_headers_never_panic_and_never_reach_beyond_the_file(at in 4usize..176, byte: u8, length in 0usize..300) {
            let segments = [(LOAD, vec![0; 16]), (DYNAMIC, entries(&[NEEDED]))];
            let mut content = program(DYN, X86_64, 1, &segments);
            content[at] = byte;
            content.truncate(length);
            let _ = judged(&content, System::X86_64Linux);
        }

        #[test]
        fn arbitrary_bytes_are_no_program(content: Vec<u8>) {
            prop_assert!(judged(&content, System::X86_64Linux).is_err());
        }
    }
}
