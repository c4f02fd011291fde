//! The log of the program that runs a node, for readers over HTTP as it is written.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::broadcast;
use tracing::Level;

/// The most lines that wait for a reader. A slower one loses the oldest.
const WAITING_LINES: usize = 256;

/// The longest line, in bytes. A longer one is left out: a part of it would not be JSON.
const MAX_LINE_BYTES: usize = 8 << 10;

/// The bytes of the latest lines, which each reader receives first.
const RECENT_BYTES: usize = 32 << 10;

/// The levels, the most important first.
const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

/// What is written while nobody reads, so that a reader finds the latest lines.
const WITHOUT_READERS: Level = Level::INFO;

/// Called with the least important level that is to be written.
type SetLevel = Box<dyn Fn(Level) + Send + Sync>;

/// Where a program writes the lines of its log, in JSON, beside where it writes them otherwise. Cloning copies a
/// pointer.
#[derive(Clone)]
pub struct LogTail {
    shared: Arc<Shared>,
}

struct Shared {
    lines: broadcast::Sender<LogLine>,
    recent: Mutex<Recent>,
    /// The readers of each level, in the order of [`LEVELS`].
    readers: Mutex<[usize; LEVELS.len()]>,
    set_level: OnceLock<SetLevel>,
}

#[derive(Debug, Clone)]
pub(crate) struct LogLine {
    level: Level,
    pub(crate) text: Arc<str>,
}

#[derive(Default)]
struct Recent {
    lines: VecDeque<LogLine>,
    bytes: usize,
}

impl Default for LogTail {
    fn default() -> Self {
        let (recent, readers, set_level) = (Mutex::default(), Mutex::default(), OnceLock::new());
        let lines = broadcast::Sender::new(WAITING_LINES);
        Self { shared: Arc::new(Shared { lines, recent, readers, set_level }) }
    }
}

impl fmt::Debug for LogTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogTail").field("level", &self.level()).finish_non_exhaustive()
    }
}

impl LogTail {
    /// Sets a callback that gets the least important level to write, whenever it changes. Until then that is
    /// [`Self::level`]. Can be set once; later calls have no effect.
    pub fn on_level(&self, set: impl Fn(Level) + Send + Sync + 'static) {
        let _ = self.shared.set_level.set(Box::new(set));
    }

    /// The least important level that is to be written now.
    pub fn level(&self) -> Level {
        least_important(&self.shared.readers.lock())
    }

    /// Adds a line: a JSON object and a line end. One of more than 8 KiB is left out.
    pub fn write(&self, level: Level, line: &str) {
        if line.len() > MAX_LINE_BYTES {
            return;
        }
        let line = LogLine { level, text: line.into() };
        if level <= WITHOUT_READERS {
            self.shared.recent.lock().add(line.clone());
        }
        // An error means that nobody reads.
        let _ = self.shared.lines.send(line);
    }

    /// The latest lines of this level or a more important one, the oldest first.
    pub(crate) fn recent(&self, level: Level) -> Vec<LogLine> {
        let recent = self.shared.recent.lock();
        recent.lines.iter().filter(|line| line.level <= level).cloned().collect()
    }

    /// The lines from now on.
    pub(crate) fn follow(&self, level: Level) -> LogReader {
        let lines = self.shared.lines.subscribe();
        self.change_readers(|readers| readers[place(level)] += 1);
        LogReader { tail: self.clone(), level, lines }
    }

    fn change_readers(&self, change: impl FnOnce(&mut [usize; LEVELS.len()])) {
        let mut readers = self.shared.readers.lock();
        let before = least_important(&readers);
        change(&mut readers);
        let after = least_important(&readers);
        // Under the lock, so that of two changes the later one stays.
        if before != after
            && let Some(set_level) = self.shared.set_level.get()
        {
            set_level(after);
        }
    }
}

fn place(level: Level) -> usize {
    LEVELS.iter().position(|known| *known == level).expect("there are no other levels")
}

fn least_important(readers: &[usize; LEVELS.len()]) -> Level {
    let read = readers.iter().rposition(|&count| count > 0).map_or(WITHOUT_READERS, |at| LEVELS[at]);
    read.max(WITHOUT_READERS)
}

impl Recent {
    fn add(&mut self, line: LogLine) {
        self.bytes += line.text.len();
        self.lines.push_back(line);
        while self.bytes > RECENT_BYTES {
            let Some(oldest) = self.lines.pop_front() else { return };
            self.bytes -= oldest.text.len();
        }
    }
}

/// A reader of the log.
#[derive(Debug)]
pub(crate) struct LogReader {
    tail: LogTail,
    level: Level,
    lines: broadcast::Receiver<LogLine>,
}

/// What a reader receives.
#[derive(Debug)]
pub(crate) enum LogEvent {
    Line(Arc<str>),
    /// So many lines were lost, of whatever level.
    Lost(u64),
}

impl LogReader {
    /// Waits for the next line. It may be dropped while it waits.
    pub(crate) async fn next(&mut self) -> LogEvent {
        loop {
            match self.lines.recv().await {
                Ok(line) if line.level <= self.level => return LogEvent::Line(line.text),
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(lost)) => return LogEvent::Lost(lost),
                Err(broadcast::error::RecvError::Closed) => unreachable!("this reader holds the sender"),
            }
        }
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        self.tail.change_readers(|readers| readers[place(self.level)] -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_follows_what_is_read() {
        let tail = LogTail::default();
        let set = Arc::new(Mutex::new(Vec::new()));
        let levels = set.clone();
        tail.on_level(move |level| levels.lock().push(level));
        let debug = tail.follow(Level::DEBUG);
        let trace = tail.follow(Level::TRACE);
        let important = tail.follow(Level::ERROR);
        drop(debug);
        assert_eq!(tail.level(), Level::TRACE);
        drop(trace);
        drop(important);
        assert_eq!(*set.lock(), [Level::DEBUG, Level::TRACE, Level::INFO]);
    }

    #[tokio::test]
    async fn a_reader_receives_what_is_important_to_it_and_the_number_of_lost_lines() {
        let tail = LogTail::default();
        let mut reader = tail.follow(Level::WARN);
        tail.write(Level::INFO, "{}\n");
        tail.write(Level::WARN, "{\"a\":1}\n");
        assert!(matches!(reader.next().await, LogEvent::Line(text) if &*text == "{\"a\":1}\n"));
        for _ in 0..WAITING_LINES + 5 {
            tail.write(Level::WARN, "{}\n");
        }
        assert!(matches!(reader.next().await, LogEvent::Lost(5)));
    }

    #[test]
    fn the_latest_lines_are_bounded_in_bytes() {
        let tail = LogTail::default();
        let line = "x".repeat(MAX_LINE_BYTES);
        for _ in 0..100 {
            tail.write(Level::INFO, &line);
        }
        tail.write(Level::INFO, &format!("{line}x"));
        tail.write(Level::DEBUG, "{}\n");
        tail.write(Level::ERROR, "last\n");
        let texts: Vec<_> = tail.recent(Level::INFO).into_iter().map(|line| line.text.len()).collect();
        assert_eq!(texts, [MAX_LINE_BYTES, MAX_LINE_BYTES, MAX_LINE_BYTES, 5]);
        assert_eq!(tail.recent(Level::WARN).len(), 1);
    }
}
