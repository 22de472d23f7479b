//! The hubs and keys of the fixed world.

use super::{
    machines::{packed, unpacked},
    world::{name, time},
};
use std::fs::File;
use tine_model::*;

/// A pull of which some was here; of a URL without a version.
pub fn pulled(request: &PullImage) -> Result<PullReport> {
    let unpack = UnpackImage { tag: request.tag.clone(), force: request.force };
    let package = (!request.target.contains("://")).then(|| request.target.parse()).transpose()?;
    Ok(PullReport {
        unpacked: unpacked(&unpack, &mut std::io::empty())?,
        source: "https://hub.example.org/packs/numpy.tine.tar.zst".into(),
        package,
        fetched_bytes: ByteSize::mib(60),
        reused_bytes: ByteSize::mib(40),
    })
}

struct Nowhere;

impl NewFiles for Nowhere {
    fn create(&self, _: &str) -> Result<File> {
        let failed = |e: std::io::Error| Error::new(ErrorCode::Internal, e.to_string());
        File::options().write(true).open("/dev/null").map_err(failed)
    }
}

/// A push to wherever.
pub fn pushed(request: &PushImage) -> Result<PushReport> {
    let package = (!request.target.contains("://")).then(|| request.target.parse()).transpose()?;
    Ok(PushReport {
        pack: packed(&request.pack, &Nowhere)?,
        place: request.target.clone(),
        package,
        sent_bytes: ByteSize::mib(140),
        reused_bytes: ByteSize(0),
    })
}

/// A pack under the version that was asked for, or the next.
pub fn published(request: &AddToHub) -> PublishedPack {
    PublishedPack {
        package: request.package.package.clone(),
        version: request.package.version.clone().unwrap_or_else(|| VersionName::numbered(3)),
        unchanged: request.package.version.is_some(),
        url: "packs/tine/numpy/v3/numpy.tine.tar.zst".into(),
        sha256: Some(Sha256Digest([0x07; 32])),
        size_bytes: Some(ByteSize::mib(100)),
    }
}

/// A package.
pub fn hub_package() -> HubPackage {
    HubPackage {
        package: name("tine/python-numpy"),
        description: Some("numpy\x1b[2J imported".into()),
        version: Some(name("v3")),
        versions: 3,
        size_bytes: Some(ByteSize::mib(100)),
        memory_mib: Some(256),
        created_at: Some("2026-01-01T12:00:00Z".into()),
    }
}

/// A hub that is well, or not.
pub fn hub_check(bad: bool) -> HubCheck {
    let fault = HubFault { what: "tine/python-numpy@v1".into(), why: "its pack is not there".into() };
    HubCheck {
        packages: 1,
        versions: 3,
        files: 3,
        bytes: ByteSize::mib(300),
        elsewhere: 0,
        problems: if bad { vec![fault] } else { Vec::new() },
        unreferenced: vec!["packs/odd".into()],
    }
}

/// A key.
pub fn key(name: &KeyName, can_sign: bool) -> KeyInfo {
    KeyInfo {
        name: name.clone(),
        key_id: KeyId([1, 2, 3, 4, 5, 6, 7, 8]),
        public_key: "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3".into(),
        can_sign,
        added_at: time(),
        revoked_at: None,
    }
}
