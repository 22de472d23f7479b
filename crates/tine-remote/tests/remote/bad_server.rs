//! A server that does what a test tells it, down to the byte. One request for each connection.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub head: String,
    /// What of the body came with the head.
    pub early: Vec<u8>,
    /// How many came before.
    pub number: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    /// The range asked for, its end exclusive.
    pub fn range(&self) -> Option<(u64, u64)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().unwrap(), last.parse::<u64>().unwrap() + 1))
    }

    /// The body, by its announced length.
    pub fn body(&self, stream: &mut TcpStream) -> Vec<u8> {
        let length: usize = self.header("content-length").unwrap_or("0").parse().unwrap();
        let mut body = self.early.clone();
        let had = body.len();
        body.resize(length, 0);
        stream.read_exact(&mut body[had..]).unwrap();
        body
    }
}

/// Ends with its drop.
pub struct BadServer {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl BadServer {
    pub fn start(answer: impl Fn(&Request, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (requests, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (seen, over, answer) = (Arc::clone(&requests), Arc::clone(&stop), Arc::new(answer));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(mut stream), seen, answer) = (stream, Arc::clone(&seen), Arc::clone(&answer)) else {
                    continue;
                };
                std::thread::spawn(move || {
                    let Some(mut request) = read_request(&mut stream) else { return };
                    let mut seen = seen.lock().unwrap();
                    request.number = seen.len();
                    seen.push(request.clone());
                    drop(seen);
                    answer(&request, &mut stream);
                });
            }
        });
        Self { port, requests, stop, thread: Some(thread) }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
    pub fn port(&self) -> u16 {
        self.port
    }
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for BadServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(end) = text.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8(text[..end].to_vec()).ok()?;
            let mut words = head.split(' ').map(str::to_owned);
            let (method, path) = (words.next()?, words.next()?);
            return Some(Request { method, path, head, early: text[end + 4..].to_vec(), number: 0 });
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(n) => text.extend_from_slice(&buffer[..n]),
        }
    }
}

/// Sends an answer; who has gone away meanwhile is not waited for.
pub fn send(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

/// Sends all with a length.
pub fn send_all(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    send(stream, status, &format!("Content-Length: {}\r\n{headers}", body.len()), body);
}

/// What a good server answers: a range where one is asked for, of the version that is asked for.
pub fn serve(request: &Request, stream: &mut TcpStream, data: &[u8], tag: &str) {
    let tagged = format!("ETag: {tag}\r\n");
    let current = request.header("if-range").is_none_or(|wanted| wanted == tag);
    match request.range() {
        Some((first, _)) if current && first >= data.len() as u64 => {
            send_all(stream, "416 Range Not Satisfiable", &tagged, b"");
        }
        Some((first, end)) if current => {
            let end = end.min(data.len() as u64);
            let headers = format!("{tagged}Content-Range: bytes {first}-{}/{}\r\n", end - 1, data.len());
            send_all(stream, "206 Partial Content", &headers, &data[first as usize..end as usize]);
        }
        _ => {
            let body = if request.method == "HEAD" { &[] } else { data };
            send(stream, "200 OK", &format!("Content-Length: {}\r\n{tagged}", data.len()), body);
        }
    }
}
