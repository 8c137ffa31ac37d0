//! Packs store paths by hand, for `scripts/bench bundle`: pack LAUNCHER OUTPUT LEVEL PROGRAM STORE-PATH…
//! PROGRAM is a file in one of the store paths. Prints what was packed.

use std::{env, error::Error, fs::File, path::PathBuf};

use binplz_launcher::{
    manifest::About,
    pack::{Source, pack},
    trim::Trim,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [launcher, output, level, program, closure @ ..] = &arguments[..] else {
        return Err("too few arguments".into());
    };
    let name = program.file_name().and_then(|name| name.to_str()).ok_or("a program has a name")?;
    let mut output = File::options().read(true).write(true).create_new(true).open(output)?;
    let source = Source {
        launcher,
        closure,
        programs: &[(name.to_owned(), program.clone())],
        main: name,
        about: &About { package: name.to_owned(), ..About::default() },
        trim: Trim::Usual,
    };
    let level = level.to_str().ok_or("a level is a number")?.parse()?;
    let packed = pack(&source, level, u64::MAX, &|| true, &mut output)?;
    #[expect(clippy::disallowed_macros, reason = "a program by itself")]
    {
        println!("{} {} {}", packed.bytes, packed.unpacked, packed.files);
    }
    Ok(())
}
