//! Keys and signatures of the `minisign` tool here, and ours there.

use crate::support::{Case, NOW};
use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};
use tine_hub::{HubUrl, RegistryCheck, SeenStore};
use tine_model::{KeyName, Timestamp, TrustPolicy};

/// Made by minisign 0.11: `minisign -G -W`, and of the bytes `a registry\n` `minisign -S -t 'of the tool'` and, with
/// `-l`, the old kind.
const PUBLIC: &str = "untrusted comment: minisign public key B945D3AD5A533E7D
RWR9PlNardNFucDfY5pCJcKeinZpbLz34sejwDHseWNWNfey6Rc6CWZ4
";
const DATA: &[u8] = b"a registry\n";
const SIGNATURE: &str = "untrusted comment: signature from minisign secret key
RUR9PlNardNFuaW3C4QRHPQEKihZSq9AlpgI3ruqVcUvrJ9fGEwGrv74kfi3euGMkWHqmb1LfU2MlXfpC4O9OP9WNu4RX6Nvxgg=
trusted comment: of the tool
zB4Q/8mRvybj0Tp32DTP/I/YgC8fn0g2s/+wEI8qGlnHloAEHlg6I/RExRPV9c7PKkji0Xb5t7GnuQCQnX7NBw==
";
const OLD_SIGNATURE: &str = "untrusted comment: signature from minisign secret key
RWR9PlNardNFuSXHmkNoxqn+Ww0DZ1y17rEUKXE/7gE/aqA0lNfA4HslwL9FByYz4j8jbftPVqgcvVHwEkd0IjkEBvqkaJJ//AQ=
trusted comment: old
RNtFYi39AsgYoenPeKVfnqa99o6FtGO1BiCpGb6Co8gMgqUqY2ineyZNED9cGhHLN/pC/oV1dhr2YlbiNEC/DQ==
";

#[test]
fn a_signature_of_the_tool_is_verified() {
    let case = Case::new();
    let name: KeyName = "tool".parse().unwrap();
    assert_eq!(case.keys.trust(&name, PUBLIC).unwrap().key_id.to_string(), "B945D3AD5A533E7D");
    let by = case.keys.verify(DATA, SIGNATURE).unwrap();
    assert_eq!((by.name, by.trusted_comment.as_str()), (name, "of the tool"));
    assert!(case.keys.verify(b"another\n", SIGNATURE).is_err());
    let error = case.keys.verify(DATA, OLD_SIGNATURE).unwrap_err().to_string();
    assert!(error.contains("old kind"), "{error}");
}

#[test]
fn the_tool_verifies_a_hub_and_signs_with_its_key() {
    if !tool_is_there() {
        return;
    }
    let case = Case::new();
    let hub = case.init_signed();
    case.add(&hub, "v1", "one").unwrap();
    let key = case.keys.list().unwrap().remove(0);
    // two signatures lie in the file: the tool reads the first
    assert!(minisign(&case.hub_dir(), &["-V", "-P", &key.public_key, "-m", "registry.json"]));
    let secret = case.dir.path().join("keys/hub.key");
    let signs = ["-S", "-s", secret.to_str().unwrap(), "-t", "by hand", "-m", "registry.json"];
    assert!(minisign(&case.hub_dir(), &signs));
    let file = |name: &str| fs::read(case.hub_dir().join(name)).unwrap();
    let signature = String::from_utf8(file("registry.json.minisig")).unwrap();
    let (hub, seen): (HubUrl, _) =
        ("https://hub".parse().unwrap(), SeenStore::new(case.dir.path().join("seen")));
    let now = Timestamp::from_second(NOW);
    let check = RegistryCheck { policy: TrustPolicy::Require, keys: &case.keys, seen: &seen, hub: &hub, now };
    assert!(check.check(&file("registry.json"), Some(&signature)).unwrap().verdict.is_signed());
}

/// Skips loudly without the tool, and fails where `TINE_REQUIRE` asks for it.
fn tool_is_there() -> bool {
    let there =
        Command::new("minisign").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    let required = env::var("TINE_REQUIRE").is_ok_and(|all| all.split(',').any(|one| one == "minisign"));
    assert!(there || !required, "there is no program minisign");
    if !there {
        eprintln!("SKIPPED: there is no program minisign");
    }
    there
}

fn minisign(dir: &Path, arguments: &[&str]) -> bool {
    let mut command = Command::new("minisign");
    command.current_dir(dir).args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    command.status().unwrap().success()
}
