//! A server of one source, which is not well until it is mended.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tempfile::TempDir;

use crate::server::{demo_set, edit, fresh_set};

/// The package whose source it has.
pub const TARGET: &str = "failing.sourceGone";

/// The server. It listens to the end of the process; its thread sleeps.
pub struct Sources {
    port: u16,
    well: Arc<AtomicBool>,
}

impl Sources {
    /// Not there yet: the port is closed.
    pub fn absent() -> Sources {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        Sources { port, well: Arc::new(AtomicBool::new(true)) }
    }

    /// It dies in the middle of every download.
    pub fn dying() -> Sources {
        let sources = Sources { well: Arc::new(AtomicBool::new(false)), ..Sources::absent() };
        sources.begin();
        sources
    }

    /// It listens from now on.
    pub fn begin(&self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).expect("the port again");
        let content = fs::read(demo_set().join("sourceGone/source-gone.c")).expect("the source");
        let well = Arc::clone(&self.well);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let sent = if well.load(Ordering::Relaxed) { content.len() } else { content.len() / 2 };
                // A client that has gone is its own loss.
                let _ = answer(stream, &content, sent);
            }
        });
    }

    /// It is well from now on.
    pub fn mend(&self) {
        self.well.store(true, Ordering::Relaxed);
    }

    /// The demo set, where [`TARGET`] takes its source from here, under a name that no earlier run has used.
    pub fn set(&self) -> TempDir {
        let set = fresh_set("");
        let url = format!("127.0.0.1:{0}/source-gone-{0}-{1}.c", self.port, std::process::id());
        edit(&set, "failing.nix", |text| text.replace("127.0.0.1:18473/source-gone.c", &url));
        set
    }
}

fn answer(mut stream: TcpStream, content: &[u8], sent: usize) -> std::io::Result<()> {
    let read = stream.read(&mut [0; 4096])?;
    assert!(read > 0, "a request");
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", content.len())?;
    stream.write_all(&content[..sent])
}
