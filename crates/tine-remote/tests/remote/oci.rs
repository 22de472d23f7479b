//! Artifacts at Debian's docker-registry, and at registries that lie.

use crate::{
    bad_server::{BadServer, send, send_all},
    setup::{
        MIB, Memory, Server, content, fetch, file_of, free_port, has, quick, request as download_of, sha256,
        wait_for_port,
    },
};
use std::{
    fs,
    process::{Command, Stdio},
};
use tempfile::TempDir;
use tine_model::ErrorCode;
use tine_remote::{Beside, Download, Location, Remote, RemoteConfig, RemoteError, UploadRequest, Uploaded};

struct Registry {
    _server: Server,
    port: u16,
    dir: TempDir,
}

impl Registry {
    fn start(auth: &str) -> Option<Self> {
        if !has("docker-registry") {
            return None;
        }
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let at = dir.path().display();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {at}/data}}}}\n\
            http: {{addr: '127.0.0.1:{port}'}}\n{}",
            auth.replace("DIR", &at.to_string())
        );
        fs::write(dir.path().join("conf.yml"), config).unwrap();
        // of "me" and "secret"
        fs::write(dir.path().join("htpasswd"), HTPASSWD).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(dir.path().join("conf.yml")).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Server(command.spawn().unwrap());
        wait_for_port(port);
        Some(Self { _server: server, port, dir })
    }

    fn url(&self, rest: &str) -> String {
        format!("oci://127.0.0.1:{}/{rest}", self.port)
    }
}

const HTPASSWD: &str = "me:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

fn push(config: RemoteConfig, url: &str, data: &[u8]) -> Result<Uploaded, RemoteError> {
    let file = file_of(data);
    let location = Location::parse(url).unwrap();
    let request = UploadRequest {
        file: file.as_file(),
        size: data.len() as u64,
        sha256: None,
        name: "numpy.tine.tar.zst",
        content_type: "application/zstd",
        location: &location,
        journal: None,
        beside: &[],
    };
    Remote::new(config).unwrap().upload(request, &Memory::default())
}

#[test]
fn what_is_pushed_is_pulled_by_ranges_and_not_pushed_twice() {
    let Some(registry) = Registry::start("") else { return };
    let data = content(17 * MIB + 5, 1);
    let url = registry.url("tine/numpy:1.0");
    let done = push(quick(), &url, &data).unwrap();
    assert_eq!((done.sent, done.reused), (data.len() as u64, 0));
    let dir = tempfile::tempdir().unwrap();
    let pulled = fetch(&url, dir.path()).unwrap();
    assert!(fs::read(&pulled.path).unwrap() == data);
    assert_eq!(pulled.stats.streams, 4);
    pulled.check_digest().unwrap();
    let by_digest = registry.url(&format!("tine/numpy@{}", done.etag.as_deref().unwrap()));
    assert_eq!(fetch(&by_digest, dir.path()).unwrap().stats.fetched, 0);
    let again = push(quick(), &registry.url("tine/numpy:latest"), &data).unwrap();
    assert_eq!((again.sent, again.reused, again.etag), (0, data.len() as u64, done.etag));
    let remote = Remote::new(quick()).unwrap();
    let head = |rest: &str| remote.head(&Location::parse(&registry.url(rest)).unwrap()).unwrap();
    assert_eq!(head("tine/numpy:latest").unwrap().size, Some(data.len() as u64));
    assert_eq!(head("tine/numpy:none"), None);
    assert!(registry.dir.path().join("data").exists());
}

#[test]
fn what_belongs_beside_a_file_is_in_the_same_artifact() {
    let Some(registry) = Registry::start("") else { return };
    let (data, disk) = (content(2 * MIB, 1), content(9 * MIB + 3, 2));
    let (file, disk_file) = (file_of(&data), file_of(&disk));
    let location = Location::parse(&registry.url("tine/side:1.0")).unwrap();
    let beside = [Beside { file: disk_file.as_file(), size: disk.len() as u64, name: "0123.rootfs.zst" }];
    let request = UploadRequest {
        file: file.as_file(),
        size: data.len() as u64,
        sha256: None,
        name: "side.tar.zst",
        content_type: "application/zstd",
        location: &location,
        journal: None,
        beside: &beside,
    };
    let remote = Remote::new(quick()).unwrap();
    let done = remote.upload(request, &Memory::default()).unwrap();
    assert_eq!((done.sent, done.reused), ((data.len() + disk.len()) as u64, 0));
    let again = remote.upload(request, &Memory::default()).unwrap();
    assert_eq!((again.sent, again.reused, again.etag), (0, done.sent, done.etag));
    let fetched = |location: &Location| {
        let dir = tempfile::tempdir().unwrap();
        let download = Download::start(&remote, download_of(location, dir.path()), &Memory::default())?;
        download.finish(&Memory::default()).map(|finished| fs::read(&finished.path).unwrap())
    };
    assert!(fetched(&location).unwrap() == data);
    assert!(fetched(&location.sibling("0123.rootfs.zst").unwrap()).unwrap() == disk);
    let none = fetched(&location.sibling("4567.rootfs.zst").unwrap()).unwrap_err();
    assert_eq!(none.code(), ErrorCode::NotFound);
}

#[test]
fn a_registry_with_a_password_wants_it() {
    let Some(registry) = Registry::start("auth: {htpasswd: {realm: r, path: DIR/htpasswd}}\n") else {
        return;
    };
    let (data, url) = (content(MIB, 1), registry.url("a/b:c"));
    assert_eq!(push(quick(), &url, &data).unwrap_err().code(), ErrorCode::Unauthorized);
    let docker = tempfile::tempdir().unwrap();
    // base64 of "me:secret"
    let text = format!(r#"{{"auths":{{"127.0.0.1:{}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#, registry.port);
    fs::write(docker.path().join("config.json"), text).unwrap();
    let env = vec![("DOCKER_CONFIG".to_owned(), docker.path().display().to_string())];
    push(RemoteConfig { env: env.clone(), ..quick() }, &url, &data).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = RemoteConfig { env, ..quick() };
    let done = crate::setup::fetch_with(config, &url, dir.path(), &Memory::default()).unwrap();
    assert!(fs::read(&done.path).unwrap() == data);
    assert_eq!(fetch(&url, tempfile::tempdir().unwrap().path()).unwrap_err().code(), ErrorCode::Unauthorized);
}

const LAYER: &str = "application/vnd.tine.pack.v1.tar+zstd";

#[test]
fn registries_that_lie_are_refused() {
    let data = content(MIB, 1);
    let digest = sha256(&data);
    let server = BadServer::start(move |r, s| match r.path.as_str() {
        "/v2/flood/manifests/x" => {
            send(s, "200 OK", "", b"");
            while std::io::Write::write_all(s, &[b' '; 65536]).is_ok() {}
        }
        "/v2/image/manifests/x" => send_all(s, "200 OK", "", br#"{"layers":[]}"#),
        "/v2/token/manifests/x" => {
            let asked = "WWW-Authenticate: Bearer realm=\"http://10.0.0.1/t\"\r\n";
            send_all(s, "401 Unauthorized", asked, b"");
        }
        "/v2/wrong/manifests/x" => {
            let layer = format!(r#"{{"mediaType":"{LAYER}","digest":"sha256:{digest}","size":{MIB}}}"#);
            send_all(s, "200 OK", "", format!(r#"{{"layers":[{layer}]}}"#).as_bytes());
        }
        path if path.starts_with("/v2/wrong/blobs/") => {
            // another content of the right length
            crate::bad_server::serve(r, s, &content(MIB, 2), "\"a\"");
        }
        _ => send_all(s, "404 Not Found", "", b""),
    });
    let dir = tempfile::tempdir().unwrap();
    let pull = |name: &str| fetch(&format!("oci://127.0.0.1:{}/{name}:x", server.port()), dir.path());
    assert_eq!(pull("flood").unwrap_err().code(), ErrorCode::TooLarge);
    assert_eq!(pull("image").unwrap_err().code(), ErrorCode::InvalidInput);
    assert_eq!(pull("token").unwrap_err().code(), ErrorCode::InvalidInput);
    assert_eq!(pull("none").unwrap_err().code(), ErrorCode::NotFound);
    assert!(pull("wrong").unwrap().check_digest().is_err());
}
