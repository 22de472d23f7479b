//! The client of Google's store before an S3 server that asks for no signature: both speak the same XML, of objects, ranges,
//! parts and lists. What only Google's own has, its logins and generations, is not tried here.

use crate::{
    s3::S3,
    setup::{KIB, MIB, Memory, content, fetch_with, file_of, quick},
};
use std::fs;
use tine_remote::{Location, Over, Remote, RemoteConfig, UploadRequest};

const URL: &str = "gs://hub/tine/numpy.tar.zst";
/// Of an account that does not log in, as emulators of that store want it.
const ACCOUNT: &str =
    r#"{"private_key": "", "private_key_id": "", "client_email": "", "disable_oauth": true}"#;

fn config(server: &S3) -> RemoteConfig {
    let env = [
        ("GOOGLE_BASE_URL", &*format!("http://127.0.0.1:{}", server.port)),
        ("GOOGLE_SERVICE_ACCOUNT_KEY", ACCOUNT),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    RemoteConfig { env, block: 512 * KIB, ..quick() }
}

fn at(url: &str) -> Location {
    Location::parse(url).unwrap()
}

fn request<'a>(file: &'a fs::File, location: &'a Location) -> UploadRequest<'a> {
    UploadRequest {
        file,
        size: file.metadata().unwrap().len(),
        sha256: None,
        name: "numpy.tar.zst",
        content_type: "application/zstd",
        location,
        journal: None,
        beside: &[],
    }
}

#[test]
fn a_file_goes_there_in_parts_and_comes_back_by_ranges() {
    let server = S3::start_for(None);
    let data = content(23 * MIB + 9, 1);
    let (file, location) = (file_of(&data), at(URL));
    let remote = Remote::new(config(&server)).unwrap();
    let done = remote.upload(request(file.as_file(), &location), &Memory::default()).unwrap();
    assert_eq!((done.sent, done.reused), (data.len() as u64, 0));
    assert!(fs::read(server.dir.path().join("hub/tine/numpy.tar.zst")).unwrap() == data);
    let dir = tempfile::tempdir().unwrap();
    let pulled = fetch_with(config(&server), URL, dir.path(), &Memory::default()).unwrap();
    assert!(fs::read(&pulled.path).unwrap() == data);
    assert!(pulled.stats.streams > 1, "{:?}", pulled.stats);
    assert_eq!(remote.head(&location).unwrap().unwrap().size, Some(data.len() as u64));
    assert_eq!(remote.head(&at("gs://hub/none")).unwrap(), None);
}

#[test]
fn small_objects_are_put_listed_and_deleted() {
    let server = S3::start_for(None);
    let remote = Remote::new(config(&server)).unwrap();
    let here = at("gs://hub/o/registry.json");
    remote.put_object(&here, &b"{}".to_vec().into(), Over::Anything).unwrap();
    assert_eq!(&*remote.fetch_object(&here, 10).unwrap().unwrap().0, b"{}");
    let listed = remote.list_objects(&at("gs://hub/o/")).unwrap();
    assert_eq!(
        listed.iter().map(|one| (one.name.as_str(), one.size)).collect::<Vec<_>>(),
        [("registry.json", 2)]
    );
    remote.delete_object(&here).unwrap();
    assert_eq!(remote.fetch_object(&here, 10).unwrap().map(|there| there.0), None);
}
