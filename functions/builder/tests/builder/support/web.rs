//! A file server on this machine, for sources and a binary cache. It fails on demand.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// The answer to a request.
pub(crate) enum Gives {
    /// The file.
    All(Vec<u8>),
    /// Half of the file, and then no server.
    Half(Vec<u8>),
    /// Half of the file, and then nothing: the connection stays.
    Stalled(Vec<u8>),
    /// Only this status.
    Status(u16),
    /// No answer: the connection stays.
    Nothing,
}

/// The server; its thread ends with the test.
pub(crate) struct Web {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Web {
    /// A server that answers each path as `gives` says.
    pub(crate) fn start(gives: impl Fn(&str) -> Gives + Send + Sync + 'static) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (asked, gives) = (Arc::new(Mutex::new(Vec::new())), Arc::new(gives));
        let seen = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, gives) = (Arc::clone(&seen), Arc::clone(&gives));
                thread::spawn(move || while answer(&stream, &seen, &*gives).is_some() {});
            }
        });
        Web { address, asked }
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The requested paths, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

/// One request; `None` ends the connection.
fn answer(mut stream: &TcpStream, asked: &Mutex<Vec<String>>, gives: &impl Fn(&str) -> Gives) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut header = String::from("more");
    while !header.trim_end().is_empty() {
        header.clear();
        reader.read_line(&mut header).ok()?;
    }
    asked.lock().expect("no panic").push(path.clone());
    let given = gives(&path);
    let stalls = matches!(given, Gives::Stalled(_));
    let (status, body, sent) = match given {
        Gives::All(body) => (200, body.clone(), body),
        Gives::Half(body) => (200, body.clone(), body[..body.len() / 2].to_vec()),
        Gives::Stalled(body) => (200, body.clone(), body[..body.len() / 2].to_vec()),
        Gives::Status(status) => (status, Vec::new(), Vec::new()),
        Gives::Nothing => return wait_for_the_end(reader),
    };
    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len()).ok()?;
    if method != "HEAD" {
        stream.write_all(&sent).ok()?;
    }
    if stalls && method != "HEAD" {
        return wait_for_the_end(reader);
    }
    // After half a file, the client sees the connection's end.
    (method == "HEAD" || sent.len() == body.len()).then_some(())
}

/// Until the client closes the connection.
fn wait_for_the_end(mut reader: BufReader<&TcpStream>) -> Option<()> {
    let _ = std::io::copy(&mut reader, &mut std::io::sink());
    None
}
