//! A web server of static files, as good or bad as a test wants it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU16, Ordering},
    },
    thread,
    time::Duration,
};

/// Serves a folder until it is dropped.
pub struct Web(Arc<State>);

struct State {
    folder: PathBuf,
    port: u16,
    over: AtomicBool,
    /// Bytes of content that are still sent before every connection breaks; endless when negative.
    budget: AtomicI64,
    /// Pause after each piece of 64 KiB, in milliseconds.
    pause: AtomicU16,
    /// What an upload is answered with.
    put_status: AtomicU16,
    log: Mutex<Vec<String>>,
}

impl Web {
    pub fn of(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = Arc::new(State {
            folder: folder.to_owned(),
            port: listener.local_addr().unwrap().port(),
            over: AtomicBool::new(false),
            budget: AtomicI64::new(-1),
            pause: AtomicU16::new(0),
            put_status: AtomicU16::new(201),
            log: Mutex::default(),
        });
        let serving = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.over.load(Ordering::SeqCst) {
                    return;
                }
                let state = Arc::clone(&serving);
                // whoever asked has gone
                thread::spawn(move || drop(state.answer(stream)));
            }
        });
        Self(state)
    }

    /// The URL of the folder, or of a file in it.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.0.port)
    }

    /// Breaks every connection once so many bytes of content are sent.
    pub fn break_after(&self, bytes: i64) {
        self.0.budget.store(bytes, Ordering::SeqCst);
    }

    /// Sends all there is again.
    pub fn heal(&self) {
        self.break_after(-1);
    }

    /// Waits so long after every 64 KiB.
    pub fn slow_down(&self, milliseconds: u16) {
        self.0.pause.store(milliseconds, Ordering::SeqCst);
    }

    /// What uploads are answered with, after all of them has come.
    pub fn answer_uploads(&self, status: u16) {
        self.0.put_status.store(status, Ordering::SeqCst);
    }

    /// The requests so far: method, path, range.
    pub fn log(&self) -> Vec<String> {
        self.0.log.lock().unwrap().clone()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.0.port));
    }
}

struct Asked {
    method: String,
    path: String,
    range: Option<String>,
    if_range: Option<String>,
    length: u64,
    expects: bool,
}

impl State {
    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut input = BufReader::new(stream.try_clone()?);
        let asked = asked(&mut input)?;
        let range = asked.range.as_deref().unwrap_or("-");
        self.log.lock().unwrap().push(format!("{} {} {range}", asked.method, asked.path));
        if asked.method == "PUT" {
            return self.take(&asked, input, stream);
        }
        self.send(&asked, stream)
    }

    fn take(&self, asked: &Asked, input: BufReader<TcpStream>, mut stream: TcpStream) -> std::io::Result<()> {
        if asked.expects {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut content = Vec::new();
        input.take(asked.length).read_to_end(&mut content)?;
        let status = self.put_status.load(Ordering::SeqCst);
        if status < 300 {
            fs::write(self.folder.join(asked.path.trim_start_matches('/')), content)?;
        }
        let head = format!("HTTP/1.1 {status} Said\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes())
    }

    fn send(&self, asked: &Asked, mut stream: TcpStream) -> std::io::Result<()> {
        let path = self.folder.join(asked.path.trim_start_matches('/'));
        let (Ok(content), Ok(meta)) = (fs::read(&path), fs::metadata(&path)) else {
            return stream
                .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        };
        let tag = format!("\"{}-{}-{}\"", meta.len(), meta.mtime_nsec(), meta.ino());
        let same = asked.if_range.as_ref().is_none_or(|wanted| *wanted == tag);
        let range = asked.range.as_deref().filter(|_| same).and_then(|range| bounds(range, content.len()));
        let common = format!("ETag: {tag}\r\nAccept-Ranges: bytes\r\nConnection: close\r\n");
        let (head, body) = match range {
            Some((from, to)) => {
                let head = format!(
                    "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{}\r\nContent-Length: {}\r\n{common}\r\n",
                    to - 1,
                    content.len(),
                    to - from
                );
                (head, &content[from..to])
            }
            None => (
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{common}\r\n", content.len()),
                &content[..],
            ),
        };
        stream.write_all(head.as_bytes())?;
        if asked.method == "HEAD" {
            return Ok(());
        }
        body.chunks(64 << 10).try_for_each(|piece| self.piece(piece, &mut stream))
    }

    fn piece(&self, piece: &[u8], stream: &mut TcpStream) -> std::io::Result<()> {
        let left = self.budget.load(Ordering::SeqCst);
        if left >= 0 && self.budget.fetch_sub(piece.len() as i64, Ordering::SeqCst) < piece.len() as i64 {
            self.budget.store(0, Ordering::SeqCst);
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        thread::sleep(Duration::from_millis(self.pause.load(Ordering::SeqCst).into()));
        stream.write_all(piece)
    }
}

fn asked(input: &mut impl BufRead) -> std::io::Result<Asked> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.split('?').next().unwrap_or_default().to_owned();
    let mut asked = Asked { method, path, range: None, if_range: None, length: 0, expects: false };
    loop {
        let mut line = String::new();
        input.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(asked) };
        let value = value.trim().to_owned();
        match name.to_ascii_lowercase().as_str() {
            "range" => asked.range = Some(value),
            "if-range" => asked.if_range = Some(value),
            "content-length" => asked.length = value.parse().unwrap_or(0),
            "expect" => asked.expects = true,
            _ => {}
        }
    }
}

fn bounds(range: &str, length: usize) -> Option<(usize, usize)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let from: usize = from.parse().ok()?;
    let to = to.parse().map_or(length, |to: usize| (to + 1).min(length));
    (from < to).then_some((from, to))
}
