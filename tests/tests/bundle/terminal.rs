//! A bundle at a terminal: the keys that send signals, and its size.

use std::{path::Path, process::Command};

use rexpect::session::{Options, PtySession, spawn_with_options};

use crate::fixture::{bundle, scratch};

/// An interactive shell, whose jobs it controls, with a cache of its own.
fn shell(cache: &Path) -> PtySession {
    let mut command = Command::new("/bin/bash");
    command
        .args(["--norc", "--noprofile", "-i"])
        .env("PS1", "ready> ")
        .env("XDG_CACHE_HOME", cache)
        .env("HISTFILE", "");
    let mut shell = spawn_with_options(command, Options::new().timeout_ms(Some(60_000))).expect("a terminal");
    shell.exp_string("ready> ").expect("a shell");
    shell.send_line(&format!("tools={}", bundle().display())).expect("a terminal");
    shell.exp_string("ready> ").expect("a shell");
    shell
}

#[test]
fn keys_interrupt_stop_and_continue_it_and_it_sees_a_new_size() {
    let dir = scratch();
    let mut shell = shell(dir.path());
    shell.send_line("$tools wait").expect("a terminal");
    shell.exp_string("\r\nwaiting\r\n").expect("it runs");
    shell.send_control('c').expect("a terminal");
    shell.exp_string("ready> ").expect("Ctrl-C");
    shell.send_line("echo ended with $?; $tools wait").expect("a terminal");
    shell.exp_string("ended with 130\r\nwaiting\r\n").expect("it runs");
    shell.send_control('z').expect("a terminal");
    shell.exp_string("Stopped").expect("Ctrl-Z");
    shell.exp_string("ready> ").expect("a shell");
    shell.send_line("fg").expect("a terminal");
    shell.exp_string("continued\r\n").expect("it goes on");
    shell.send_control('c').expect("a terminal");
    shell.exp_string("ready> ").expect("Ctrl-C");
    shell.send_line("echo ended with $?; $tools resize").expect("a terminal");
    shell.exp_string("ended with 130\r\nwaiting\r\n").expect("it runs");
    let terminal = shell.process().get_file_handle().expect("the terminal");
    // It sets rows and columns one by one, and the program hears of the first.
    let stty = Command::new("stty").args(["rows", "33"]).stdin(terminal).status();
    assert!(stty.expect("stty runs").success());
    shell.exp_string("now 33 by ").expect("a new size");
}
