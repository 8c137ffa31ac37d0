//! A bundle at a terminal: the keys that send signals, and its size.

use std::{path::Path, process::Command};

use rexpect::session::{Options, PtySession, spawn_with_options};

use crate::{
    fixture::{bundle, scratch},
    starts::Place,
};

/// An interactive shell, whose jobs it controls, with a cache of its own. `$tools` is a bundle.
fn shell(cache: &Path, tools: &str) -> PtySession {
    let mut command = Command::new("/bin/bash");
    command
        .args(["--norc", "--noprofile", "-i"])
        .env("PS1", "ready> ")
        .env("XDG_CACHE_HOME", cache)
        .env("TERM", "xterm")
        .env("HISTFILE", "");
    let mut shell = spawn_with_options(command, Options::new().timeout_ms(Some(60_000))).expect("a terminal");
    shell.exp_string("ready> ").expect("a shell");
    shell.send_line(&format!("tools='{tools}'")).expect("a terminal");
    shell.exp_string("ready> ").expect("a shell");
    shell
}

#[test]
fn keys_interrupt_stop_and_continue_it_and_it_sees_a_new_size() {
    let dir = scratch();
    let mut shell = shell(dir.path(), &bundle().display().to_string());
    shell.send_line("$tools wait").expect("a terminal");
    shell.exp_string("\r\nwaiting\r\n").expect("it runs");
    shell.send_control('c').expect("a terminal");
    shell.exp_string("ready> ").expect("Ctrl-C");
    shell.send_line("echo ended with $?; $tools wait").expect("a terminal");
    shell.exp_string("ended with 130\r\nwaiting\r\n").expect("it runs");
    stops_and_continues(&mut shell, "continued\r\n");
    shell.send_control('c').expect("a terminal");
    shell.exp_string("ready> ").expect("Ctrl-C");
    shell.send_line("echo ended with $?; $tools resize").expect("a terminal");
    shell.exp_string("ended with 130\r\nwaiting\r\n").expect("it runs");
    resize(&shell, "33");
    shell.exp_string("now 33 by ").expect("a new size");
}

/// Ctrl-Z stops the program, and `fg` has it go on, which it says.
fn stops_and_continues(shell: &mut PtySession, says: &str) {
    shell.send_control('z').expect("a terminal");
    shell.exp_string("Stopped").expect("Ctrl-Z");
    shell.exp_string("ready> ").expect("a shell");
    shell.send_line("fg").expect("a terminal");
    shell.exp_string(says).expect("it goes on");
}

fn resize(shell: &PtySession, rows: &str) {
    let terminal = shell.process().get_file_handle().expect("the terminal");
    // It sets rows and columns one by one, and the program hears of the first.
    let stty = Command::new("stty").args(["rows", rows]).stdin(terminal).status();
    assert!(stty.expect("stty runs").success());
}

#[test]
fn a_full_screen_program_with_its_own_terminfo_stops_continues_resizes_and_leaves_the_screen() {
    let bare = Place::bare();
    for (place, user) in [(&bare, "0"), (&bare, "1234"), (&Place::here(), "1234")] {
        let run = place.bundle(user);
        let words = std::iter::once(run.get_program()).chain(run.get_args());
        let words: Vec<_> = words.map(|word| word.to_str().expect("text")).collect();
        let cache = place.cache(user);
        let mut shell = shell(&cache, &format!("{} --binplz-run screen", words.join(" ")));
        shell.send_line("stty rows 20 cols 60; $tools").expect("a terminal");
        shell.exp_string("a screen of 20 by 60").expect("it runs");
        stops_and_continues(&mut shell, "a screen of 20 by 60");
        resize(&shell, "33");
        shell.exp_string("a screen of 33 by 60").expect("a new size");
        shell.send("q").and_then(|_| shell.flush()).expect("a terminal");
        shell.exp_string("it is over\r\n").expect("its end");
        shell.exp_string("ready> ").expect("a shell");
        shell.send_line("echo ended with $?; $tools").expect("a terminal");
        shell.exp_string("ended with 0\r\n").expect("its status");
        shell.exp_string("a screen of 33 by 60").expect("it runs");
        shell.send_control('c').expect("a terminal");
        shell.exp_string("ready> ").expect("Ctrl-C");
    }
}
