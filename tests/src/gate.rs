//! A build that goes on when the test says so, and not before.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
};

use binplz_core::id::key::hex;
use sha2::{Digest, Sha256};

use crate::site::PATIENCE;

/// Says what it was called, its arguments and its standard input, and exits with its first argument.
const PROGRAM: &str = r#"
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    for (int i = 0; i < argc; i++) printf("<%s>\n", argv[i]);
    for (int c; (c = getchar()) != EOF;) putchar(c);
    return argc > 1 ? atoi(argv[1]) : 0;
}
"#;

/// How far its build has come, and may go.
#[derive(Default)]
struct State {
    arrived: bool,
    open: bool,
}

/// A package whose source is at a server of the test's, which holds it back.
pub struct Gate {
    name: String,
    address: SocketAddr,
    url: String,
    source: String,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Gate {
    /// A package of that name, with a source that no store has.
    pub fn new(name: &str) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let gate = Gate::at(name, listener.local_addr().expect("an address"));
        gate.serve(listener);
        gate
    }

    /// The same, whose server is not there yet: until [`Gate::listen`], its source cannot be had.
    pub fn absent(name: &str) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Gate::at(name, listener.local_addr().expect("an address"))
    }

    /// The server is there from now on.
    pub fn listen(&self) {
        self.serve(TcpListener::bind(self.address).expect("the port again"));
    }

    fn at(name: &str, address: SocketAddr) -> Gate {
        let source = format!("// {name} of process {} at {address}\n{PROGRAM}", std::process::id());
        let url = format!("http://{address}/{name}-{}-{}.c", std::process::id(), address.port());
        Gate { name: name.to_owned(), address, url, source, state: Arc::default() }
    }

    fn serve(&self, listener: TcpListener) {
        let (source, state) = (self.source.clone(), Arc::clone(&self.state));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (source, state) = (source.clone(), Arc::clone(&state));
                thread::spawn(move || serve(stream, &source, &state));
            }
        });
    }

    /// The package, for [`fresh_set`](crate::server::fresh_set); there it is `failing.NAME`.
    pub fn package(&self) -> String {
        let (name, url) = (&self.name, &self.url);
        let sha256 = hex(&Sha256::digest(&self.source));
        format!(
            r#"  {name} = package "{name}" {{ buildPhase = "$CC -O1 -o program ${{fetchurl {{ url = "{url}"; sha256 = "{sha256}"; }}}}"; }};
"#
        )
    }

    /// Words of bash that wait at the gate, in a build that may use the network: a fixed-output derivation.
    pub fn wait(&self) -> String {
        let (host, port) = (self.address.ip(), self.address.port());
        format!("exec 3<>/dev/tcp/{host}/{port}; echo GET / >&3; cat <&3 >/dev/null")
    }

    /// What to ask for.
    pub fn target(&self) -> String {
        format!("failing.{}", self.name)
    }

    /// Waits until the build has come to the gate.
    pub fn arrived(&self) {
        let (state, changed) = &*self.state;
        let state = state.lock().expect("a lock");
        let (state, _) = changed.wait_timeout_while(state, PATIENCE, |state| !state.arrived).expect("a lock");
        assert!(state.arrived, "{} did not come to its gate", self.name);
    }

    /// Lets the build go on.
    pub fn open(&self) {
        let (state, changed) = &*self.state;
        state.lock().expect("a lock").open = true;
        changed.notify_all();
    }
}

fn serve(mut stream: TcpStream, source: &str, (state, changed): &(Mutex<State>, Condvar)) {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request);
    let mut now = state.lock().expect("a lock");
    now.arrived = true;
    changed.notify_all();
    drop(changed.wait_while(now, |state| !state.open).expect("a lock"));
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", source.len());
    // Nix may be gone by now: its test is over.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(source.as_bytes()));
}
