//! `doctor`: looks at everything Tine needs of the host, and says what mends what is missing.

use crate::{LocalEngine, machine::Runner, tool};
use std::{path::Path, process::Command, time::Duration};
use tine_model::{Accel, BuildEngine, ByteSize, CheckRequest, CheckStatus, DoctorItem, DoctorReport, Silent};
use tine_store::Pool;

/// Below this a pool is said to run full.
const LITTLE_SPACE: u64 = 1 << 30;
/// The oldest kernel whose interfaces Tine uses: `mount_setattr(2)` and `clone3(2)` into a cgroup.
const OLDEST_KERNEL: (u32, u32) = (5, 14);

/// Looks at the host from the kernel up to the pool.
pub fn run(engine: &LocalEngine) -> DoctorReport {
    let mut items = vec![user(), kernel(), btrfs(), cgroups()];
    items.extend([
        program("mkfs.btrfs", CheckStatus::Failed, "btrfs-progs", "makes pools"),
        program("mmdebstrap", CheckStatus::Warning, "mmdebstrap", "makes the base box-base"),
        program("mkfs.ext4", CheckStatus::Warning, "e2fsprogs", "makes the disks of vm boxes"),
        engines(),
    ]);
    items.extend(machines(engine));
    items.extend(tine_machine::net::doctor());
    items.extend(pool(engine));
    DoctorReport { healthy: items.iter().all(|item| item.status != CheckStatus::Failed), items }
}

fn item(name: &str, status: CheckStatus, detail: impl Into<String>, mend: Option<&str>) -> DoctorItem {
    DoctorItem { name: name.to_owned(), status, detail: detail.into(), mend: mend.map(str::to_owned) }
}

fn user() -> DoctorItem {
    if rustix::process::geteuid().is_root() {
        return item("user", CheckStatus::Ok, "root", None);
    }
    item(
        "user",
        CheckStatus::Failed,
        "not root, who alone can mount and make containers",
        Some("sudo tine doctor"),
    )
}

fn kernel() -> DoctorItem {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    match version(&release) {
        Some(found) if found >= OLDEST_KERNEL => item("kernel", CheckStatus::Ok, release, None),
        _ => {
            let (major, minor) = OLDEST_KERNEL;
            let detail = format!("{release} is older than {major}.{minor}");
            item("kernel", CheckStatus::Failed, detail, Some("boot a newer kernel"))
        }
    }
}

/// Major and minor number at the start of a kernel release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn btrfs() -> DoctorItem {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !known.lines().any(|line| line.trim_start().starts_with("btrfs")) {
        return item("btrfs", CheckStatus::Failed, "the kernel does not know btrfs", Some("modprobe btrfs"));
    }
    if Path::new("/sys/fs/btrfs/features/simple_quota").exists() {
        return item("btrfs", CheckStatus::Ok, "with simple quotas, so create --disk works", None);
    }
    item(
        "btrfs",
        CheckStatus::Warning,
        "without simple quotas: create --disk is refused",
        Some("a kernel from 6.7 on"),
    )
}

fn cgroups() -> DoctorItem {
    match tine_machine::cgroup::describe() {
        Ok(layout) => item("cgroups", CheckStatus::Ok, layout, None),
        Err(error) => {
            item("cgroups", CheckStatus::Failed, error.to_string(), Some("mount cgroup2 at /sys/fs/cgroup"))
        }
    }
}

fn program(name: &str, missing: CheckStatus, package: &str, purpose: &str) -> DoctorItem {
    let found = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/bin", "/usr/local/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists());
    match found {
        Some(path) => item(name, CheckStatus::Ok, path.display().to_string(), None),
        None => item(
            name,
            missing,
            format!("not installed; {purpose}"),
            Some(&format!("apt-get install {package}")),
        ),
    }
}

fn engines() -> DoctorItem {
    let answers = |engine: &BuildEngine| {
        let mut ask = Command::new(engine.program());
        tool::capture(ask.arg("info"), "ask", Duration::from_secs(10)).is_ok()
    };
    let found: Vec<&str> = BuildEngine::ALL.iter().filter(|e| answers(e)).map(|e| e.program()).collect();
    if found.is_empty() {
        let detail = "none of docker, podman, nerdctl answers; base build needs one";
        return item("engines", CheckStatus::Warning, detail, Some("apt-get install podman"));
    }
    item("engines", CheckStatus::Ok, found.join(", "), None)
}

/// QEMU, the kernel that machines boot, and what runs a guest's instructions here.
fn machines(engine: &LocalEngine) -> Vec<DoctorItem> {
    let pool = engine.pool().ok();
    let kernel = pool.as_ref().and_then(|pool| pool.default_kernel(&Silent).ok());
    let runner = match Runner::find(engine, kernel.as_ref()) {
        Ok(runner) => runner,
        Err(error) => {
            let detail = format!("{}; vm boxes need it", error.message);
            return vec![item("qemu", CheckStatus::Warning, detail, error.hint.as_deref())];
        }
    };
    let (program, version) = (runner.engine.program.display(), &runner.engine.version);
    let qemu = item("qemu", CheckStatus::Ok, format!("{program} {version}"), None);
    let kernel = match &kernel {
        Some(kernel) => item("guest kernel", CheckStatus::Ok, kernel.name.to_string(), None),
        None => item(
            "guest kernel",
            CheckStatus::Warning,
            "none in the pool; vm boxes boot one",
            Some("tine kernel install"),
        ),
    };
    vec![qemu, kernel, acceleration(&runner)]
}

fn acceleration(runner: &Runner) -> DoctorItem {
    match &runner.probe {
        Some(probe) if probe.accel == Accel::Kvm => {
            item("acceleration", CheckStatus::Ok, format!("kvm: {}", probe.reason), None)
        }
        Some(probe) => {
            let detail = format!("tcg, several times slower than kvm: {}", probe.reason);
            item("acceleration", CheckStatus::Warning, detail, None)
        }
        None => item("acceleration", CheckStatus::Warning, "not known before there is a guest kernel", None),
    }
}

fn pool(engine: &LocalEngine) -> Vec<DoctorItem> {
    let root = &engine.config.root;
    let pool = match engine.pool() {
        Ok(pool) => pool,
        Err(error) => return vec![item("pool", CheckStatus::Failed, error.message, error.hint.as_deref())],
    };
    let lies = match pool.image_file() {
        Some(image) => format!("{} in {}", root.display(), image.display()),
        None => format!("{} in place", root.display()),
    };
    vec![item("pool", CheckStatus::Ok, lies, None), space(&pool), store(&pool)]
}

fn space(pool: &Pool) -> DoctorItem {
    match pool.space() {
        Ok(space) if space.available < LITTLE_SPACE => {
            let detail = format!("{} free", ByteSize(space.available));
            item("space", CheckStatus::Warning, detail, Some("tine gc, tine snapshot prune"))
        }
        Ok(space) => item("space", CheckStatus::Ok, format!("{} free", ByteSize(space.available)), None),
        Err(error) => item("space", CheckStatus::Failed, error.to_string(), None),
    }
}

fn store(pool: &Pool) -> DoctorItem {
    match pool.check(&CheckRequest::default(), &Silent) {
        Ok(report) if report.problems.is_empty() => {
            item("store", CheckStatus::Ok, format!("{} objects checked", report.checked), None)
        }
        Ok(report) => item(
            "store",
            CheckStatus::Failed,
            format!("{} problems", report.problems.len()),
            Some("tine check"),
        ),
        Err(error) => item("store", CheckStatus::Failed, error.to_string(), Some("tine check")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_read_by_their_first_two_numbers() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("6.18.44-fc"), Some((6, 18)));
        assert_eq!(version("odd"), None);
        assert!(Some((5, 4)) < Some(OLDEST_KERNEL) && Some((6, 0)) >= Some(OLDEST_KERNEL));
    }
}
