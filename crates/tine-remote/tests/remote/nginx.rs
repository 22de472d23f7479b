//! nginx as it comes: with ranges, without them, over TLS, restarted in the middle.

use crate::setup::{MIB, Memory, Server, content, fetch, fetch_with, free_port, has, quick, wait_for_port};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};
use tempfile::TempDir;
use tine_model::ErrorCode;
use tine_remote::{Location, Remote, RemoteConfig};

pub struct Nginx {
    _server: Server,
    port: u16,
    dir: TempDir,
}

impl Nginx {
    /// Serves `www` with more lines for its `server`; none when there is no nginx.
    pub fn start(extra: impl Fn(&Path) -> String) -> Option<Self> {
        if !has("/usr/sbin/nginx") {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("www")).unwrap();
        let at = dir.path().display();
        let (port, extra) = (free_port(), extra(dir.path()));
        let ssl = if extra.contains("ssl_certificate") { " ssl" } else { "" };
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let config = format!(
            "daemon off; {user} pid {at}/pid; error_log {at}/error.log; worker_processes 1;
            events {{}}
            http {{ access_log {at}/access.log; client_body_temp_path {at}/b; proxy_temp_path {at}/p;
              fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;
              server {{ listen 127.0.0.1:{port}{ssl}; root {at}/www; {extra} }} }}"
        );
        fs::write(dir.path().join("conf"), config).unwrap();
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-e").arg(dir.path().join("error.log")).arg("-c").arg(dir.path().join("conf"));
        let server = Server(command.stderr(Stdio::null()).spawn().unwrap());
        wait_for_port(port);
        Some(Self { _server: server, port, dir })
    }

    pub fn put(&self, name: &str, data: &[u8]) -> String {
        fs::write(self.dir.path().join("www").join(name), data).unwrap();
        format!("http://127.0.0.1:{}/{name}", self.port)
    }

    /// How many bytes of content it has sent, by its log, where each request stands once it is answered.
    pub fn sent(&self) -> u64 {
        let log = fs::read_to_string(self.dir.path().join("access.log")).unwrap();
        let bytes = |line: &str| line.split('"').nth(2)?.split_whitespace().nth(1)?.parse::<u64>().ok();
        log.lines().filter_map(bytes).sum()
    }
}

#[test]
fn with_ranges_four_streams_fetch_and_a_break_is_gone_on_from() {
    let Some(nginx) = Nginx::start(|_| "limit_rate 2m;".to_owned()) else { return };
    let data = content(20 * MIB, 1);
    let url = nginx.put("pack", &data);
    let dir = tempfile::tempdir().unwrap();
    let config = || RemoteConfig { block: MIB, sync_every: MIB, ..quick() };
    let memory = Memory { cancel_at: 8 * MIB, ..Memory::default() };
    assert_eq!(fetch_with(config(), &url, dir.path(), &memory).unwrap_err().code(), ErrorCode::Cancelled);
    let done = fetch_with(config(), &url, dir.path(), &Memory::default()).unwrap();
    assert!(fs::read(&done.path).unwrap() == data);
    assert!(done.stats.reused >= 6 * MIB && done.stats.streams == 4, "{:?}", done.stats);
    // a new version under the old name
    let memory = Memory { cancel_at: 12 * MIB, ..Memory::default() };
    let dir = tempfile::tempdir().unwrap();
    assert!(fetch_with(config(), &url, dir.path(), &memory).is_err());
    let newer = content(20 * MIB + 1, 2);
    nginx.put("pack", &newer);
    let memory = Memory::default();
    let done = fetch_with(config(), &url, dir.path(), &memory).unwrap();
    assert!(fs::read(&done.path).unwrap() == newer);
    assert!(memory.notes.lock().unwrap().iter().any(|note| note.contains("changed")));
}

#[test]
fn without_ranges_one_stream_fetches() {
    let Some(nginx) = Nginx::start(|_| "max_ranges 0;".to_owned()) else { return };
    let data = content(20 * MIB, 1);
    let url = nginx.put("pack", &data);
    let dir = tempfile::tempdir().unwrap();
    let done = fetch(&url, dir.path()).unwrap();
    assert!(fs::read(&done.path).unwrap() == data);
    assert_eq!(done.stats.streams, 1);
    let remote = Remote::new(quick()).unwrap();
    let head = remote.head(&Location::parse(&url).unwrap()).unwrap().unwrap();
    assert_eq!(head.size, Some(20 * MIB));
    let missing = Location::parse(&format!("{url}.minisig")).unwrap();
    assert_eq!((remote.head(&missing).unwrap(), remote.fetch_small(&missing, 1000).unwrap()), (None, None));
}

/// An authority and a certificate of its making for 127.0.0.1.
fn certificates(dir: &Path) {
    let script = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN=test-ca
        openssl req -newkey rsa:2048 -nodes -keyout key.pem -out csr.pem -subj /CN=127.0.0.1
        printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' > ext
        openssl x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out cert.pem";
    let made = Command::new("sh").args(["-ec", script]).current_dir(dir).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn tls_trusts_whom_it_is_told_to_and_never_goes_down_to_http() {
    if !has("openssl") {
        return;
    }
    let nginx = Nginx::start(|dir| {
        certificates(dir);
        let at = dir.display();
        format!(
            "ssl_certificate {at}/cert.pem; ssl_certificate_key {at}/key.pem;
            location /down {{ return 302 http://127.0.0.1:1/x; }}
            location /over {{ return 302 /pack; }}"
        )
    });
    let Some(nginx) = nginx else { return };
    let data = content(3 * MIB, 1);
    let url = nginx.put("pack", &data).replace("http:", "https:");
    let authority = nginx.dir.path().join("ca.pem").display().to_string();
    let trusting = || RemoteConfig { env: vec![("SSL_CERT_FILE".into(), authority.clone())], ..quick() };
    let dir = tempfile::tempdir().unwrap();
    let strangers = fetch(&url, dir.path()).unwrap_err();
    assert_eq!(strangers.code(), ErrorCode::Unreachable);
    assert!(strangers.to_string().contains("certificate"), "{strangers}");
    let over = url.replace("/pack", "/over");
    let done = fetch_with(trusting(), &over, dir.path(), &Memory::default()).unwrap();
    assert!(fs::read(&done.path).unwrap() == data);
    let down = url.replace("/pack", "/down");
    let dir = tempfile::tempdir().unwrap();
    let error = fetch_with(trusting(), &down, dir.path(), &Memory::default()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidInput);
    assert!(error.to_string().contains("https to http"), "{error}");
}

#[test]
fn a_proxy_is_used_and_passed_by_as_the_environment_says() {
    let data = content(100, 1);
    let proxy = crate::bad_server::BadServer::start(move |r, s| {
        assert!(r.path.starts_with("http://far.invalid/"), "{}", r.path);
        crate::bad_server::send_all(s, "200 OK", "", &data);
    });
    let env = |more: &[(&str, &str)]| {
        let own = [("HTTP_PROXY", proxy.url("/"))].map(|(k, v)| (k.to_owned(), v));
        own.into_iter().chain(more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))).collect()
    };
    let far = Location::parse("http://far.invalid/x").unwrap();
    let get = |env| Remote::new(RemoteConfig { env, retries: 0, ..quick() }).unwrap().fetch_small(&far, 1000);
    assert_eq!(get(env(&[])).unwrap().unwrap(), content(100, 1));
    assert_eq!(get(env(&[("NO_PROXY", "far.invalid")])).unwrap_err().code(), ErrorCode::Unreachable);
    assert_eq!(proxy.requests().len(), 1);
}
