//! The server's log, on standard error. A thread of its own writes it: if standard error is closed, full or not read,
//! lines are dropped, and no request waits or fails. (The non-blocking writer of tracing-appender does the same, but
//! prints to standard output at its end, which panics if that is closed.)

use std::{
    io::{self, Write},
    panic,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

/// The most lines that wait to be written.
const BACKLOG: usize = 4096;
/// How long [`Log::flush`] waits for a standard error that is not read.
const FLUSH: Duration = Duration::from_secs(1);

/// A handle of the log.
#[derive(Clone)]
pub(crate) struct Log {
    lines: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

enum Entry {
    Line(Vec<u8>),
    /// All entries before this one were written.
    Flush(SyncSender<()>),
}

impl Log {
    /// Starts the thread, and sends all telemetry and every panic's message to it.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn open() -> io::Result<Log> {
        let log = Log::to(io::stderr())?;
        let writer = log.clone();
        // This program's own warning about a failed write would go to the standard error that fails.
        tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_target(false)
            .log_internal_errors(false)
            .init();
        panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
        Ok(log)
    }

    fn to(output: impl Write + Send + 'static) -> io::Result<Log> {
        let (lines, entries) = sync_channel(BACKLOG);
        let dropped = Arc::new(AtomicU64::new(0));
        let log = Log { lines, dropped: Arc::clone(&dropped) };
        thread::Builder::new().name("log".to_owned()).spawn(move || write_all(output, &entries, &dropped))?;
        Ok(log)
    }

    /// Writes a line that is not telemetry.
    pub(crate) fn line(&self, text: &str) {
        self.send(format!("{text}\n").into_bytes());
    }

    /// Returns when all lines so far were written, or after a second.
    pub(crate) fn flush(&self) {
        let (done, wait) = sync_channel(1);
        // A full backlog means that standard error is not read.
        if self.lines.try_send(Entry::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(FLUSH);
        }
    }

    fn send(&self, line: Vec<u8>) {
        if self.lines.try_send(Entry::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.send(line.to_vec());
        Ok(line.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_all(mut output: impl Write, entries: &Receiver<Entry>, dropped: &AtomicU64) {
    for entry in entries {
        match entry {
            Entry::Line(line) => {
                let lost = dropped.swap(0, Ordering::Relaxed);
                let note = if lost > 0 { format!("{lost} lines of this log were dropped\n") } else { String::new() };
                if output.write_all(note.as_bytes()).and_then(|()| output.write_all(&line)).is_err() {
                    dropped.fetch_add(lost + 1, Ordering::Relaxed);
                }
            }
            Entry::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// An output that fails while `fails` says so, and blocks until it is asked for each write.
    struct Output {
        answers: Receiver<bool>,
        written: Sender<String>,
    }

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.answers.recv().unwrap_or(true) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let _ = self.written.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_output_that_blocks_or_fails_blocks_and_fails_no_one_and_dropped_lines_are_counted() {
        let (answers, asked) = channel();
        let (written, lines) = channel();
        let log = Log::to(Output { answers: asked, written }).expect("a thread");
        // The thread waits with the first line; the backlog takes so many more.
        for line in 0..BACKLOG + 10 {
            log.line(&line.to_string());
        }
        let dropped = log.dropped.load(Ordering::Relaxed);
        assert!((9..=10).contains(&dropped), "{dropped}");
        answers.send(false).expect("the thread runs");
        drop(answers);
        // The note and the line behind it.
        let note = lines.recv().expect("a note");
        assert!(note.ends_with("lines of this log were dropped\n"), "{note}");
        assert_eq!(lines.recv().as_deref(), Ok("1\n"));
        // The thread writes all that is left.
        log.flush();
        assert_eq!(log.dropped.load(Ordering::Relaxed), 0);
    }
}
