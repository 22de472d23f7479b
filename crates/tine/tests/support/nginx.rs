//! nginx over a folder, which says what it has sent.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::support::eventually;
use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A server; ends with this.
pub struct Nginx {
    child: Child,
    own: PathBuf,
    url: String,
}

impl Nginx {
    /// Serves `www`, with its own files in `own` and more lines for its `server`.
    pub fn of(www: &Path, own: &Path, extra: &str) -> Self {
        fs::create_dir_all(own).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (at, www) = (own.display(), www.display());
        let (ssl, scheme) = if extra.contains("ssl_certificate") { (" ssl", "https") } else { ("", "http") };
        let config = format!(
            "daemon off; user root; pid {at}/pid; error_log {at}/error.log; worker_processes 1;
            events {{}}
            http {{ log_format sent '$body_bytes_sent $request_method $uri $status'; access_log {at}/sent sent;
              client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f;
              uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;
              server {{ listen 127.0.0.1:{port}{ssl}; root {www}; {extra} }} }}"
        );
        fs::write(own.join("conf"), config).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-e").arg(own.join("error.log")).arg("-c").arg(own.join("conf"));
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        let nginx = Self { child, own: own.to_owned(), url: format!("{scheme}://127.0.0.1:{port}/") };
        eventually("nginx listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        nginx
    }

    /// The URL of the folder, or of a file in it.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// How many bytes of content it has sent so far of what ends so.
    pub fn sent(&self, ending: &str) -> u64 {
        let log = fs::read_to_string(self.own.join("sent")).unwrap();
        let words = log.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        words.filter(|words| words[2].ends_with(ending)).map(|words| words[0].parse::<u64>().unwrap()).sum()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // asked first: a server that is killed can't end its workers
        let asked = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(asked, rustix::process::Signal::TERM);
        for _ in 0..500 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes an authority (`ca.pem`) and a certificate of it for 127.0.0.1; gives the lines for a `server`.
pub fn certified(dir: &Path) -> String {
    let script = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN=test-ca
        openssl req -newkey rsa:2048 -nodes -keyout key.pem -out csr.pem -subj /CN=127.0.0.1
        printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' > ext
        openssl x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out cert.pem";
    let made = Command::new("sh").args(["-ec", script]).current_dir(dir).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let at = dir.display();
    format!("ssl_certificate {at}/cert.pem; ssl_certificate_key {at}/key.pem;")
}
