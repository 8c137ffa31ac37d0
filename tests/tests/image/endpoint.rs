//! The address where ECS (or EC2) gives credentials to any process that knows the path.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
};

/// A running endpoint; its thread ends with the test.
pub(crate) struct Endpoint {
    /// Where it listens.
    pub(crate) address: &'static str,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Endpoint {
    /// One that answers the path with `canary` in it with credentials that hold it, and everything else with 404.
    pub(crate) fn start(address: &'static str, canary: &'static str) -> Endpoint {
        let listener = TcpListener::bind((address, 80))
            .unwrap_or_else(|error| panic!("{address}: {error}; run this by scripts/image test"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let mut request = String::new();
                if BufReader::new(&stream).read_line(&mut request).is_err() {
                    continue;
                }
                let answer = if request.contains(canary) {
                    format!("HTTP/1.0 200 OK\r\n\r\n{{\"SecretAccessKey\":\"{canary}\"}}")
                } else {
                    "HTTP/1.0 404 Not Found\r\n\r\nno such thing".to_owned()
                };
                seen.lock().expect("no thread panics").push(request);
                drop(stream.write_all(answer.as_bytes()));
            }
        });
        Endpoint { address, asked }
    }

    /// The first line of every request.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no thread panics").clone()
    }
}
